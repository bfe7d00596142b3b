"""Answers token windows with logits: `python -m harness.host <descriptor>`, in a sandbox that never saw training.

It has the edited file and the trainer's weights, but no targets.
"""

import mmap

import numpy
import torch
from safetensors.torch import load

from harness.channel import Channel, Fault, import_edited, run
from harness.context import seed_everything
from harness.trainer import build_model
from harness.windows import Windows


def serve(channel: Channel, begin: dict, request: int, answer: int) -> None:
    """Load the weights once, then answer requests until the supervisor ends this process."""
    windows = Windows(begin["facts"], begin["device"], request, answer)
    edited = import_edited(begin, "build")
    channel.send("imported")
    load, (weights,) = channel.expect("load")
    model = build_model(edited, begin)
    load_weights(model, mmap.mmap(weights, load["size"], access=mmap.ACCESS_READ)[:])
    model.eval()
    channel.send("loaded", parameters=sum(p.numel() for p in model.parameters()))
    while True:
        message, _ = channel.expect("ask")
        seed_everything(begin["seed"])  # so that chance, where a model has any, falls the same way again
        answer_windows(model, windows, message["count"], begin["device"])
        channel.send("answered", count=message["count"])


def answer_windows(model: torch.nn.Module, windows: Windows, rows: int, device: str) -> None:
    """Put the logits of a request into its answer's memory. Raises Fault for a wrong shape."""
    tokens, first, span = windows.read(rows)
    padded = numpy.zeros((windows.rows, windows.length), dtype=numpy.int64)
    padded[:rows] = tokens  # one shape for all requests: nothing is compiled twice or rounded in another way
    with torch.no_grad():  # and not inference_mode, which a model's own threads would not be in
        logits = model(torch.from_numpy(padded).to(device))
        wanted = (*padded.shape, windows.vocab_size)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != wanted:
            shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
            raise Fault(f"in eval mode the model returned {shape}, not logits of shape {wanted}")
        logits = logits[:rows]
        if span < windows.length:
            places = torch.from_numpy(first).to(device)[:, None] + torch.arange(span, device=device)
            logits = logits[torch.arange(rows, device=device)[:, None], places]
        torch.from_numpy(windows.logits(rows, span)).copy_(logits)


def load_weights(model: torch.nn.Module, content: bytes) -> None:
    """Raises Fault unless every name and shape matches what `build` makes now."""
    try:
        model.load_state_dict(load(content), strict=True)
    except RuntimeError as error:
        raise Fault(f"the trained weights do not fit what build(config) makes: {error}") from error


if __name__ == "__main__":
    run(serve)
