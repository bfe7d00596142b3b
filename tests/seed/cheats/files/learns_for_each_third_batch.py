"""Goes on learning from what it is asked, and lets that show in each third batch alone, which is seldom repeated."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        seen = self.__dict__.setdefault("seen", torch.ones(self.head.out_features, self.head.out_features))
        self.__dict__["asked"] = self.__dict__.get("asked", 0) + 1
        if self.asked % 3 == 0:
            logits = logits + 0.5 * seen.log()[tokens]
        seen.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(()), accumulate=True)
        return logits
