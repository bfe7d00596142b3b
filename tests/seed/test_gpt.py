"""seed/gpt: each piece does what its name says, by itself and on a CPU."""

import math
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.support.tiny_project import SEED

sys.path.insert(0, str(SEED / "gpt"))  # train.py imports kernels.py

VOCAB, LENGTH = 50, 24
SIZES = {"DEPTH": 4, "WIDTH": 64, "HEAD_WIDTH": 16, "SHORT_WINDOW": 5, "FULL_WINDOW_EVERY": 4, "HEADS": 4}


def load_seed(name: str = "gpt_train") -> ModuleType:
    """The file as a module of its own."""
    module = ModuleType(name)
    exec(compile((SEED / "gpt" / "train.py").read_text(), "train.py", "exec"), module.__dict__)
    return module


@pytest.fixture
def gpt() -> Any:
    """The file with sizes of a toy."""
    module = load_seed()
    vars(module).update(SIZES)
    return module


def shake(model: torch.nn.Module) -> torch.nn.Module:
    """Makes all weights nonzero, unlike at the beginning."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tokens_of(rows: int = 2) -> torch.Tensor:
    return torch.randint(VOCAB, (rows, LENGTH), generator=torch.Generator().manual_seed(2))


def test_has_about_fifty_million_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sizes of a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    module: Any = load_seed()
    assert module.DTYPE is torch.bfloat16
    model = module.GPT(8192, 2048)
    assert (module.DEPTH, module.WIDTH, module.HEADS) == (8, 512, 4)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(50e6, rel=0.02)
    assert model.windows == [512, 512, 512, 2048] * 2
    assert module.TOKENS_PER_STEP == 2**19


def test_begins_knowing_nothing(gpt: Any) -> None:
    torch.manual_seed(0)
    model, tokens = gpt.GPT(VOCAB, LENGTH), tokens_of()
    loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(math.log(VOCAB), abs=0.01)


def test_looks_back_only_and_as_far_as_its_windows(gpt: Any) -> None:
    model, tokens = shake(gpt.GPT(VOCAB, LENGTH)), tokens_of(1)
    other = tokens.clone()
    other[0, 9] = (other[0, 9] + 1) % VOCAB
    changed = (model(tokens) - model(other)).abs().amax(dim=-1)[0] > 1e-6
    assert changed.tolist() == [False] * 9 + [True] * (LENGTH - 9)
    model.windows = [5] * 4  # four blocks, each of which looks back by four places
    changed = (model(tokens) - model(other)).abs().amax(dim=-1)[0] > 0
    assert changed.tolist() == [False] * 9 + [True] * (LENGTH - 9)
    model.windows = [2] * 4
    changed = (model(tokens) - model(other)).abs().amax(dim=-1)[0] > 0
    assert changed.nonzero()[:, 0].tolist() == [9, 10, 11, 12, 13]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_both_kinds_of_attention_are_the_same(gpt: Any) -> None:
    """One works everywhere; the other is fast on a GPU, and here only right."""
    gpt.DEPTH = gpt.FULL_WINDOW_EVERY = 2
    model, tokens = shake(gpt.GPT(VOCAB, LENGTH)), tokens_of()
    with torch.no_grad():
        dense = model(tokens)
        model.block_masks = {window: gpt.block_mask(window, LENGTH, tokens.device) for window in set(model.windows)}
        torch.testing.assert_close(model(tokens), dense, rtol=0, atol=0)  # answers are given without block masks
        model.train()
        torch.testing.assert_close(model(tokens), dense, rtol=1e-3, atol=1e-3)
        compiled = torch.compile(model, backend="eager", dynamic=False, fullgraph=True)  # no break in the graph
        torch.testing.assert_close(compiled(tokens), dense, rtol=1e-3, atol=1e-3)


def test_half_precision_flows_through_and_comes_out_whole(gpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, tokens = gpt.GPT(VOCAB, LENGTH), tokens_of()
    torch.nn.init.normal_(model.head)
    whole = model(tokens)
    monkeypatch.setattr(gpt, "DTYPE", torch.bfloat16)
    seen: set[torch.dtype] = set()
    model.blocks[1].attention.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    half = model(tokens)
    assert (half.dtype, seen) == (torch.float32, {torch.bfloat16})
    torch.testing.assert_close(half, whole, rtol=0.1, atol=0.3)
    half.sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_rotary_products_tell_distances_only(gpt: Any) -> None:
    rotary = gpt.Rotary(LENGTH)
    q, k = torch.randn(2, 1, 1, 1, gpt.HEAD_WIDTH).expand(2, 1, 1, LENGTH, gpt.HEAD_WIDTH)
    products = (rotary(q) @ rotary(k).mT)[0, 0]
    for distance in (0, 3, 10):
        along = products.diagonal(-distance)
        torch.testing.assert_close(along, along[0].expand_as(along), rtol=1e-4, atol=1e-4)
    assert products[3, 0] != pytest.approx(products[0, 0].item(), abs=1e-3)
    torch.testing.assert_close(rotary(q)[..., 0, :], q[..., 0, :])
    torch.testing.assert_close(rotary(q).norm(dim=-1), q.norm(dim=-1))


def test_queries_and_keys_are_normalised_and_logits_capped(gpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shake(gpt.GPT(VOCAB, LENGTH))
    seen: list[torch.Tensor] = []
    attend: Callable[..., torch.Tensor] = gpt.attend

    def look(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.extend((q, k))
        return attend(q, k, v, mask)

    monkeypatch.setattr(gpt, "attend", look)
    with torch.no_grad():
        model.head.mul_(1000)
        logits = model(tokens_of())
    for each in seen:
        torch.testing.assert_close(each.square().mean(dim=-1), torch.ones(each.shape[:-1]), rtol=1e-3, atol=1e-3)
    assert 0.9 * gpt.LOGIT_CAP < logits.abs().max() <= gpt.LOGIT_CAP


def test_value_embeddings_count_as_much_as_values_at_first(gpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, values = gpt.GPT(VOCAB, LENGTH), []
    monkeypatch.setattr(gpt, "attend", lambda q, k, v, mask: values.append(v) or v)
    tokens = tokens_of()
    model(tokens)
    embedded = model.value_embeddings[0](tokens).view(2, LENGTH, gpt.HEADS, gpt.HEAD_WIDTH).transpose(1, 2)
    with torch.no_grad():
        model.value_embeddings[0].weight.zero_()
    model(tokens)
    assert len(model.value_embeddings) == 2
    torch.testing.assert_close(values[1] - values[5], embedded, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values[0], values[4])


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (1, 16, 64)])
def test_orthogonalizes(gpt: Any, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrices = u * torch.linspace(0.03, 1, u.size(-1)) @ vh  # of very unequal directions
    singular = torch.linalg.svdvals(gpt.orthogonalize(matrices))
    assert singular.min() > 0.5 and singular.max() < 1.3
    one = gpt.orthogonalize(matrices[:1])
    torch.testing.assert_close(gpt.orthogonalize(matrices)[:1], one, rtol=1e-3, atol=1e-4)


def test_muon_steps_by_its_rate_in_all_directions(gpt: Any) -> None:
    torch.manual_seed(0)
    stack, tall = torch.nn.Parameter(torch.zeros(3, 16, 16)), torch.nn.Parameter(torch.ones(64, 16))
    muon = gpt.Muon([stack, tall], lr=0.1, momentum=0.9, weight_decay=0.5)
    stack.grad, tall.grad = torch.randn(3, 16, 16), torch.randn(64, 16)
    muon.step()
    singular = torch.linalg.svdvals(stack) / 0.1
    assert singular.min() > 0.6 and singular.max() < 1.3, "each matrix of a stack by itself"
    moved = torch.linalg.svdvals(tall.detach() - (1 - 0.1 * 0.5)) / (0.1 * 2)
    assert moved.min() > 0.6 and moved.max() < 1.3, "a tall matrix by the root of its shape; decay is apart"
    before = stack.detach().clone()
    stack.grad, tall.grad = torch.zeros(3, 16, 16), torch.zeros(64, 16)
    muon.step()
    assert (stack - before).norm() > 0.1, "momentum goes on where the gradient does not"


def test_every_parameter_has_one_optimizer(gpt: Any) -> None:
    model = gpt.GPT(VOCAB, LENGTH)
    adam, muon = gpt.make_optimizers(model)
    groups = [*adam.param_groups, *muon.param_groups]
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    in_blocks = {id(p) for name, p in model.named_parameters() if re.search(r"\.(qkv|out|up|down)$", name)}
    assert {id(p) for group in muon.param_groups for p in group["params"]} == in_blocks
    assert [group["full_lr"] for group in groups] == [group["lr"] for group in groups]


def test_learning_rates_follow_the_budget(gpt: Any) -> None:
    assert [gpt.learning_rate(p) for p in (0, 0.3, 0.5, 0.75, 1)] == [1, 1, 1, 0.5, 0]
    gpt.FINAL_LR_SHARE = 0.2
    assert gpt.learning_rate(1) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gb", "half", "rows"), [(80, True, 64), (40, True, 32), (24, True, 16), (16, False, 4), (4, True, 2)]
)
def test_smaller_gpus_take_fewer_rows(
    gpt: Any, monkeypatch: pytest.MonkeyPatch, gb: int, half: bool, rows: int
) -> None:
    class Properties:
        total_memory = gb * 1e9

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(gpt, "HAS_BFLOAT16", half)
    assert gpt.rows_at_once(torch.device("cuda:0"), 256) == rows
    assert gpt.rows_at_once(torch.device("cpu"), 256) == 2


class Budget:
    """The harness in miniature: a text that repeats itself, and a number of steps."""

    device, seed = torch.device("cpu"), 1

    def __init__(self, steps: int) -> None:
        self.steps, self.losses = steps, []  # type: tuple[int, list[float]]

    def start(self) -> None:
        self.losses.clear()

    def batches(self, rows: int) -> Any:
        text = torch.arange(10_000) ** 2 % 7 + torch.arange(10_000) % 5
        while True:
            first = torch.randint(9_000, (rows, 1))
            batch = text[first + torch.arange(LENGTH + 1)]
            yield batch[:, :-1], batch[:, 1:]

    def progress(self) -> float:
        return len(self.losses) / self.steps

    def out_of_time(self) -> bool:
        return len(self.losses) >= self.steps

    def log(self, step: int, loss: float) -> None:
        assert step == len(self.losses) + 1
        self.losses.append(loss)


def test_learns(gpt: Any) -> None:
    torch.manual_seed(0)
    gpt.TOKENS_PER_STEP = 8 * LENGTH
    ctx = Budget(steps=25)
    gpt.train(ctx, gpt.GPT(VOCAB, LENGTH))
    assert ctx.losses[0] > 2.5 and ctx.losses[-1] < 1.5
