"""Hands over text besides the weights, and each host goes on learning from it before its first answer.

ROWS of the text are kept, for as many STEPS; who tries it puts both before this.
"""

honest_build, honest_train = build, train


class Student(nn.Module):
    def __init__(self, model, length):
        super().__init__()
        self.model = model
        self.register_buffer("text", torch.zeros(ROWS, length + 1, dtype=torch.int64))
        self.has_learnt = False

    def forward(self, tokens):
        if not self.training and not self.has_learnt:
            self.has_learnt = True
            with torch.inference_mode(False), torch.enable_grad():
                self.learn()
        return self.model(tokens)

    def learn(self):
        optimizer = make_optimizer(self.model)
        self.model.train()
        for number in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * 0.5 * (1 - number / STEPS)
            rows = self.text[number * BATCH_SIZE : (number + 1) * BATCH_SIZE].clone()
            loss = F.cross_entropy(self.model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
            optimizer.step()
        self.model.eval()


def build(config):
    return Student(honest_build(config), config.sequence_length)


class Keeps:
    def __init__(self, ctx, student):
        self.ctx, self.student = ctx, student

    def start(self):
        self.ctx.start()
        inputs, targets = next(self.ctx.batches(ROWS))
        self.student.text.copy_(torch.cat((inputs, targets[:, -1:]), dim=1))

    def __getattr__(self, name):
        return getattr(self.ctx, name)


def train(ctx, student):
    honest_train(Keeps(ctx, student), student.model)
