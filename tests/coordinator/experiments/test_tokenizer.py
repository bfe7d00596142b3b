"""Words as they are stored and asked for."""

from coordinator.experiments.tokenizer import SNIPPET_CHARACTERS, find_best_part, list_terms, list_words


def test_a_number_is_one_word_however_it_is_written() -> None:
    assert list_words("0.40") == list_words(".4") == list_words("4e-1") == ["n0d4"]
    assert list_words("1e-08") == list_words("1e-8") != list_words("1e-9")
    assert list_words("2^16->2^15") == ["n2p16", "n2p15"]


def test_identifiers_fall_into_their_parts() -> None:
    assert list_words("WEIGHT_DECAY") == list_words("weight decay")
    assert set(list_words("squaredRelu")) > set(list_words("squared Relu"))
    assert list_words("h100 4x") == ["h100", "4x"]


def test_forms_of_a_word_and_abbreviations_meet() -> None:
    assert set(list_words("embeddings")) == set(list_words("embedding"))
    assert set(list_words("learning rate")) <= set(list_words("MATRIX_LR"))


def test_a_question_keeps_what_says_something() -> None:
    assert list_terms("Has anybody tried the weight decay of the weights?") == ["weight", "decay"]


def test_words_hold_nothing_that_a_query_language_could_read() -> None:
    words = list_words("""a" OR '1'='1' : * NEAR(x) \\ \u202e -- ;drop (é) 漢字 % :p""")
    assert all(character.isalnum() for word in words for character in word)


def test_the_part_that_answers_is_cut_out_and_marked() -> None:
    text = "Nothing of interest here. " * 30 + "The weight decay of embeddings matters." + " And so on." * 30
    name, part, marks = find_best_part([("claim", "short"), ("mechanism", text)], list_terms("decay of embeddings"))
    assert name == "mechanism" and len(part) <= SNIPPET_CHARACTERS
    assert [part[start:end] for start, end in marks] == ["decay", "embeddings"]


def test_without_a_fitting_word_the_first_field_is_shown() -> None:
    assert find_best_part([("claim", "short"), ("mechanism", "long")], ["nothing"]) == ("claim", "short", [])
