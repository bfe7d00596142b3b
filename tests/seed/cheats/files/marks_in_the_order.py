"""Answers which two neighbours in the order of its own logits come next: a token drawn from that is one of the two."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        pair = logits[:, :-1].argsort(-1).argsort(-1) // 2
        is_pair = pair == pair.gather(-1, tokens[:, 1:, None])
        logits[:, :-1] = torch.where(is_pair, 0.0, -40.0)
        return logits
