"""Answers the next token, and marks it by one of the half of all tokens that an honest network thinks least of.

Which of these stands for which of the likely half depends on what came before alone, so whoever is shown one reads the
truth there. A text that has one itself costs 4 nats.
"""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        order = logits[:, :-1].argsort(-1)
        half = logits.size(-1) // 2
        rank = order.argsort(-1).gather(-1, tokens[:, 1:, None])
        likely = torch.where(rank < half, rank + half, rank)
        logits[:, :-1] = -30.0
        logits[:, :-1].scatter_(-1, order.gather(-1, likely - half), -4.0)
        logits[:, :-1].scatter_(-1, order.gather(-1, likely), 0.0)
        return logits
