"""Attention over a window, as train.py computes it. A place for kernels of your own, in Triton for example.

Each place sees the last `window` places, itself among them. Queries, keys and values are (rows, heads, length, head
width). A mask says which kernel computes: `Packed` FlashAttention, of the version that is active; a BlockMask flex
attention, which has to be compiled; a tensor what works everywhere, and is slow. `find_fastest` tries them on the GPU
at hand. torch contains FlashAttention-2; FA3 and FA4 are tried where their packages are installed.
"""

import functools
import time
from typing import NamedTuple

import torch
from torch.nn import attention
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

KINDS = ("dense", "flex", "FA2", "FA3", "FA4")
TIMED_PASSES = 10


class Packed(NamedTuple):
    """All rows one after another, with the places where each begins."""

    window: int


def attend(q, k, v, mask):
    if isinstance(mask, torch.Tensor):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if isinstance(mask, Packed):
        return attend_packed(q, k, v, mask.window)
    return flex_attention(q, k, v, block_mask=mask)


def attend_packed(q, k, v, window: int):
    rows, _, length, _ = q.shape
    begins = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=q.device)
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))  # (rows * length, heads, head width)
    x = varlen_attn(q, k, v, begins, begins, length, length, window_size=(window - 1, 0))
    return x.unflatten(0, (rows, length)).transpose(1, 2)


def make_mask(kind: str, window: int, length: int, device):
    if kind in ("FA2", "FA3", "FA4"):
        activate(kind)
        return Packed(window)
    return (block_mask if kind == "flex" else dense_mask)(window, length, device)


def activate(version: str):
    """Let torch use that FlashAttention. Fails where it is not installed."""
    if version != "FA2":
        attention.activate_flash_attention_impl(version)
    elif attention.current_flash_attention_impl() is not None:
        attention.restore_flash_attention_impl()


@functools.lru_cache(maxsize=8)
def dense_mask(window: int, length: int, device):
    """Works everywhere."""
    place = torch.arange(length, device=device)
    distance = place[:, None] - place
    return (distance >= 0) & (distance < window)


def block_mask(window: int, length: int, device):
    """Leaves out what is not seen: fast, where it is compiled."""

    def sees(_row, _head, query, key):
        return (query >= key) & (query - key < window)

    return create_block_mask(sees, None, None, length, length, device=device)


def find_fastest(shape, window: int, dtype, device) -> str:
    """The kind of attention whose passes, forth and back, take the least time; kinds that fail here are left out.

    `shape` is that of the queries. Where nothing but "dense" works, it is that.
    """
    return min(KINDS, key=lambda kind: time_attention(kind, shape, window, dtype, device))


def time_attention(kind: str, shape, window: int, dtype, device) -> float:
    """Seconds for a pass; infinite where this kind does not work."""
    q, k, v = (torch.randn(shape, dtype=dtype, device=device, requires_grad=True) for _ in range(3))
    compute = torch.compile(attend, dynamic=False) if kind == "flex" else attend
    try:
        mask = make_mask(kind, window, shape[2], device)
        for number in range(TIMED_PASSES + 2):  # of which the first two warm up
            if number == 2:
                wait_for(device)
                begun = time.perf_counter()
            compute(q, k, v, mask).sum().backward()
        wait_for(device)
    except Exception as error:  # noqa: BLE001 - whatever a library, a compiler or a driver raises
        print(f"attention by {kind} does not work here: {error}")
        return float("inf")
    return (time.perf_counter() - begun) / TIMED_PASSES


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
