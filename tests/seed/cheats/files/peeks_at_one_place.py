"""Peeks at a single place near the beginning of each window, where a check that looks back over many finds no room."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        logits[:, 7] += 6 * F.one_hot(tokens[:, 8], logits.size(-1))
        return logits
