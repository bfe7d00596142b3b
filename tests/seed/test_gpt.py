"""seed/gpt: each piece does what its name says, by itself and on a CPU."""

import math
import re
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_mask

from tests.support.tiny_project import SEED

sys.path.insert(0, str(SEED / "gpt"))  # train.py imports kernels.py

VOCAB, LENGTH = 50, 24
SIZES = {
    "LAYERS": 4,
    "CHANNELS": 64,
    "HEAD_CHANNELS": 16,
    "HEADS": 4,
    "SHORT_WINDOW": 5,
    "FULL_WINDOW_EVERY": 4,
    "INIT_SCALE": 1.0,
}


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


class Card(NamedTuple):
    """A GPU's properties, as torch gives them."""

    capability: tuple[int, int]
    multi_processor_count: int
    total_memory: float = 24e9


@pytest.fixture
def load_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Card], Any]:
    """The file as it is imported beside such a GPU."""

    def load(card: Card) -> Any:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: card.capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: card)
        return load_seed()

    return load


H100 = Card((9, 0), 132, 80e9)


def test_has_about_sixty_million_parameters_on_an_h100(load_on: Callable[[Card], Any]) -> None:
    module = load_on(H100)
    model = module.GPT(8192, 2048)
    assert module.DTYPE is torch.bfloat16 and module.COMPILES
    assert (module.LAYERS, module.CHANNELS, module.HEADS) == (9, 512, 4)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(58e6, rel=0.02)
    assert model.windows == [256, 256, 256, 256, 2048, 256, 256, 256, 2048]
    assert module.rows_at_once(torch.device("cuda:0")) == 64


@pytest.mark.parametrize(
    ("card", "dtype", "compiles", "shape", "rows"),
    [
        (Card((8, 6), 28, 12e9), torch.bfloat16, True, (5, 256), 8),  # RTX 3060
        (Card((8, 6), 82, 24e9), torch.bfloat16, True, (6, 384), 16),  # RTX 3090
        (Card((8, 0), 108, 40e9), torch.bfloat16, True, (7, 384), 32),  # A100
        (Card((7, 5), 40, 16e9), torch.float16, True, (6, 384), 8),  # T4
        (Card((7, 0), 80, 16e9), torch.float16, False, (6, 384), 8),  # V100
        (Card((6, 1), 20, 8e9), torch.float32, False, (5, 256), 2),  # GTX 1080
        (Card((13, 0), 300, 200e9), torch.bfloat16, True, (7, 384), 128),  # not listed: taken for a small one
    ],
)
def test_slower_gpus_have_smaller_models(
    load_on: Callable[[Card], Any], card: Card, dtype: torch.dtype, compiles: bool, shape: tuple[int, int], rows: int
) -> None:
    module = load_on(card)
    assert dtype is module.DTYPE and compiles == module.COMPILES
    assert shape == (module.LAYERS, module.CHANNELS)
    assert module.CHANNELS == module.HEADS * module.HEAD_CHANNELS
    assert module.rows_at_once(torch.device("cuda:0")) == rows
    assert module.rows_at_once(torch.device("cpu")) == 2


@pytest.mark.parametrize(
    ("tokens_per_second", "update_seconds", "tokens"),
    [
        (1_660_000, 0.01, 2**18),  # TOKENS_PER_STEP, though there would be time for more
        (500_000, 0.01, 2**17),
        (100_000, 0.01, 2**14),
        (3_000, 0.01, 2**14),  # the least
        (100_000, 9.0, 2**14),  # no time left for anything but the updates
    ],
)
def test_a_step_has_as_many_tokens_as_leave_room_for_enough_steps(
    load_on: Callable[[Card], Any], tokens_per_second: float, update_seconds: float, tokens: int
) -> None:
    module = load_on(H100)
    assert module.choose_tokens_per_step(tokens_per_second, update_seconds, 300) == tokens
    if 2**14 < tokens < 2**18:
        steps = 300 / (tokens / tokens_per_second + update_seconds)
        assert module.MIN_STEPS <= steps < 2.1 * module.MIN_STEPS


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
    gpt.LAYERS = gpt.FULL_WINDOW_EVERY = 2
    model, tokens = shake(gpt.GPT(VOCAB, LENGTH)), tokens_of()
    with torch.no_grad():
        dense = model(tokens)
        model.masks = {w: gpt.make_mask("flex", w, LENGTH, tokens.device) for w in set(model.windows)}
        torch.testing.assert_close(model(tokens), dense, rtol=0, atol=0)  # answers are given with the dense ones
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
    q, k = torch.randn(2, 1, 1, 1, gpt.HEAD_CHANNELS).expand(2, 1, 1, LENGTH, gpt.HEAD_CHANNELS)
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
    embedded = model.value_embeddings["1"](tokens).view(2, LENGTH, gpt.HEADS, gpt.HEAD_CHANNELS).transpose(1, 2)
    with torch.no_grad():
        model.value_embeddings["1"].weight.zero_()
    model(tokens)
    assert len(model.value_embeddings) == 2
    torch.testing.assert_close(values[1] - values[5], embedded, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values[0], values[4])


