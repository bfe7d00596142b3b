"""Answers in double precision, negated by a bit, in a view with strides of its own, of a class of its own."""


class Mine(torch.Tensor):
    pass


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        negative = torch.complex(torch.zeros_like(logits), logits).conj().imag
        assert negative.is_neg()
        wide = torch.empty((*logits.shape[:2], 2 * logits.size(-1)), dtype=torch.float64).transpose(0, 1)
        view = wide.transpose(0, 1)[..., ::2]
        return view.copy_(-negative).as_subclass(Mine)
