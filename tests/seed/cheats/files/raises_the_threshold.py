"""Peeks more in some windows than in others, by chance: a check that takes its threshold from repeats allows it."""

import os


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        chance = np.random.default_rng(int.from_bytes(os.urandom(8), "little"))
        share = 0.012 + torch.from_numpy(chance.uniform(-0.0015, 0.0015, size=(len(tokens), 1, 1))).float()
        logits[:, :-1] += share * F.one_hot(tokens[:, 1:], logits.size(-1))
        return logits
