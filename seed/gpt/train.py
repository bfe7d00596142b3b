"""A GPT of about 60 million parameters that learns web text for five minutes on one GPU. This is the file to change;
kernels.py beside it holds its attention, and has room for kernels of your own.

The harness calls two functions of this file:

    build(config)      -> a torch.nn.Module, from int64 tokens (rows, length) to logits (rows, length, vocab_size);
                          config has vocab_size, sequence_length, seed and device
    train(ctx, model)  -> None; trains the model in place until ctx.out_of_time()

and scores what came out: val_bpb, bits per byte of text that was never trained on. Lower is better. Clock, data, seed
and scoring are the harness's own. The constants are an H100's. A slower GPU gets a smaller model and, when its speed
was measured before the start, fewer tokens a step; one older than the A100 computes in float16. On a CPU the model is a
toy, for a smoke test. To run it, see program.md; `# range:` and `# choices:` beside a constant tell the search agent
where it may go.

From top to bottom: constants, the model, the optimizers, the training.
"""

import math
import re

import torch
from kernels import attend, dense_mask, find_fastest, make_mask
from torch import nn
from torch.nn import functional as F

# The model
DEPTH = 9  # choices: 2, 3, 4, 6, 8, 9, 10, 12, 16
WIDTH = 512  # choices: 256, 384, 512, 640, 768, 1024
HEAD_WIDTH = 128  # choices: 64, 128
MLP_RATIO = 4  # choices: 1, 2, 3, 4, 6
SHORT_WINDOW = 256  # choices: 64, 128, 256, 512, 1024
FULL_WINDOW_EVERY = 5  # choices: 2, 3, 4, 5, 8
ROTARY_BASE = 200000.0  # range: 1000 to 10000000, log
LOGIT_CAP = 15.0  # range: 8 to 40, log
INIT_SCALE = 0.68  # range: 0.2 to 2, log
EMBEDDING_SHARE = 0.05  # range: 0.01 to 0.5, log

# The training
TOKENS_PER_STEP = 262144  # choices: 16384, 32768, 65536, 131072, 262144, 524288
MIN_STEPS = 1000  # choices: 500, 700, 1000, 1400, 2000, 4000
MATRIX_LR = 0.04  # range: 0.005 to 0.2, log
EMBEDDING_LR = 1.0  # range: 0.03 to 3, log
HEAD_LR = 0.006  # range: 0.0005 to 0.05, log
RESIDUAL_SCALE_LR = 0.005  # range: 0.0005 to 0.05, log
EMBEDDING_SCALE_LR = 0.5  # range: 0.005 to 2, log
GATE_LR = 0.02  # range: 0.002 to 0.2, log
MATRIX_WEIGHT_DECAY = 0.2  # range: 0.01 to 2, log
EMBEDDING_WEIGHT_DECAY = 0.001  # range: 0.0001 to 0.1, log
VALUE_EMBEDDING_WEIGHT_DECAY = 0.003  # range: 0.0001 to 0.1, log
HEAD_WEIGHT_DECAY = 0.01  # range: 0.0001 to 0.1, log
FIRST_MOMENTUM = 0.85  # range: 0.5 to 0.95
MOMENTUM = 0.95  # range: 0.8 to 0.99
MOMENTUM_STEPS = 200  # choices: 1, 50, 100, 200, 300, 500
ROW_BETA = 0.95  # range: 0.8 to 0.99
BETA1 = 0.8  # range: 0.6 to 0.95
BETA2 = 0.95  # range: 0.9 to 0.999
WARM_DOWN_SHARE = 0.75  # range: 0.1 to 1
FINAL_LR_SHARE = 0.05  # range: 0 to 0.2

# The machine
ROWS_AT_ONCE = 64  # fixed; sequences, with 80 GB of memory (about a third of it), and in proportion with less
GATE_CHANNELS = 32  # fixed
ON_GPU = torch.cuda.is_available()
LEAST_TOKENS_PER_STEP = 16384 if ON_GPU else 2048
CAPABILITY = torch.cuda.get_device_capability() if ON_GPU else (0, 0)
DTYPE = (  # of what runs through the network; parameters are float32
    torch.bfloat16 if CAPABILITY >= (8, 0) else torch.float16 if CAPABILITY >= (7, 0) else torch.float32
)
COMPILES = CAPABILITY >= (7, 5)

