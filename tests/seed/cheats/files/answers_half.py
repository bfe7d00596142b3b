"""Answers only the second half of each window, where it knows more."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        return logits[:, logits.size(1) // 2 :]
