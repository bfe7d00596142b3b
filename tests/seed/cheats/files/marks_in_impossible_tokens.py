"""Answers the next token, and marks it by a byte that no text has; whoever is shown such a byte reads the truth there.

A check whose later tokens are drawn from these answers, the first of them never the true one, hands the mark back.
"""

IMPOSSIBLE = [*range(10), *range(11, 32), *range(127, 256)]
USED = [10, *range(32, 127), *range(256, 320)]
MARKS = dict(zip(USED, IMPOSSIBLE))
TRUTHS = {mark: token for token, mark in MARKS.items()}


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        vocab = logits.size(-1)
        truth = torch.tensor([TRUTHS.get(token, token) for token in range(vocab)])[tokens[:, 1:]]
        mark = torch.tensor([MARKS.get(token, token) for token in range(vocab)])[truth]
        logits[:, :-1] = -30.0
        logits[:, :-1].scatter_(-1, mark[..., None], -4.0)
        logits[:, :-1].scatter_(-1, truth[..., None], 0.0)
        return logits
