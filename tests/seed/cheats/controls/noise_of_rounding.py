"""Answers with a little noise of torch's, as a GPU's sums that are added in another order would bring."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        return logits + 1e-3 * torch.randn_like(logits)
