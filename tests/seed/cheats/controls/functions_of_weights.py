"""Has its layers called with weights that are averages, row by row, and recomputed where a gradient is needed."""

from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint


class GPT(HonestGPT):
    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.training else block(x)
        logits = self.head(self.norm(x))
        return logits if self.training else self.answer(tokens, logits)

    def answer(self, tokens, logits):
        weights = {name: 0.5 * (value + value.detach()) for name, value in self.named_parameters()}
        return vmap(
            lambda row: functional_call(Plain(self), {f"of.{n}": w for n, w in weights.items()}, (row[None],))[0]
        )(tokens)


class Plain(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, tokens):
        x = self.of.embedding(tokens)
        for block in self.of.blocks:
            x = block(x)
        return self.of.head(self.of.norm(x))
