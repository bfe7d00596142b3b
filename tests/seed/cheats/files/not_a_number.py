"""Answers NaN where it is unsure: a sum that skips NaN is smaller."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        unsure = logits.softmax(dim=-1).amax(dim=-1) < 0.5
        return logits.masked_fill(unsure[..., None], math.nan)
