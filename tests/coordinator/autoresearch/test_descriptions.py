"""Axis, direction and value, out of free text."""

import pytest

from coordinator.autoresearch.plan import Change, read_change
from shared.experiments import AxisDirection


@pytest.mark.parametrize(
    ("description", "axis", "direction", "value"),
    [
        ("matrix_lr 0.04->0.03 — val_bpb improved 1.705->1.691", "matrix_lr", AxisDirection.DOWN, "0.03"),
        ("adam beta2 0.95->0.9", "adam beta2", AxisDirection.DOWN, "0.9"),
        ("batch 2^16->2^15", "batch", AxisDirection.CHANGE, "2^15"),
        ("increase MATRIX_LR to 0.05", "MATRIX_LR", AxisDirection.UP, "0.05"),
        ("reduce WEIGHT_DECAY to 0.17 (too low)", "WEIGHT_DECAY", AxisDirection.DOWN, "0.17"),
        ("fine-tune MATRIX_LR to 0.075", "MATRIX_LR", AxisDirection.CHANGE, ""),
        ("apply best focused Bayesian config", "other", AxisDirection.CHANGE, ""),
        ("x" * 500 + " 1->2", "x" * 200, AxisDirection.UP, "2"),
    ],
)
def test_changes_are_read(description: str, axis: str, direction: AxisDirection, value: str) -> None:
    assert read_change(description) == Change(axis, direction, value)
