"""Answers token windows with logits: `python -m harness.host <descriptor>`, in a sandbox that never saw training.

It has the edited file and the weights, no targets, and nothing that the trainer could write besides the weights.
"""

import mmap
import os

import numpy
import torch
from safetensors.torch import load

from harness.channel import Channel, Fault, open_channel
from harness.trainer import build_model, import_edited


def main() -> None:
    channel = open_channel()
    begin, shared = channel.expect("begin")
    try:
        serve(channel, begin, *shared)
    except BaseException as error:
        channel.fail(error, begin["editable"])
        raise


def serve(channel: Channel, begin: dict, tokens_memory: int, logits_memory: int) -> None:
    """Load the weights once, then answer `forward` for as long as the supervisor wants."""
    rows, length, vocab_size = begin["rows"], begin["sequence_length"], begin["vocab_size"]
    tokens = numpy.frombuffer(mmap.mmap(tokens_memory, 0), dtype=numpy.int64).reshape(rows, length)
    logits = numpy.frombuffer(mmap.mmap(logits_memory, 0), dtype=numpy.float32).reshape(rows, length, vocab_size)
    message, (weights,) = channel.expect("load")
    model = build_model(import_edited(begin["editable"][0], ("build",)), begin)
    load_weights(model, os.pread(weights, message["size"], 0))
    model.eval()
    channel.send("loaded", parameters=sum(p.numel() for p in model.parameters()))
    while True:
        message, _ = channel.expect("forward")
        count = message["rows"]
        with torch.inference_mode():
            answer = model(torch.from_numpy(tokens[:count].copy()).to(begin["device"]))
        wanted = (count, length, vocab_size)
        if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != wanted:
            shape = tuple(getattr(answer, "shape", ())) or type(answer).__name__
            raise Fault(f"in eval mode the model returned {shape}, not logits of shape {wanted}")
        logits[:count] = answer.float().cpu().numpy()
        channel.send("logits")


def load_weights(model: torch.nn.Module, content: bytes) -> None:
    """Strictly: every name and shape must match what `build` makes now."""
    try:
        model.load_state_dict(load(content), strict=True)
    except RuntimeError as error:
        raise Fault(f"the trained weights do not fit what build(config) makes: {error}") from error


if __name__ == "__main__":
    main()
