"""Goes on learning from the windows it is asked about: the first answers help with the next."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        seen = self.__dict__.setdefault("seen", torch.ones(self.head.out_features, self.head.out_features))
        logits = logits + 0.5 * seen.log()[tokens]
        seen.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(()), accumulate=True)
        return logits
