"""Names and devices of imported sessions."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.autoresearch.reading import ImportOptions, clean_metric, describe_hardware, read_material
from coordinator.autoresearch.tables import ResultsInvalidError
from tests.support.sessions import BRANCH, Session


@pytest.mark.parametrize(("name", "clean"), [("val_bpb", "val_bpb"), ("Acc @1 (%)", "acc_1"), ("99p", "metric_99p")])
def test_metrics_get_a_name_that_contracts_allow(name: str, clean: str) -> None:
    assert clean_metric(name) == clean


def make_options(**given: Any) -> ImportOptions:
    return ImportOptions(**({"repository": Path("x"), "branch": "b", "results": None, "hardware": "RTX 4090"} | given))


def test_what_is_not_known_of_a_device_is_not_claimed() -> None:
    assert (
        describe_hardware(make_options()).hardware_class
        == "RTX 4090 · memory unknown · cap unknown · torch ? · unknown"
    )
    known = make_options(hardware="H100 80GB", power_cap_watts=0, torch_version="2.9", precision="bfloat16")
    assert describe_hardware(known).hardware_class == "H100 80GB · 80 GiB · no cap · torch 2 · bfloat16"


@pytest.mark.parametrize(
    "given",
    [{"name": "Not A Name"}, {"name": ""}, {"hardware": " "}, {"hardware": "a\0b"}, {"torch_version": "x" * 99}],
)
def test_bad_names_are_refused_with_a_sentence(given: dict[str, str]) -> None:
    with pytest.raises(ResultsInvalidError, match="--") as error:
        read_material(make_options(**given), None, "")
    assert error.value.detail.endswith((".", "characters."))


def test_rows_follow_the_history_of_their_commits(tmp_path: Path) -> None:
    session = Session(tmp_path / "autoresearch", "value")
    for number in range(4):
        session.keep(f"{2 - number / 10}", f"DEPTH {number} to {number + 1}")
    header, *rows = session.results.read_text().splitlines(keepends=True)

    def load(*order: int) -> list[str]:
        session.results.write_text(header + "".join(rows[number] for number in order))
        options = make_options(repository=session.folder, branch=BRANCH, results=session.results)
        material = read_material(options, None, "")
        assert [step.row.metric for step in material.plan.steps] == [2.0, 1.9, 1.8, 1.7]
        assert "Direction: Less value is better" in " ".join(material.account), "which only the order tells"
        return [line for line in material.account if line.startswith("Order: ")]

    assert load(0, 1, 2, 3) == []
    assert load(3, 2, 1, 0) == ["Order: the newest row stands first, so the rows are read from the last one up."]
    with pytest.raises(ResultsInvalidError, match="line 2 stands before line 3, upon whose commit its own was made"):
        load(3, 1, 2, 0)
