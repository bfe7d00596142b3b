"""Peaks and plans of cards, on a machine without one."""

import pytest

from shared.runs import DeviceKind, Hardware
from tests.bench.bench_train import CARDS, PEAK_TFLOPS, PLAN_HEADINGS, SEEDS, find_peak, plan
from tests.bench.report import format_table


def hardware(model: str) -> Hardware:
    return Hardware(kind=DeviceKind.CUDA, model=model, torch_version="2.13.0", memory_mib=24576, cores=8)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA GeForce RTX 3060", "RTX 3060"),
        ("NVIDIA GeForce RTX 3060 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4070 SUPER", None),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L40", None),
        ("Tesla T4", "T4"),
        ("NVIDIA T400 4GB", None),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_peak_is_that_of_the_card_and_not_of_one_that_is_called_nearly_so(model: str, name: str | None) -> None:
    assert find_peak(hardware(model)) == (None if name is None else 1e12 * PEAK_TFLOPS[name])


def test_the_page_for_volunteers_has_the_table_that_the_command_prints() -> None:
    page = (SEEDS.parent / "docs" / "volunteers.md").read_text()
    assert format_table(PLAN_HEADINGS, [plan(card) for card in CARDS]) in page
