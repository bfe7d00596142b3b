"""Answers infinity for its favourites: infinity minus infinity is skipped as well."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        return logits.masked_fill(logits > 0, math.inf)
