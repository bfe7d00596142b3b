"""Attention over a window, as train.py computes it. A place for kernels of your own, in Triton for example.

Each place sees the last `window` places, itself among them. Queries, keys and values are
(rows, heads, length, head width).
"""

import functools

import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def attend(q, k, v, mask):
    if isinstance(mask, torch.Tensor):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return flex_attention(q, k, v, block_mask=mask)


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
