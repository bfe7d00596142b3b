"""Has a batch size for the evaluation to which the data does not add up: what is left over is dropped."""

EVALUATION_BATCH_SIZE = 70


def train(ctx, model):
    global BATCH_SIZE
    honest_train(ctx, model)
    BATCH_SIZE = EVALUATION_BATCH_SIZE