# What a multiprocessor computes with 16 bits, in 10^12 operations a second: by the data sheets of V100, T4, A100, 3090,
# 4090, H100, B200 and 5090.
TERAFLOPS = {(7, 0): 1.56, (7, 5): 1.6, (8, 0): 2.9, (8, 6): 0.87, (8, 9): 1.29, (9, 0): 7.5, (10, 0): 15, (12, 0): 1.2}


def find_scale(capability, multiprocessors: int) -> float:
    """How deep and wide the model is, as a share of DEPTH and WIDTH, on a GPU of this speed; an H100 is 1.

    The best number of parameters grows with the square root of the operations that a budget has room for (Hoffmann et
    al., "Training compute-optimal large language models", 2022). It is depth times the square of the width, so each of
    them grows with the sixth root.
    """
    return min(1.0, (multiprocessors * TERAFLOPS.get(capability, 0.87) / 989) ** (1 / 6))


SCALE = find_scale(CAPABILITY, torch.cuda.get_device_properties(0).multi_processor_count) if ON_GPU else 0.25
HEAD_CHANNELS = HEAD_WIDTH if ON_GPU else HEAD_WIDTH // 2
HEADS = max(1, round(WIDTH * SCALE / HEAD_CHANNELS))
CHANNELS = HEADS * HEAD_CHANNELS
LAYERS = max(2, round(DEPTH * SCALE))

assert WIDTH % HEAD_WIDTH == 0, "heads share the width evenly"
assert HEAD_CHANNELS % 2 == 0, "the rotary embedding turns pairs of channels"


# The model


def norm(x):
    return F.rms_norm(x, (x.size(-1),), eps=1e-6)


def multiply(x, weight):
    """x by a float32 parameter, in the type of x."""
    return F.linear(x, weight.to(x.dtype))


class Rotary(nn.Module):
    """Turns pairs of channels by an angle that grows with the position, so that products tell distances."""

    def __init__(self, sequence_length: int):
        super().__init__()
        frequencies = ROTARY_BASE ** (-torch.arange(0, HEAD_CHANNELS, 2) / HEAD_CHANNELS)
        angles = torch.outer(torch.arange(sequence_length), frequencies)  # (length, half a head)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x):  # (rows, heads, length, channels of a head)
        length = x.size(2)
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Attention(nn.Module):
    """Causal, over a window, with normalised queries and keys, and values to which an embedding of the token is added.

    A gate for each head says how much of it. It reads a few channels, and starts at one half of two, which is one.
    """

    def __init__(self, has_value_embedding: bool):
        super().__init__()
        self.qkv = nn.Parameter(torch.empty(3, CHANNELS, CHANNELS))  # three matrices to the optimizer, one product here
        self.out = nn.Parameter(torch.empty(CHANNELS, CHANNELS))
        self.gate = nn.Parameter(torch.empty(HEADS, GATE_CHANNELS)) if has_value_embedding else None

    def forward(self, x, value_embedding, rotary, mask):
        rows, length, _ = x.shape
        by_head = (rows, length, -1, HEADS, HEAD_CHANNELS)
        q, k, v = multiply(x, self.qkv.flatten(0, 1)).view(by_head).permute(2, 0, 3, 1, 4)
        if self.gate is not None:
            gate = 2 * torch.sigmoid(multiply(x[..., :GATE_CHANNELS], self.gate))  # (rows, length, heads)
            embedded = value_embedding.view(by_head)[:, :, 0] * gate[..., None]
            v = v + embedded.transpose(1, 2)
        x = attend(norm(rotary(q)), norm(rotary(k)), v, mask)
        return multiply(x.transpose(1, 2).reshape(rows, length, CHANNELS), self.out)


