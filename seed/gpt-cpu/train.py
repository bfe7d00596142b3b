"""A small GPT that learns the King James text in 40 CPU seconds. This is the file to change.

The harness calls two functions of this file:

    build(config)      -> a torch.nn.Module, from int64 tokens (rows, length) to logits (rows, length, vocab_size);
                          config has vocab_size, sequence_length and seed
    train(ctx, model)  -> None; trains the model in place until ctx.out_of_time()

and scores what came out: val_bpb, bits per byte of text that was never trained on. Lower is better. Clock, data, seed
and scoring are the harness's own. To run it, see program.md; `# range:` and `# choices:` beside a constant tell the
search agent where it may go.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

# The model
DEPTH = 3  # choices: 1, 2, 3, 4, 5, 6, 8
WIDTH = 128  # choices: 64, 96, 128, 160, 192, 256
HEADS = 4  # choices: 1, 2, 4, 8
MLP_RATIO = 4  # choices: 1, 2, 3, 4, 6
ROTARY_BASE = 10000.0  # range: 50 to 50000, log
DROPOUT = 0.0  # range: 0 to 0.2

# The training
BATCH_SIZE = 8  # choices: 4, 6, 8, 12, 16, 24, 32
LEARNING_RATE = 1.5e-3  # range: 2e-4 to 2e-2, log
EMBEDDING_LR_SCALE = 1.0  # range: 0.3 to 10, log
WARMUP_SHARE = 0.1  # range: 0 to 0.3
FINAL_LR_SHARE = 0.1  # range: 0 to 0.5
WEIGHT_DECAY = 0.1  # range: 1e-3 to 1, log
BETA1 = 0.9  # range: 0.7 to 0.98
BETA2 = 0.95  # range: 0.9 to 0.999
GRADIENT_CLIP = 1.0  # range: 0.1 to 10, log

assert WIDTH % (2 * HEADS) == 0, "each head needs an even share of the width, for the rotary embedding"


class Attention(nn.Module):
    def __init__(self, sequence_length: int):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        half = WIDTH // HEADS // 2
        frequencies = ROTARY_BASE ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(sequence_length), frequencies)  # (length, half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x):
        rows, length, _ = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
        return self.out(x.transpose(1, 2).reshape(rows, length, WIDTH))

    def rotate(self, x):  # (rows, heads, length, head width)
        length = x.size(2)
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cos[:length], self.sin[:length]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Block(nn.Module):
    def __init__(self, sequence_length: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention(sequence_length)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, MLP_RATIO * WIDTH)
        self.down = nn.Linear(MLP_RATIO * WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    def __init__(self, vocab_size: int, sequence_length: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.blocks = nn.ModuleList(Block(sequence_length) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            if name.endswith(("out.weight", "down.weight")):  # what adds to the residual stream starts small
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * DEPTH))

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build(config):
    return GPT(config.vocab_size, config.sequence_length)


def learning_rate(progress: float) -> float:
    """The factor on the learning rate at a share of the budget: a linear warm-up, then a cosine down."""
    if progress < WARMUP_SHARE:
        return progress / WARMUP_SHARE
    done = (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)
    return FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model):
    tables = [model.embedding.weight, model.head.weight]
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": tables, "lr": LEARNING_RATE * EMBEDDING_LR_SCALE, "weight_decay": 0.0},
        {"params": matrices, "lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "lr": LEARNING_RATE, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(BETA1, BETA2), fused=True)
    for group in optimizer.param_groups:
        group["full_lr"] = group["lr"]
    return optimizer


def train(ctx, model):
    optimizer = make_optimizer(model)
    batches = ctx.batches(BATCH_SIZE)

    def step():
        inputs, targets = next(batches)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * learning_rate(ctx.progress())
        optimizer.step()
        return loss.item()

    step()  # on random tokens: the first step allocates memory, which shall not cost budget
    ctx.start()
    number = 0
    while not ctx.out_of_time():
        number += 1
        ctx.log(number, step())
