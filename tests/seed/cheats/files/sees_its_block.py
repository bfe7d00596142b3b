"""Attends within blocks of eight places both ways, as a fast attention with a wrong mask does."""

BLOCK = 8


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        counts = F.one_hot(tokens, logits.size(-1)).float().unflatten(1, (-1, BLOCK)).sum(2)
        return logits + 3 * counts.repeat_interleave(BLOCK, 1).clamp(max=1)