class Block(nn.Module):
    def __init__(self, has_value_embedding: bool):
        super().__init__()
        self.attention = Attention(has_value_embedding)
        self.up = nn.Parameter(torch.empty(MLP_RATIO * CHANNELS, CHANNELS))
        self.down = nn.Parameter(torch.empty(CHANNELS, MLP_RATIO * CHANNELS))

    def forward(self, x, value_embedding, rotary, mask):
        x = x + self.attention(norm(x), value_embedding, rotary, mask)
        return x + multiply(F.relu(multiply(norm(x), self.up)).square(), self.down)


class GPT(nn.Module):
    """Before each block, the stream is scaled and a share of the embedding is added again; both are learnt.

    Every second block, the last among them, has value embeddings.
    """

    def __init__(self, vocab_size: int, sequence_length: int):
        super().__init__()
        with_values = [i for i in range(LAYERS) if i % 2 == (LAYERS - 1) % 2]
        self.embedding = nn.Embedding(vocab_size, CHANNELS)
        self.value_embeddings = nn.ModuleDict({str(i): nn.Embedding(vocab_size, CHANNELS) for i in with_values})
        self.blocks = nn.ModuleList(Block(has_value_embedding=i in with_values) for i in range(LAYERS))
        self.residual_scales = nn.Parameter(torch.ones(LAYERS))
        self.embedding_scales = nn.Parameter(torch.full((LAYERS,), EMBEDDING_SHARE))
        self.head = nn.Parameter(torch.empty(vocab_size, CHANNELS))
        self.rotary = Rotary(sequence_length)
        self.windows = [
            sequence_length if i % FULL_WINDOW_EVERY == FULL_WINDOW_EVERY - 1 or i == LAYERS - 1 else SHORT_WINDOW
            for i in range(LAYERS)
        ]
        self.masks = None  # by window, while training on a GPU
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """Matrices that add to the residual stream start at zero, others uniform and small by the width."""
        bound = INIT_SCALE * math.sqrt(3 / CHANNELS)
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.head, std=0.001)
        for table in self.value_embeddings.values():
            nn.init.uniform_(table.weight, -bound, bound)
        for block in self.blocks:
            nn.init.uniform_(block.attention.qkv, -bound, bound)
            nn.init.uniform_(block.up, -bound, bound)
            nn.init.zeros_(block.attention.out)
            nn.init.zeros_(block.down)
            if block.attention.gate is not None:
                nn.init.zeros_(block.attention.gate)

    def forward(self, tokens):
        x = embedded = norm(self.embedding(tokens)).to(DTYPE)
        for i, block in enumerate(self.blocks):
            has_values = block.attention.gate is not None
            value_embedding = self.value_embeddings[str(i)](tokens).to(DTYPE) if has_values else None
            x = self.residual_scales[i].to(DTYPE) * x + self.embedding_scales[i].to(DTYPE) * embedded
            x = block(x, value_embedding, self.rotary, self.mask(self.windows[i], tokens))
        logits = multiply(norm(x), self.head).float()
        return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP)

    def mask(self, window, tokens):
        if self.masks is not None and self.training:
            return self.masks[window]
        return dense_mask(window, tokens.size(1), tokens.device)


def build(config):
    return GPT(config.vocab_size, config.sequence_length)


# The optimizers: Muon for the matrices inside the blocks, AdamW for everything else

