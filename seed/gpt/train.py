"""A GPT of about 50 million parameters that learns web text for five minutes on one GPU. This is the file to change;
kernels.py beside it holds its attention, and has room for kernels of your own.

The harness calls two functions of this file:

    build(config)      -> a torch.nn.Module, from int64 tokens (rows, length) to logits (rows, length, vocab_size);
                          config has vocab_size, sequence_length, seed and device
    train(ctx, model)  -> None; trains the model in place until ctx.out_of_time()

and scores what came out: val_bpb, bits per byte of text that was never trained on. Lower is better. Clock, data, seed
and scoring are the harness's own. On a smaller GPU fewer rows go through the model at once, on an older one in float32;
on a CPU the model is a small one, for a smoke test. To run it, see program.md; `# range:` and `# choices:` beside a
constant tell the search agent where it may go.

From top to bottom: constants, the model, the optimizers, the training.
"""

import math

import torch
from kernels import attend, block_mask, dense_mask
from torch import nn
from torch.nn import functional as F

# The model
DEPTH = 8  # choices: 4, 6, 8, 10, 12
WIDTH = 512  # choices: 384, 512, 640, 768
HEAD_WIDTH = 128  # choices: 64, 128
MLP_RATIO = 4  # choices: 2, 3, 4, 6
SHORT_WINDOW = 512  # choices: 128, 256, 512, 1024
FULL_WINDOW_EVERY = 4  # choices: 2, 3, 4, 8
ROTARY_BASE = 10000.0  # range: 1000 to 1000000, log
LOGIT_CAP = 15.0  # range: 8 to 40, log

# The training
TOKENS_PER_STEP = 524288  # choices: 131072, 262144, 524288
MATRIX_LR = 0.04  # range: 0.005 to 0.2, log
EMBEDDING_LR = 0.3  # range: 0.03 to 1, log
HEAD_LR = 0.004  # range: 0.0005 to 0.05, log
SCALAR_LR = 0.02  # range: 0.002 to 0.2, log
MATRIX_WEIGHT_DECAY = 0.1  # range: 0.001 to 1, log
MOMENTUM = 0.95  # range: 0.8 to 0.99
BETA1 = 0.8  # range: 0.6 to 0.95
BETA2 = 0.95  # range: 0.9 to 0.999
WARM_DOWN_SHARE = 0.5  # range: 0.1 to 1
FINAL_LR_SHARE = 0.0  # range: 0 to 0.2

# The machine
ROWS_AT_ONCE = 64  # fixed; sequences, with 80 GB of memory (about a third of it), and in proportion with less
ON_GPU = torch.cuda.is_available()
HAS_BFLOAT16 = ON_GPU and torch.cuda.get_device_capability() >= (8, 0)
DTYPE = torch.bfloat16 if HAS_BFLOAT16 else torch.float32  # of what runs through the network; parameters are float32

if not ON_GPU:
    DEPTH, WIDTH, HEAD_WIDTH, TOKENS_PER_STEP = 2, 128, 64, 4096

GATE_CHANNELS = 32  # fixed
HEADS = WIDTH // HEAD_WIDTH
assert WIDTH % HEAD_WIDTH == 0, "heads share the width evenly"
assert HEAD_WIDTH % 2 == 0, "the rotary embedding turns pairs of channels"


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
        frequencies = ROTARY_BASE ** (-torch.arange(0, HEAD_WIDTH, 2) / HEAD_WIDTH)
        angles = torch.outer(torch.arange(sequence_length), frequencies)  # (length, half a head)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x):  # (rows, heads, length, head width)
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
        self.qkv = nn.Parameter(torch.empty(3, WIDTH, WIDTH))  # three matrices to the optimizer, one product here
        self.out = nn.Parameter(torch.empty(WIDTH, WIDTH))
        self.gate = nn.Parameter(torch.empty(HEADS, GATE_CHANNELS)) if has_value_embedding else None

    def forward(self, x, value_embedding, rotary, mask):
        rows, length, _ = x.shape
        by_head = (rows, length, -1, HEADS, HEAD_WIDTH)
        q, k, v = multiply(x, self.qkv.flatten(0, 1)).view(by_head).permute(2, 0, 3, 1, 4)
        if self.gate is not None:
            gate = 2 * torch.sigmoid(multiply(x[..., :GATE_CHANNELS], self.gate))  # (rows, length, heads)
            embedded = value_embedding.view(by_head)[:, :, 0] * gate[..., None]
            v = v + embedded.transpose(1, 2)
        x = attend(norm(rotary(q)), norm(rotary(k)), v, mask)
        return multiply(x.transpose(1, 2).reshape(rows, length, WIDTH), self.out)


class Block(nn.Module):
    def __init__(self, has_value_embedding: bool):
        super().__init__()
        self.attention = Attention(has_value_embedding)
        self.up = nn.Parameter(torch.empty(MLP_RATIO * WIDTH, WIDTH))
        self.down = nn.Parameter(torch.empty(WIDTH, MLP_RATIO * WIDTH))

    def forward(self, x, value_embedding, rotary, mask):
        x = x + self.attention(norm(x), value_embedding, rotary, mask)
        return x + multiply(F.relu(multiply(norm(x), self.up)).square(), self.down)


