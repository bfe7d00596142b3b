"""worker/agents/edits.py: where an edit is applied, and where it is sent back. The corpus in `replies/` has more."""

import pytest

from worker.agents.edits import Edit, EditError, WholeFile, apply_changes, apply_edits

SOURCE = "def f(x):\n    if x:\n        return 1\n    return 2\n\n\ndef g(x):\n    return 2\n"


def change(search: str, replace: str, source: str = SOURCE, file: str = "train.py") -> str:
    return apply_edits([Edit(file=file, search=search, replace=replace)], {"train.py": source})["train.py"]


@pytest.mark.parametrize(
    ("search", "replace"),
    [
        ("if x:\n    return 1", "if x:\n    return 3"),
        ("```python\n    if x:\n        return 1\n```", "```python\n    if x:\n        return 3\n```"),
        ("2:     if x:\n3:         return 1", "2:     if x:\n3:         return 3"),
        ("        if x:   \n            return 1\n", "        if x:\n            return 3\n"),
        ("    if x:\\n        return 1", "    if x:\\n        return 3"),
    ],
)
def test_lines_are_found_as_models_quote_them(search: str, replace: str) -> None:
    assert change(search, replace) == SOURCE.replace("1", "3")


@pytest.mark.parametrize("search", ["return 2", "    return 2\n", "  return 2  ", "return 9", "1: return 2"])
def test_what_is_there_twice_or_never_is_sent_back(search: str) -> None:
    with pytest.raises(EditError, match="it must occur exactly once"):
        change(search, "return 3")


def test_code_that_looks_like_what_is_stripped_stays() -> None:
    source = "QUOTE = '“'\nTEXT = '1: a\\\\n2: b'\nFENCE = '```'\n"
    assert change("QUOTE = '“'", "QUOTE = '”'", source) == source.replace("“", "”")
    assert change("TEXT = '1: a\\\\n2: b'", "TEXT = ''", source) == source.replace("1: a\\\\n2: b", "")
    whole = apply_changes([], [WholeFile(file="train.py", text=source)], {"train.py": "A = 1\n"})
    assert whole == {"train.py": source}
    assert (
        apply_changes([], [WholeFile(file="t.txt", text="1: a\n3: b\n")], {"t.txt": "x\n"})["t.txt"] == "1: a\n3: b\n"
    )
    assert change("a\r\n", "b\r\n", "a\r\nc\r\n") == "b\r\nc\r\n"
    for earlier, sent in (("1. adam\n2. sgd\n", "1. adam\n2. muon\n"), ("a\\nb\n", "a\\nc\n")):
        assert apply_changes([], [WholeFile(file="t.txt", text=sent)], {"t.txt": earlier})["t.txt"] == sent


def test_a_file_is_found_by_the_end_of_its_path_and_never_guessed() -> None:
    base = {"src/a.py": "A = 1\n", "lib/a.py": "A = 1\n", "src/b.py": "A = 1\n"}
    for named, path in (("b.py", "src/b.py"), ("/swarm/work/lib/a.py", "lib/a.py")):
        assert apply_edits([Edit(file=named, search="1", replace="2")], base) == {path: "A = 2\n"}
    for named in ("a.py", "", "c.py"):
        with pytest.raises(EditError, match="is not an editable file"):
            apply_edits([Edit(file=named, search="1", replace="2")], base)
    with pytest.raises(EditError, match="is not an editable file"):  # but another file of the project
        apply_edits([Edit(file="harness/src/b.py", search="1", replace="2")], base, ["harness/src/b.py"])
    assert apply_changes([], [WholeFile(file="harness/src/b.py", text="B")], base, ["harness/src/b.py"]) == {
        "harness/src/b.py": "B"
    }
