"""The pages have the numbers that `bench_scoring --bounds` prints for the size that gpt's contract states."""

from pathlib import Path

from tests.bench.bench_scoring import (
    SEEDS,
    state_size,
    tabulate_bounds,
    tabulate_scatter_at_limit,
    tabulate_shipped_text,
)
from worker.authoring.local_run import read_tree
from worker.runs.validate import pack

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_have_the_bounds_that_the_command_prints() -> None:
    tree = read_tree(SEEDS / "gpt")
    sizes, contracts = {"gpt": state_size(tree)}, {"gpt": tree.contract}
    page = (DOCS / "metric.md").read_text()
    for table in (tabulate_bounds(sizes, contracts), tabulate_scatter_at_limit(sizes, contracts)):
        assert table.splitlines()[2] in page


def test_the_pages_and_the_contract_say_what_shipped_text_is_worth() -> None:
    page = (DOCS / "decisions/0027-knowledge-of-the-public-text.md").read_text()
    gpt, gpt_cpu = (read_tree(SEEDS / name) for name in ("gpt", "gpt-cpu"))
    row = tabulate_shipped_text({"gpt": state_size(gpt)}, {"gpt": gpt}, b"any").splitlines()[2]
    known = row.split(" | ")[:5]  # the text that the others need is downloaded
    assert " | ".join(known) in page
    assert f"{known[3]} bits per byte" in (SEEDS / "gpt/swarm.toml").read_text()
    taken = pack(b"".join(gpt_cpu.files[path].encode() for path in gpt_cpu.contract.files.editable))
    assert f"| gpt-cpu | 4,096 | {taken:,} | " in page