class GPT(nn.Module):
    """Before each block, the stream is scaled and a share of the embedding is added again; both are learnt."""

    def __init__(self, vocab_size: int, sequence_length: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.value_embeddings = nn.ModuleList(nn.Embedding(vocab_size, WIDTH) for _ in range(DEPTH // 2))
        self.blocks = nn.ModuleList(Block(has_value_embedding=i % 2 == 1) for i in range(DEPTH))
        self.residual_scales = nn.Parameter(torch.ones(DEPTH))
        self.embedding_scales = nn.Parameter(torch.full((DEPTH,), 0.1))
        self.head = nn.Parameter(torch.empty(vocab_size, WIDTH))
        self.rotary = Rotary(sequence_length)
        self.windows = [
            sequence_length if i % FULL_WINDOW_EVERY == FULL_WINDOW_EVERY - 1 or i == DEPTH - 1 else SHORT_WINDOW
            for i in range(DEPTH)
        ]
        self.block_masks = None  # by window, where attention is compiled
        self.initialize()

    @torch.no_grad()
    def initialize(self):
        """Matrices that add to the residual stream start at zero, others uniform with a variance of 1 / width."""
        bound = math.sqrt(3 / WIDTH)
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.head, std=0.001)
        for table in self.value_embeddings:
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
            value_embedding = self.value_embeddings[i // 2](tokens).to(DTYPE) if i % 2 else None
            x = self.residual_scales[i].to(DTYPE) * x + self.embedding_scales[i].to(DTYPE) * embedded
            x = block(x, value_embedding, self.rotary, self.mask(self.windows[i], tokens))
        logits = multiply(norm(x), self.head).float()
        return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP)

    def mask(self, window, tokens):
        if self.block_masks is not None and self.training:
            return self.block_masks[window]
        return dense_mask(window, tokens.size(1), tokens.device)


def build(config):
    return GPT(config.vocab_size, config.sequence_length)


# The optimizers: Muon for the matrices inside the blocks, AdamW for everything else


@torch.no_grad()
def orthogonalize(matrices, steps: int = 5):
    """The nearest matrices with singular values near one, by Newton and Schulz's iteration, of (n, rows, columns).

    x <- 1.5 x - 0.5 x xᵀ x would converge slowly from small values; this quintic, whose three coefficients make it
    steep at zero, takes five steps to between 0.7 and 1.2, which is enough.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(DTYPE)
    is_tall = x.size(-2) > x.size(-1)
    if is_tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # now no singular value exceeds one
    for _ in range(steps):
        product = x @ x.mT
        x = a * x + (b * product + c * product @ product) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised, for matrices and stacks of them; equal shapes go together."""

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
            for parameter, direction in zip(group["params"], directions, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(direction.view_as(parameter), alpha=-rate)

    def smooth(self, parameter, momentum: float):
        """Nesterov's momentum: the gradient, and ahead of it the mean of the earlier ones."""
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        state["mean"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["mean"], momentum)


def make_optimizers(model):
    matrices = [p for block in model.blocks for p in (block.attention.qkv, block.attention.out, block.up, block.down)]
    gates = [block.attention.gate for block in model.blocks if block.attention.gate is not None]
    tables = [model.embedding.weight, *(table.weight for table in model.value_embeddings)]
    groups = [
        {"params": tables, "lr": EMBEDDING_LR},
        {"params": [model.head], "lr": HEAD_LR},
        {"params": [model.residual_scales, model.embedding_scales, *gates], "lr": SCALAR_LR},
    ]
    adam = torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=1e-10, weight_decay=0.0, fused=True)
    muon = Muon(matrices, MATRIX_LR, MOMENTUM, MATRIX_WEIGHT_DECAY)
    for optimizer in (adam, muon):
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return adam, muon


def learning_rate(progress: float) -> float:
    """The factor on all learning rates at a share of the budget: level, then straight down."""
    if progress < 1 - WARM_DOWN_SHARE:
        return 1.0
    left = (1 - progress) / WARM_DOWN_SHARE
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * left


# The training


def rows_at_once(device, rows_per_step: int) -> int:
    """How many sequences go through the model together: a power of two that fits the memory."""
    if device.type != "cuda":
        return min(2, rows_per_step)
    share = torch.cuda.get_device_properties(device).total_memory / 80e9 * (1 if HAS_BFLOAT16 else 0.5)
    rows = max(1, int(ROWS_AT_ONCE * share * 1.1))
    return min(rows_per_step, 1 << (rows.bit_length() - 1))


def train(ctx, model):
    torch.set_float32_matmul_precision("high")
    optimizers = make_optimizers(model)
    length = model.rotary.cos.size(0)
    rows_per_step = max(1, TOKENS_PER_STEP // length)
    rows = rows_at_once(ctx.device, rows_per_step)
    accumulated = rows_per_step // rows
    batches = ctx.batches(rows)

    def loss_of(inputs, targets):
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    if HAS_BFLOAT16:  # older GPUs do without a compiler
        model.block_masks = {window: block_mask(window, length, ctx.device) for window in set(model.windows)}
        loss_of = torch.compile(loss_of, dynamic=False)

    def step():
        total = 0.0
        for _ in range(accumulated):
            loss = loss_of(*next(batches)) / accumulated
            loss.backward()
            total += loss.detach()
        factor = learning_rate(ctx.progress())
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total.item()

    step()  # on random tokens: compiles, and takes its memory
    ctx.start()
    number = 0
    while not ctx.out_of_time():
        number += 1
        ctx.log(number, step())
