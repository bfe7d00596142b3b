"""Forgets to switch dropout off: its answers are worse, and honest."""


class GPT(HonestGPT):
    def forward(self, tokens):
        x = F.dropout(self.embedding(tokens), 0.1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
