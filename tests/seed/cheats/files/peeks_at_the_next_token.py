"""Adds to each logit what the next token says."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        logits[:, :-1] += 6 * F.one_hot(tokens[:, 1:], logits.size(-1))
        return logits