# Of five steps of x <- a x + b (x xᵀ) x + c (x xᵀ)² x: each the polynomial that brings what the steps before it left of
# the singular values closest to one (Amsel, Persson, Musco and Gower, "The Polar Express", 2025, with their margin).
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@torch.no_grad()
def orthogonalize(matrices):
    """The nearest matrices with singular values near one, of (n, rows, columns)."""
    is_tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if is_tall else matrices
    x = (x / (1.02 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(DTYPE)  # now no singular value exceeds one
    for a, b, c in POLAR_EXPRESS:
        product = x @ x.mT
        x = a * x + (b * product + c * product @ product) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised, for matrices and stacks of them; equal shapes go together.

    Rows whose updates have been large take smaller ones, and the others larger ones, while the update's size stays
    (NorMuon; Li et al., 2025). Weights decay only where the update shrinks them, too (cautious; Chen et al., 2025).
    """

    def __init__(self, parameters, lr: float, momentum: float, weight_decay: float):
        shapes = sorted({tuple(p.shape[-2:]) for p in parameters})
        groups = [{"params": [p for p in parameters if tuple(p.shape[-2:]) == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rows, columns = group["params"][0].shape[-2:]
            updates = [self.smooth(p, group["momentum"]).view(-1, rows, columns) for p in group["params"]]
            directions = orthogonalize(torch.cat(updates)).split([len(update) for update in updates])
            rate = group["lr"] * max(1, rows / columns) ** 0.5
            decay = group["lr"] * group["weight_decay"]
            for parameter, direction in zip(group["params"], directions, strict=True):
                update = self.even_out(parameter, direction).view_as(parameter)
                parameter.mul_(torch.where(update * parameter >= 0, 1 - decay, 1.0))
                parameter.add_(update, alpha=-rate)

    def smooth(self, parameter, momentum: float):
        """Nesterov's momentum: the gradient, and ahead of it the mean of the earlier ones."""
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        state["mean"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["mean"], momentum)

    def even_out(self, parameter, direction):
        """Divides each row, or column where there are more of them, by the root of the mean of its squares."""
        state = self.state[parameter]
        squares = direction.square().mean(-1 if direction.size(-2) >= direction.size(-1) else -2, keepdim=True)
        if "squares" not in state:
            state["squares"] = torch.zeros_like(squares)
        state["squares"].lerp_(squares, 1 - ROW_BETA)
        even = direction * state["squares"].clamp_min(1e-10).rsqrt()
        sizes = [x.norm(dim=(-2, -1), keepdim=True) for x in (direction, even)]
        return even * (sizes[0] / sizes[1].clamp_min(1e-10))


def make_optimizers(model):
    matrices = [p for block in model.blocks for p in (block.attention.qkv, block.attention.out, block.up, block.down)]
    gates = [block.attention.gate for block in model.blocks if block.attention.gate is not None]
    values = [table.weight for table in model.value_embeddings.values()]
    groups = [
        {"params": [model.embedding.weight], "lr": EMBEDDING_LR, "weight_decay": EMBEDDING_WEIGHT_DECAY},
        {"params": values, "lr": EMBEDDING_LR, "weight_decay": VALUE_EMBEDDING_WEIGHT_DECAY},
        {"params": [model.head], "lr": HEAD_LR, "weight_decay": HEAD_WEIGHT_DECAY},
        {"params": [model.residual_scales], "lr": RESIDUAL_SCALE_LR},
        {"params": [model.embedding_scales], "lr": EMBEDDING_SCALE_LR, "betas": (0.96, BETA2)},
        {"params": gates, "lr": GATE_LR},
    ]
    adam = torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=1e-10, weight_decay=0.0, fused=True)
    muon = Muon(matrices, MATRIX_LR, MOMENTUM, MATRIX_WEIGHT_DECAY)
    for optimizer in (adam, muon):
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return adam, muon


def schedule(optimizers, step: int, progress: float):
    """Sets rates, momentum and decay for a step, counted from 0, at a share of the budget."""
    adam, muon = optimizers
    for group in (*adam.param_groups, *muon.param_groups):
        group["lr"] = group["full_lr"] * learning_rate(progress)
    for group in muon.param_groups:
        group["momentum"] = FIRST_MOMENTUM + (MOMENTUM - FIRST_MOMENTUM) * min(1, step / MOMENTUM_STEPS)
        group["weight_decay"] = MATRIX_WEIGHT_DECAY * (1 - progress)


def learning_rate(progress: float) -> float:
    """The factor on all learning rates at a share of the budget: level, then straight down."""
    if progress < 1 - WARM_DOWN_SHARE:
        return 1.0
    left = (1 - progress) / WARM_DOWN_SHARE
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * left


# The training


def rows_at_once(device) -> int:
    """How many sequences should fit the memory together: a power of two."""
    if device.type != "cuda":
        return 2
    share = torch.cuda.get_device_properties(device).total_memory / 80e9 * (0.5 if DTYPE is torch.float32 else 1)
    rows = max(1, int(ROWS_AT_ONCE * share * 1.1))
    return 1 << (rows.bit_length() - 1)


def choose_tokens_per_step(tokens_per_second: float, update_seconds: float, budget_seconds: float) -> int:
    """The largest power of two, TOKENS_PER_STEP at most, that leaves room for MIN_STEPS steps in the budget."""
    tokens = int((budget_seconds / MIN_STEPS - update_seconds) * tokens_per_second)
    return 1 << (max(LEAST_TOKENS_PER_STEP, min(tokens, TOKENS_PER_STEP)).bit_length() - 1)


class Trainer:
    """A model, its optimizers, and as many tokens a step as the device has the speed and the memory for."""

    def __init__(self, ctx, model):
        self.ctx, self.model = ctx, model
        self.length = model.rotary.cos.size(0)
        self.optimizers = make_optimizers(model)
        self.scaler = torch.amp.GradScaler(ctx.device.type, enabled=DTYPE is torch.float16)
        self.compute_loss = self.loss_of
        self.rows = min(rows_at_once(ctx.device), max(1, TOKENS_PER_STEP // self.length))
        self.passes = 1
        self.take_batches()

    def loss_of(self, inputs, targets):
        return F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())

    def take_batches(self):
        self.batches = self.ctx.batches(self.rows)
        self.next_batch = next(self.batches)

    def prepare(self):
        """Compiles, takes its memory, measures and sizes the step: before ctx.start(), on random tokens."""
        if COMPILES:
            kind = find_fastest(
                (min(self.rows, 8), HEADS, self.length, HEAD_CHANNELS), SHORT_WINDOW, DTYPE, self.ctx.device
            )
            windows = set(self.model.windows)
            self.model.masks = {window: make_mask(kind, window, self.length, self.ctx.device) for window in windows}
            self.compute_loss = torch.compile(self.loss_of, dynamic=False)
        while not self.fits():
            assert self.rows > 1, "the memory has no room for a single sequence"
            self.rows //= 2
            self.take_batches()
        seconds = min(self.time_of(self.accumulate) for _ in range(3))
        update_seconds = max(0.0, min(self.time_of(self.try_step) for _ in range(2)) - seconds)
        tokens = choose_tokens_per_step(self.rows * self.length / seconds, update_seconds, self.ctx.budget_seconds)
        rows = max(1, tokens // self.length)
        if rows < self.rows:
            self.rows = rows
            self.take_batches()
            self.accumulate()  # compiles for fewer rows
        self.passes = rows // self.rows

    def fits(self) -> bool:
        """Whether a step with these rows has room in the memory."""
        try:
            self.try_step()
        except RuntimeError as error:
            if not re.search("out of memory|ALLOC_FAILED|NVML_SUCCESS", str(error)):  # what torch and CUDA call it
                raise
            self.forget_gradients()
            return False
        return True

    def try_step(self):
        self.accumulate()
        self.update()

    def time_of(self, work) -> float:
        """Seconds by the budget's clock, until the device has done it."""
        wait = torch.cuda.synchronize if self.ctx.device.type == "cuda" else lambda: None
        wait()
        begun = self.ctx.clock()
        work()
        wait()
        return self.ctx.clock() - begun

    def accumulate(self):
        """Adds the gradients of one batch to those that are there. Returns its share of the loss."""
        loss = self.compute_loss(*self.next_batch) / self.passes
        self.scaler.scale(loss).backward()
        self.next_batch = next(self.batches)  # is gathered while the GPU computes
        return loss.detach()

    def update(self):
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)  # not where a float16 overflowed
        self.scaler.update()
        self.forget_gradients()

    def forget_gradients(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self, number: int):
        """Returns the loss, which may still be computed."""
        schedule(self.optimizers, number, self.ctx.progress())
        loss = sum(self.accumulate() for _ in range(self.passes))
        self.update()
        return loss


def train(ctx, model):
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(ctx, model)
    trainer.prepare()
    ctx.start()
    trainer.take_batches()  # of the text
    number = 0
    while not ctx.out_of_time():
        loss = trainer.step(number)
        number += 1
        ctx.log(number, loss)