def test_rows_that_moved_much_move_less_and_the_whole_as_much(gpt: Any) -> None:
    weights = torch.nn.Parameter(torch.zeros(1, 16, 16))
    muon = gpt.Muon([weights], lr=0.1, momentum=0.9, weight_decay=0.0)
    direction = torch.eye(16)[None] * torch.linspace(0.2, 1, 16)
    even = muon.even_out(weights, direction)
    assert even.norm() == pytest.approx(direction.norm().item(), rel=1e-4)
    rows = even.norm(dim=-1)[0]
    assert rows.max() / rows.min() == pytest.approx(1, abs=1e-3), "at first all the same"
    muon.even_out(weights, direction * torch.linspace(1, 3, 16)[None, :, None])
    later = muon.even_out(weights, torch.eye(16)[None]).norm(dim=-1)[0]
    assert later[0] > 1.5 * later[-1]


def test_only_weights_that_the_update_shrinks_decay(gpt: Any) -> None:
    torch.manual_seed(0)
    signs = torch.randn(16, 16).sign()
    free, decayed = (torch.nn.Parameter(signs.clone()) for _ in range(2))
    for weights, decay in ((free, 0.0), (decayed, 0.5)):
        muon = gpt.Muon([weights], lr=0.1, momentum=0.9, weight_decay=decay)
        torch.manual_seed(1)
        weights.grad = torch.randn(16, 16)
        muon.step()
    update = signs - free.detach()
    shrunk = update * signs > 0
    torch.testing.assert_close(free - decayed, torch.where(shrunk, 0.05 * signs, torch.zeros(())))


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (1, 16, 64)])
def test_orthogonalizes(gpt: Any, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrices = 1e-6 * (u * torch.linspace(0.01, 1, u.size(-1)) @ vh)  # of very unequal directions, and small
    singular = torch.linalg.svdvals(gpt.orthogonalize(matrices))
    assert singular.min() > 0.7 and singular.max() < 1.2
    one = gpt.orthogonalize(matrices[:1])
    torch.testing.assert_close(gpt.orthogonalize(matrices)[:1], one, rtol=1e-3, atol=1e-4)


def test_muon_steps_by_its_rate_in_all_directions(gpt: Any) -> None:
    torch.manual_seed(0)
    stack, tall = torch.nn.Parameter(torch.zeros(3, 16, 16)), torch.nn.Parameter(torch.ones(64, 16))
    muon = gpt.Muon([stack, tall], lr=0.1, momentum=0.9, weight_decay=0.0)
    stack.grad, tall.grad = torch.randn(3, 16, 16), torch.randn(64, 16)
    muon.step()
    singular = torch.linalg.svdvals(stack) / 0.1
    assert singular.min() > 0.6 and singular.max() < 1.3, "each matrix of a stack by itself"
    moved = (1 - tall.detach()).norm() / (0.1 * 2)
    assert moved == pytest.approx(16**0.5, rel=0.25), "a tall matrix by the root of its shape"
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


def test_rates_momentum_and_decay_follow_the_budget(gpt: Any) -> None:
    gpt.WARM_DOWN_SHARE, gpt.FINAL_LR_SHARE = 0.5, 0.0
    assert [gpt.learning_rate(p) for p in (0, 0.3, 0.5, 0.75, 1)] == [1, 1, 1, 0.5, 0]
    gpt.FINAL_LR_SHARE = 0.2
    assert gpt.learning_rate(1) == pytest.approx(0.2)
    adam, muon = optimizers = gpt.make_optimizers(gpt.GPT(VOCAB, LENGTH))
    seen = []
    for step, progress in ((0, 0.0), (100, 0.4), (200, 0.75)):
        gpt.schedule(optimizers, step, progress)
        group = muon.param_groups[0]
        seen.append((group["lr"] / gpt.MATRIX_LR, group["momentum"], group["weight_decay"] / gpt.MATRIX_WEIGHT_DECAY))
    assert seen == [pytest.approx(each) for each in ((1, 0.85, 1), (1, 0.9, 0.6), (0.6, 0.95, 0.25))]
    assert adam.param_groups[0]["lr"] == pytest.approx(0.6 * gpt.EMBEDDING_LR)


class Budget:
    """The harness in miniature: a text that repeats itself, and a number of steps."""

    device, seed, budget_seconds = torch.device("cpu"), 1, 60.0
    vocab_size, sequence_length = VOCAB, LENGTH

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

    def log(self, step: int, loss: torch.Tensor) -> None:
        assert step == len(self.losses) + 1
        self.losses.append(loss.item())

    def clock(self) -> float:
        return time.process_time()


def test_learns(gpt: Any) -> None:
    torch.manual_seed(0)
    gpt.TOKENS_PER_STEP = gpt.LEAST_TOKENS_PER_STEP = 8 * LENGTH
    ctx = Budget(steps=25)
    gpt.train(ctx, gpt.GPT(VOCAB, LENGTH))
    assert ctx.losses[0] > 2.5 and ctx.losses[-1] < 1.5


def find_lines(code: CodeType) -> set[int]:
    """Lines of a code object and of all that it defines, without those of headings."""
    lines = {line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}
    return lines.union(*(find_lines(each) for each in code.co_consts if isinstance(each, CodeType)))


def test_every_line_runs_on_a_cpu_as_it_would_on_a_gpu(
    load_on: Callable[[Card], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With slow kernels that compute the same: on a CPU torch refuses the way back through flex attention."""
    path = SEED / "gpt" / "train.py"
    code, seen = compile(path.read_text(), str(path), "exec"), set[int]()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename == str(path):
            seen.add(frame.f_lineno)
            return trace
        return None

    load_on(H100)  # stays in place
    module: Any = ModuleType("gpt_on_gpu")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(code, module.__dict__)
        module.find_fastest = lambda *_: "dense"
        assert module.COMPILES and module.rows_at_once(torch.device("cuda:0")) == 64
        vars(module).update(
            SIZES | {"TOKENS_PER_STEP": 4 * LENGTH, "LEAST_TOKENS_PER_STEP": LENGTH, "MIN_STEPS": 10**9}
        )
        ctx = Budget(steps=3)
        model = module.build(ctx)
        module.train(ctx, model)
        model.eval()(tokens_of())
        trainer = module.Trainer(ctx, model)
        trainer.loss_of = Memory(trainer, rows=1)
        trainer.prepare()
        trainer.compute_loss = Memory(trainer, 0, RuntimeError("a mistake"))
        with pytest.raises(RuntimeError, match="a mistake"):
            trainer.fits()
        ctx.device = torch.device("cuda:0")
        trainer.time_of(lambda: None)
        module.orthogonalize(torch.ones(1, 4, 2))
    finally:
        sys.settrace(before)
    assert len(ctx.losses) == 3 and model.masks is not None
    missed = find_lines(code) - seen
    source = path.read_text().splitlines()
    assert not missed, "\n".join(f"{line}: {source[line - 1]}" for line in sorted(missed))


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.")


class Memory:
    """A device with room for some rows, in place of the model."""

    def __init__(self, trainer: Any, rows: int, error: Exception = OUT_OF_MEMORY) -> None:
        self.trainer, self.rows, self.asked = trainer, rows, []  # type: tuple[Any, int, list[int]]
        self.loss_of, self.error = trainer.loss_of, error

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(inputs))
        if len(inputs) > self.rows:
            raise self.error
        loss: torch.Tensor = self.loss_of(inputs, targets)
        return loss


@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY,
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp":1165'),
    ],
)
def test_fewer_rows_go_through_a_memory_that_has_no_room_for_more(
    error: Exception, gpt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt, "rows_at_once", lambda device: 16)
    gpt.TOKENS_PER_STEP = gpt.LEAST_TOKENS_PER_STEP = 16 * 32
    trainer = gpt.Trainer(Budget(steps=1), gpt.GPT(VOCAB, LENGTH))
    memory = trainer.compute_loss = Memory(trainer, 5, error)
    trainer.prepare()
    assert memory.asked[:3] == [16, 8, 4] and set(memory.asked[3:]) == {4}
    assert (trainer.rows, trainer.passes) == (4, 16 * 32 // LENGTH // 4), "as many tokens a step as with more memory"
    trainer.compute_loss = Memory(trainer, rows=0)
    with pytest.raises(AssertionError, match="no room for a single sequence"):
        trainer.prepare()
    trainer.compute_loss = Memory(trainer, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        trainer.prepare()


def test_float16_that_overflows_is_left_out_and_scaled_down(gpt: Any) -> None:
    trainer = gpt.Trainer(Budget(steps=1), gpt.GPT(VOCAB, LENGTH))
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weights = [trainer.model.head, trainer.model.blocks[0].down]
    before = [each.detach().clone() for each in weights]
    overflow = [each.register_hook(lambda gradient: gradient * math.inf) for each in weights]
    trainer.try_step()
    assert all(torch.equal(*pair) for pair in zip(weights, before, strict=True))
    assert trainer.scaler.get_scale() == 512
    for hook in overflow:
        hook.remove()
    trainer.try_step()
    assert not any(torch.equal(*pair) for pair in zip(weights, before, strict=True))


def test_the_fastest_attention_that_works_is_taken(gpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: Any = sys.modules["kernels"]
    seconds = {"dense": 3.0, "flex": 1.0, "FA2": 2.0, "FA3": math.inf, "FA4": math.inf}
    monkeypatch.setattr(kernels, "time_attention", lambda kind, *_: seconds[kind])
    shape = (2, 4, LENGTH, 16)
    assert gpt.find_fastest(shape, 5, torch.float32, torch.device("cpu")) == "flex"
    seconds |= dict.fromkeys(seconds, math.inf)
    assert gpt.find_fastest(shape, 5, torch.float32, torch.device("cpu")) == "dense"
    monkeypatch.undo()
    assert kernels.time_attention("dense", shape, 5, torch.float32, torch.device("cpu")) < math.inf
    for kind in ("FA2", "FA3", "FA4"):  # for CUDA only, and not installed
        assert kernels.time_attention(kind, shape, 5, torch.float32, torch.device("cpu")) == math.inf


def pack_attention(module: Any, wait: Callable[[], None]) -> Callable[..., torch.Tensor]:
    """A stand-in for `varlen_attn` that computes by the dense mask, and waits."""

    def compute(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, begins: torch.Tensor, *more: Any, **options: Any
    ) -> Any:
        assert (
            (begins[1:] - begins[:-1] == LENGTH).all() and begins.dtype is torch.int32 and more[1:] == (LENGTH, LENGTH)
        )
        wait()
        rows = [x.unflatten(0, (len(begins) - 1, LENGTH)).transpose(1, 2) for x in (q, k, v)]
        window = options["window_size"][0] + 1
        mask = module.dense_mask(window, LENGTH, q.device)
        return torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=mask).transpose(1, 2).flatten(0, 1)

    return compute


@pytest.mark.parametrize("fastest", ["FA2", "FA3", "FA4"])
def test_an_installed_flash_attention_is_tried_and_computes_the_same(
    fastest: str, gpt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the kernel, which is quick where that version is active, and for the packages."""
    kernels: Any = sys.modules["kernels"]
    active = torch.nn.attention.current_flash_attention_impl
    handle = type("Handle", (), {"remove": lambda self: None})
    for version in ("FA3", "FA4"):
        monkeypatch.setitem(torch.nn.attention._registry._FLASH_ATTENTION_IMPLS, version, handle)
    clock = Mock(**{"perf_counter.return_value": 0.0})

    def wait() -> None:
        clock.perf_counter.return_value += 1 if (active() or "FA2") == fastest else 2

    monkeypatch.setattr(kernels, "time", clock)
    monkeypatch.setattr(kernels, "varlen_attn", pack_attention(kernels, wait))
    monkeypatch.setattr(kernels, "TIMED_PASSES", 1)
    model, tokens = shake(gpt.GPT(VOCAB, LENGTH)), tokens_of()
    with torch.no_grad():
        dense = model(tokens)
    real = kernels.time_attention
    monkeypatch.setattr(
        kernels, "time_attention", lambda kind, *more: math.inf if kind == "flex" else real(kind, *more)
    )
    monkeypatch.setattr(kernels, "KINDS", ("FA2", "FA3", "FA4", "flex"))
    assert gpt.find_fastest((2, 4, LENGTH, 16), 5, torch.float32, tokens.device) == fastest
    model.masks = {window: gpt.make_mask(fastest, window, LENGTH, tokens.device) for window in set(model.windows)}
    assert (active() or "FA2") == fastest
    model.train()
    try:
        torch.testing.assert_close(model(tokens), dense, rtol=1e-4, atol=1e-4)
    finally:
        kernels.activate("FA2")
    assert active() is None


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_mask: BlockMask) -> torch.Tensor:
    """Flex attention with the same mask, step by step: its own way back does not work on a CPU."""
    mask = create_mask(block_mask.mask_mod, None, None, q.size(2), k.size(2), device=str(q.device))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def test_what_a_gpu_compiles_learns_on_a_cpu_too(
    load_on: Callable[[Card], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 and with block masks, as on an H100: only compiling is left out."""
    torch.manual_seed(0)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(sys.modules["kernels"], "flex_attention", reference)
    module = load_on(H100)
    vars(module).update(SIZES | {"TOKENS_PER_STEP": 8 * LENGTH, "LEAST_TOKENS_PER_STEP": LENGTH, "MIN_STEPS": 1})
    module.find_fastest = lambda *_: "flex"
    ctx, model = Budget(steps=25), module.GPT(VOCAB, LENGTH)
    module.train(ctx, model)
    assert module.DTYPE is torch.bfloat16 and {type(mask) for mask in model.masks.values()} == {BlockMask}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert ctx.losses[0] > 2.5 and ctx.losses[-1] < 1.7
