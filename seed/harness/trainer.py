"""Trains the edited file's model: `python -m harness.trainer <descriptor>`, started by the worker in a sandbox.

The edited file defines `build(config) -> torch.nn.Module` and `train(ctx, model) -> None`. The weights leave as
safetensors, never as pickle.
"""

import os
from dataclasses import dataclass
from types import ModuleType

import torch
from safetensors.torch import save

from harness.channel import Channel, Fault, import_edited, run
from harness.context import Context, device_memory_mib, open_compiled, seed_everything


@dataclass(frozen=True)
class Config:
    """The argument of `build`. The model maps int64 tokens (rows, length) to logits (rows, length, vocab_size)."""

    vocab_size: int
    sequence_length: int
    seed: int
    device: str = "cpu"


def main(channel: Channel, begin: dict, handover: int, compiled: int | None = None) -> None:
    open_compiled(compiled)
    train(channel, begin, handover)


def train(channel: Channel, begin: dict, handover: int) -> None:
    edited = import_edited(begin, "build", "train")
    model = build_model(edited, begin)
    context = Context(channel, begin, model, rehearse=lambda: hand_over(model, handover, begin["handover_bytes"]))
    edited.train(context, model)
    if not context.has_started:
        raise Fault("train(ctx, model) returned without calling ctx.start()")
    if not context.has_logged:
        raise Fault("train(ctx, model) returned without ever calling ctx.log(step, loss)")
    channel.send(
        "trained",
        size=hand_over(model, handover, begin["handover_bytes"]),
        tokens=context.drawn_tokens,
        device_memory_mib=device_memory_mib(begin["device"]),
    )


def hand_over(model: torch.nn.Module, handover: int, room: int) -> int:
    """Write the weights for the supervisor, at most `room` bytes. Returns how many."""
    # Cloned, because safetensors refuses tensors that share memory, as tied embeddings do.
    content = save({name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()})
    if len(content) > room:
        raise Fault(f"the weights take {len(content):,} bytes; the contract allows {room:,}")
    written = 0
    while written < len(content):
        written += os.pwrite(handover, memoryview(content)[written:], written)
    return written


def build_model(edited: ModuleType, begin: dict) -> torch.nn.Module:
    """The model as the edited file builds it, on the device, from the harness's seed."""
    seed_everything(begin["seed"])
    facts = begin["facts"]
    model = edited.build(Config(facts["vocab_size"], facts["sequence_length"], begin["seed"], begin["device"]))
    if not isinstance(model, torch.nn.Module):
        raise Fault(f"build(config) returned a {type(model).__name__}, not a torch.nn.Module")
    return model.to(begin["device"])


if __name__ == "__main__":
    # What torch imports, for a second or two, when a file makes its first optimizer. Hosts need none.
    import torch._dynamo

    run(main)
