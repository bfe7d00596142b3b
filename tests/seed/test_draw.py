"""Windows drawn in each run: how they overlap, their noise, and what a file wins that knows some of them."""

import numpy
import pytest
from harness.difficulty import ORDERS, describe_windows
from harness.draw import choose_count, draw_windows
from harness.prepare import cut_blocks, split
from harness.scorer import choose_windows

POOL, COUNT, LENGTH, VOCABULARY = 800, 50, 32, 64
DRAWS = 160


@pytest.fixture(scope="module")
def data() -> dict[str, numpy.ndarray]:
    """A validation file: windows of a text whose parts use more or fewer words, some of them sealed."""
    random = numpy.random.default_rng(3)
    words = random.permutation(numpy.repeat(random.integers(4, VOCABULARY, size=POOL + 200), 1))
    windows = (random.random((POOL + 200, LENGTH + 1)) ** 2 * words[:, None]).astype(numpy.uint16)
    byte_lengths = random.integers(1, 6, size=VOCABULARY)
    features = describe_windows(windows, windows[: POOL // 2].ravel(), byte_lengths)
    return {
        "windows": windows[:POOL], "features": features[:POOL], "byte_lengths": byte_lengths,
        "sealed_windows": windows[POOL:], "sealed_features": features[POOL:],
    }  # fmt: skip


@pytest.fixture(scope="module")
def drawn(data: dict[str, numpy.ndarray]) -> list[numpy.ndarray]:
    """The windows of DRAWS runs, of the seeds 0, 1, 2 and so on."""
    return [draw(data, seed) for seed in range(DRAWS)]


def draw(data: dict[str, numpy.ndarray], seed: int) -> numpy.ndarray:
    return draw_windows(data["features"], COUNT, numpy.random.default_rng(seed))


def losses(data: dict[str, numpy.ndarray]) -> numpy.ndarray:
    """The loss of each window for some model: most of it is the text's, some the model's own."""
    own = numpy.random.default_rng(9).normal(0, 0.2, POOL)
    return data["features"][:, 1] / LENGTH + own * data["features"][:, 1].std() / LENGTH


def test_runs_share_few_windows_and_the_same_seed_all(
    data: dict[str, numpy.ndarray], drawn: list[numpy.ndarray]
) -> None:
    windows = [set(one.tolist()) for one in drawn[:20]]
    assert {len(one) for one in windows} == {COUNT}
    shared = [len(a & b) for at, a in enumerate(windows) for b in windows[:at]]
    assert 2 < numpy.mean(shared) < 5  # 50 · 50 / 800 = 3.1 for independent draws
    assert draw(data, 5).tolist() == drawn[5].tolist() == sorted(drawn[5].tolist())


def test_each_window_is_equally_likely_and_the_mean_over_draws_is_the_pools(
    data: dict[str, numpy.ndarray], drawn: list[numpy.ndarray]
) -> None:
    times = numpy.bincount(numpy.concatenate(drawn), minlength=POOL)  # 10 on average, binomial
    assert times.min() >= 1 and times.max() <= 25
    assert numpy.square(times - 10).sum() / (10 * (1 - 1 / 16)) == pytest.approx(POOL, rel=0.2)  # chi-squared
    metric = losses(data)
    means = numpy.array([metric[one].mean() for one in drawn])
    assert abs(means.mean() - metric.mean()) < 4 * means.std() / DRAWS**0.5


def test_balance_takes_most_of_the_noise_away(data: dict[str, numpy.ndarray], drawn: list[numpy.ndarray]) -> None:
    metric, random = losses(data), numpy.random.default_rng(1)
    balanced = numpy.std([metric[one].mean() for one in drawn[:100]])
    plain = numpy.std([metric[random.choice(POOL, COUNT, replace=False)].mean() for _ in range(100)])
    assert balanced < 0.4 * plain


def test_sealed_windows_are_never_scored_without_the_key(data: dict[str, numpy.ndarray]) -> None:
    """By their tokens, since a scorer sees nothing else."""
    pool, sealed = ({tuple(one) for one in data[f"{name}windows"].tolist()} for name in ("", "sealed_"))
    assert not pool & sealed
    bytes_of_all = int(data["byte_lengths"][data["windows"][:, 1:]].sum())
    for number in range(10):
        key = f"{number:064x}"
        for is_sealed, allowed in ((False, pool), (True, sealed)):
            windows, mean_bytes = choose_windows(data, key, bytes_of_all // 16, is_sealed)
            assert {tuple(one) for one in windows.tolist()} <= allowed
            assert len(windows) == pytest.approx(COUNT, abs=3) and 0 < mean_bytes < 6 * LENGTH
    everything, _ = choose_windows(data, key, 10 * bytes_of_all, False)
    assert len(everything) == POOL


def test_knowledge_of_a_fixed_set_wins_there_and_not_on_drawn_windows(
    data: dict[str, numpy.ndarray], drawn: list[numpy.ndarray]
) -> None:
    """The file ships what lowers the loss of the windows it was chosen on by 0.5; a run scores few of these."""
    honest, fixed = losses(data), drawn[0]
    tuned = honest.copy()
    tuned[fixed] -= 0.5
    assert honest[fixed].mean() - tuned[fixed].mean() == pytest.approx(0.5)
    gains = [honest[one].mean() - tuned[one].mean() for one in drawn[1:60]]
    assert numpy.mean(gains) == pytest.approx(0.5 / 16, rel=0.3) and max(gains) < 0.1


def test_takes_blocks_evenly_and_loses_no_byte() -> None:
    text = b"".join(b"line %d of a text\n" % number for number in range(9000))
    blocks = cut_blocks(text)
    assert b"".join(blocks) == text and all(block.endswith(b"\n") for block in blocks)
    kept, taken = split(blocks, 35)
    assert sorted(kept + taken) == sorted(blocks) and not set(kept) & set(taken)
    places = [at for at, block in enumerate(blocks) if block in taken]
    assert len(taken) == len(blocks) * 35 // 100 and max(numpy.diff(places)) <= 3
    assert split(blocks, 0) == (blocks, [])


def test_easy_text_has_a_low_loss_for_counted_words() -> None:
    train = numpy.tile(numpy.arange(8, dtype=numpy.uint16), 500)
    easy, hard = numpy.arange(17) % 8, numpy.random.default_rng(0).integers(0, 16, 17)
    features = describe_windows(numpy.stack([easy, hard]).astype(numpy.uint16), train, numpy.ones(16, dtype=int))
    assert features.shape == (2, ORDERS + 1) and numpy.isfinite(features).all()
    assert features[0, 1] < 3 < 16 < features[1, 1]
    assert features[:, ORDERS].tolist() == [16, 16]


@pytest.mark.parametrize(("size", "count"), [(2, 2), (3, 2), (40, 39), (40, 40), (40, 2)])
def test_draws_of_any_size(size: int, count: int) -> None:
    features = numpy.random.default_rng(size).normal(size=(size, 4))
    for random in map(numpy.random.default_rng, range(20)):
        assert len(set(draw_windows(features, count, random).tolist())) == count
    flat = numpy.ones((size, 4))
    assert len(draw_windows(flat, count, numpy.random.default_rng(0))) == count
    assert choose_count(numpy.full(size, 10), 10 * count) == count
