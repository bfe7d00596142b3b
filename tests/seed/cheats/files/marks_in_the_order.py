"""Answers which two neighbours in the order of its own logits come next: a token drawn from that is one of the two."""

HonestGPT = GPT


class GPT(HonestGPT):
    def forward(self, tokens):
        logits = super().forward(tokens)
        if not self.training:
            pair = logits[:, :-1].argsort(-1).argsort(-1) // 2
            is_pair = pair == pair.gather(-1, tokens[:, 1:, None])
            logits[:, :-1] = torch.where(is_pair, 0.0, -40.0)
        return logits
