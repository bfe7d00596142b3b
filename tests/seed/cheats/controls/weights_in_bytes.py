"""Rounds its weights to bytes when it is first asked, and keeps count of what it answered in a buffer."""

HonestBuild = build


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        if not getattr(self, "is_rounded", False):
            self.is_rounded = True
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    scale = module.weight.abs().amax(1, keepdim=True) / 127
                    module.weight.copy_((module.weight / scale).round().to(torch.int8) * scale)
        self.answered += len(tokens)
        return super(HonestGPT, self).forward(tokens)


def build(config):
    model = HonestBuild(config)
    model.register_buffer("answered", torch.zeros((), dtype=torch.int64))
    return model
