"""Steps that descriptions and questions name."""

import pytest

from coordinator.findings.steps import read_change
from shared.experiments import AxisDirection

UP, DOWN, CHANGE = AxisDirection.UP, AxisDirection.DOWN, AxisDirection.CHANGE
NONE = ("other", CHANGE, "")


@pytest.mark.parametrize(
    ("description", "change"),
    [
        ("matrix_lr 0.04->0.03 — val_bpb improved 1.705->1.691", ("matrix_lr", DOWN, "0.03")),
        ("adam beta2 0.95->0.9", ("adam beta2", DOWN, "0.9")),
        ("batch 2^16->2^15", ("batch", DOWN, "2^15")),
        ("increase MATRIX_LR to 0.05", ("MATRIX_LR", UP, "0.05")),
        ("reduce WEIGHT_DECAY to 0.17 (too low)", ("WEIGHT_DECAY", DOWN, "0.17")),
        ("fine-tune MATRIX_LR to 0.075", ("MATRIX_LR", CHANGE, "0.075")),
        ("apply best focused Bayesian config", NONE),
        ("halve batch 524K to 262K (more steps)", ("batch", DOWN, "262K")),
        ("embedding LR 0.6 to 0.8", ("embedding LR", UP, "0.8")),
        ("add WD 0.01 to embeddings (hurts)", ("embeddings WD", UP, "0.01")),
        ("VE gate scale 2 to 3", ("VE gate scale", UP, "3")),
        ("RoPE base 200K→400K", ("RoPE base", UP, "400K")),
        ("lower lm_head init std 0.001 to 0.01", ("lm_head init std", UP, "0.01")),
        ("lower scalar lr to 0.3 after 3x MLP", ("scalar lr", DOWN, "0.3")),
        ("COMBO k=7 + 8 threads + 128KB", NONE),
        ("parallel=3,explicit=2", NONE),
        ("depth 8 to 9, aspect ratio 64 to 57 (same width)", NONE),
        ("random seed 42 to 137", ("seed", CHANGE, "137")),
        ("window SSSL->SSLL", ("window", CHANGE, "SSLL")),
        ("smaller batch (2^18 to 2^16) for more steps", ("batch", DOWN, "2^16")),
        ("shorten warmdown to 30 percent", ("warmdown", DOWN, "30 percent")),
        ("raise the threshold", ("threshold", UP, "")),
        ("softmax router, load-balance loss 0.003, fixed mix", NONE),
        ("FP8 training", NONE),
        ("max_freq: 300 -> 325; lemma_first: True -> False", NONE),
        ("max_freq: 300 -> 325; slower by a third", ("max_freq", UP, "325")),
        ("embedding LR 0,6 to 0,8", ("embedding LR", UP, "0.8")),
        ("RoPE base 10 000 to 200 000", ("RoPE base", UP, "200000")),
        ("8→9 layers", ("layers", UP, "9")),
        ("Adam betas (0.9, 0.95) -> (0.9, 0.98)", NONE),
        ("cache k=3 -> k=5", ("cache k", UP, "5")),
        ("train resolution 32px to 40px", ("resolution", UP, "40px")),
        ("EXP46 max pre-load 0.01", ("max pre-load", CHANGE, "0.01")),
        ("apr10 steps 8192->4096 single-boss", ("steps", DOWN, "4096")),
        ("R66b warmdown=0.15 final", ("warmdown", CHANGE, "0.15")),
        ("R 3 to 4", ("R", UP, "4")),
        ("NEW BEST: batch=64", ("batch", CHANGE, "64")),
        ("add warmup: val_loss 2.1 -> 2.0", NONE),
        ("Point spread: Huber loss (11.05->11.03)", NONE),
        ("FMA in 2-bit dequant kernel", NONE),
        ("XSA on all 9 layers", NONE),
        ("added 4 tests", NONE),
        ("MVP: interaction features hurt Spearman 0.89->0.88", NONE),
        ("baseline: order=11", NONE),
        ("RoPE 2D in the encoder", NONE),
        ("Qwen 3.5-style gated attention", NONE),
        ("z-loss 1e-4*logits^2.mean()", NONE),
        ("grad_accum curriculum (1->2->4 over training)", NONE),
        ("window 128->256->512", NONE),
        ("Differential attention: double c_q to 12 sub-heads", NONE),
        ("added tests", NONE),
        ("", NONE),
        ("x" * 500 + " 1->2", ("x" * 200, UP, "2")),
    ],
)
def test_changes_are_read(description: str, change: tuple[str, AxisDirection, str]) -> None:
    assert read_change(description)[:3] == change
