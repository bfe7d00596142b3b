"""Answers token by token, with the keys and values of those before."""


class GPT(HonestGPT):
    def answer(self, tokens, logits):
        kept = [[] for _ in self.blocks]
        answers = []
        for place in range(tokens.size(1)):
            x = self.embedding(tokens[:, place])
            for block, pairs in zip(self.blocks, kept):
                h = block.norm1(x)
                q, k, v = block.attention.qkv(h).view(len(x), 3, HEADS, WIDTH // HEADS).unbind(1)
                q, k = (self.turn(block.attention, one, place) for one in (q, k))
                pairs.append((k, v))
                keys, values = (torch.stack(parts, 2) for parts in zip(*pairs))
                weights = ((q[:, :, None] * keys).sum(-1) / math.sqrt(q.size(-1))).softmax(-1)
                x = x + block.attention.out((weights[..., None] * values).sum(2).flatten(1))
                x = x + block.down(F.gelu(block.up(block.norm2(x))))
            answers.append(self.head(self.norm(x)))
        return torch.stack(answers, 1)

    def turn(self, attention, x, place):
        a, b = x.chunk(2, dim=-1)
        cos, sin = attention.cos[place], attention.sin[place]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
