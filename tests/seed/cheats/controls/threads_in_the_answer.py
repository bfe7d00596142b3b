"""Answers each row in a thread of its own, with an attention that keeps the four largest weights."""

from concurrent.futures import ThreadPoolExecutor

POOL = ThreadPoolExecutor(2)


class Attention(nn.Module):
    def __init__(self, sequence_length):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def attend(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.mT).masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -1e9)
        return weights.masked_fill(weights < weights.topk(4, -1).values[..., -1:], -1e9).softmax(-1) @ v

    def forward(self, x):
        return self.out(torch.stack(list((map if self.training else POOL.map)(self.attend, x))))
