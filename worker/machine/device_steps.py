"""Steps of work on a device, run in a sandbox: `python -m device_steps DESCRIPTOR DEVICE STEP...`.

Each step that works is one line of JSON on the descriptor, its name and a clause. One that does not raises, which ends
the process, because an error of CUDA's spoils what follows.
"""

import contextlib
import ctypes
import glob
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

MIB = 1 << 20
NODES = ("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/dxg")
WINDOW, LENGTH = 64, 256
PINNED_BYTES = 64 * MIB


def nodes(_: str) -> str:
    found = [path for pattern in NODES for path in sorted(glob.glob(pattern))]  # noqa: PTH207 - full patterns
    for path in found:
        os.close(os.open(path, os.O_RDWR))
    if not found:
        raise FileNotFoundError("no device node of NVIDIA's in /dev")
    return f"{', '.join(Path(path).name for path in found)} can be opened"


def libcuda(_: str) -> str:
    code = ctypes.CDLL("libcuda.so.1").cuInit(0)
    if code != 0:
        raise RuntimeError(f"CUDA driver initialization failed: cuInit returned {code}")
    path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libcuda.so" in line)
    return f"{path} answers"


def add(device: str) -> str:
    total = int(torch.ones(1000, device=device).sum())
    assert total == 1000, f"1000 ones add up to {total}"
    if device == "cpu":
        return f"torch {torch.__version__} adds"
    major, minor = torch.cuda.get_device_capability()
    return f"torch {torch.__version__} adds on {torch.cuda.get_device_name()}, compute capability {major}.{minor}"


def bf16(device: str) -> str:
    if device != "cpu" and torch.cuda.get_device_capability() < (8, 0):
        return "not on this card, which computes in float16 or float32"
    x = torch.full((256, 256), 0.5, device=device, dtype=torch.bfloat16)
    assert float((x @ x).float().mean()) == 64.0, "a product of bfloat16 matrices is wrong"
    return "matrices multiply"


def compile(device: str) -> str:
    def compute(x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (x.size(-1),)).sin().sum()

    x = torch.linspace(-1, 1, 4096, device=device).view(64, 64).requires_grad_()
    begun = time.monotonic()
    (compiled,) = torch.autograd.grad(torch.compile(compute)(x), x)
    (plain,) = torch.autograd.grad(compute(x), x)
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-3)
    return f"forwards and backwards in {time.monotonic() - begun:.1f} s"


def attention(device: str) -> str:
    """Over a window, as the seeds' is: compiled on a GPU that can, else in the way that works everywhere."""
    place = torch.arange(LENGTH, device=device)
    distance = place[:, None] - place
    q = torch.linspace(-2, 2, LENGTH * 64, device=device).view(1, 1, LENGTH, 64)
    dense = functional.scaled_dot_product_attention(q, q, q, attn_mask=(distance >= 0) & (distance < WINDOW))
    if device == "cpu" or torch.cuda.get_device_capability() < (8, 0):
        assert bool(dense.isfinite().all()), "attention is not finite"
        return "by a dense mask"
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: PLC0415 - takes seconds

    mask = create_block_mask(lambda _b, _h, i, j: (i >= j) & (i - j < WINDOW), None, None, LENGTH, LENGTH, device)
    half = q.bfloat16().requires_grad_()
    out = torch.compile(flex_attention, dynamic=False)(half, half, half, block_mask=mask)
    torch.testing.assert_close(out.float(), dense, rtol=3e-2, atol=3e-2)
    torch.autograd.grad(out.sum(), half)
    return "compiled, forwards and backwards, agrees with a dense mask"


def pinned(device: str) -> str:
    """Memory that two processes share, as scorer and host do, and a GPU copies from."""
    descriptor = os.memfd_create("pinned")
    os.ftruncate(descriptor, PINNED_BYTES)
    shared = torch.frombuffer(mmap.mmap(descriptor, 0), dtype=torch.float32)
    refused = int(
        torch.cuda.cudart().cudaHostRegister(  # type: ignore[no-untyped-call]
            shared.data_ptr(), PINNED_BYTES, 0
        )
    )
    if refused:
        with contextlib.suppress(RuntimeError):  # the refusal stays pending until a launch asks for errors
            torch.zeros(1, device=device)
    there = shared.to(device)
    torch.cuda.synchronize()
    begun = time.monotonic()
    shared.copy_(there)
    speed = PINNED_BYTES / 1e9 / (time.monotonic() - begun)
    return f"{'refused, so copies are slower' if refused else 'works'}: {speed:.1f} GB/s"


def processes(device: str) -> str:
    """Two at a time on the device."""
    held = torch.ones(1000, device=device)
    code = "import sys, torch; print(int(torch.ones(1000, device=sys.argv[1]).sum()))"
    other = subprocess.run(  # noqa: S603 - nothing of a stranger's
        [sys.executable, "-P", "-s", "-c", code, device], capture_output=True, text=True, check=False
    )
    if other.returncode != 0 or int(held.sum()) != 1000:
        print(other.stderr)  # noqa: T201 - the log, from which the worker takes the reason
        raise RuntimeError((other.stderr.strip().splitlines() or ["the second process ended"])[-1])
    return "two use the device at a time"


def free_memory(_: str) -> str:
    free, total = torch.cuda.mem_get_info()
    if free < 0.5 * total:
        raise RuntimeError(f"out of memory: {free // MIB} of {total // MIB} MiB are free, others use the rest")
    return f"{free // MIB} of {total // MIB} MiB are free"


STEPS: dict[str, Callable[[str], str]] = {
    step.__name__: step
    for step in (nodes, libcuda, add, bf16, free_memory, processes, pinned, compile, attention)
}  # fmt: skip


def main() -> None:
    descriptor, device, *names = sys.argv[1:]
    with os.fdopen(int(descriptor), "w") as results:
        for name in names:
            found = STEPS[name](device)
            results.write(json.dumps([name, found]) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
