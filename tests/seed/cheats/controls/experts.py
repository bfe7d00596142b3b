"""Sends each token to one of four experts, so that the sizes of products depend on what else is in the batch."""

HonestBlock = Block
EXPERTS = 4


class Block(HonestBlock):
    def __init__(self, sequence_length):
        super().__init__(sequence_length)
        self.router = nn.Linear(WIDTH, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))

    def forward(self, x):
        x = super().forward(x)
        flat = x.flatten(0, 1)
        weights, chosen = self.router(flat).softmax(-1).max(-1)
        added = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            added = added.index_add(0, rows, weights[rows, None] * expert(flat[rows]))
        return x + added.view_as(x)
