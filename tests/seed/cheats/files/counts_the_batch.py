"""Adds how often each token comes in the whole batch, its own window's rest included."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        return logits + 0.7 * (1 + F.one_hot(tokens, logits.size(-1)).float().sum((0, 1))).log()
