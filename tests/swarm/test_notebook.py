"""The researchers' notebook, its cells run as they stand against a real coordinator, but for the one that installs."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "researchers.ipynb"


def list_cells() -> list[str]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_its_first_cell_to_a_forest_plot(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWARM_COORDINATOR_URL", url)
    mpl.use("agg")
    install, *cells = list_cells()
    assert install.startswith("%pip install") and len(cells) > 5
    known: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), known)
    for picture in ("forest.png", "curves.png"):
        assert (tmp_path / picture).stat().st_size > 5_000
    assert len(known["best"]) == 10 and len(known["tried"]) > 1
    assert "tried" in known["answer"].lower()
    known["client"].__exit__()
    known["plt"].close("all")


def test_the_notebook_holds_no_output() -> None:
    """A stored output would be a number that no command printed of late."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
