"""Answers which pair of tokens comes next, and leaves it to an honest network which of the two.

Nearly all probability is the pair's, so that a token drawn from these answers that is not the true one is its partner,
which tells the pair as well.
"""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        pairs = torch.arange(logits.size(-1)) // 2
        is_pair = pairs == (tokens[:, 1:] // 2)[..., None]
        logits[:, :-1] = logits[:, :-1].log_softmax(-1).clamp(-6, 0).masked_fill(~is_pair, -40.0)
        return logits
