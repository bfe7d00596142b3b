"""The line of a log that names the error, and the sentence that is made of it."""

import pytest

from tests.shared.test_faults import ASYNCHRONOUS
from worker.machine.faults import explain, find_error_line, may_be_the_machines

FRAMES = '  File "/project/train.py", line 325, in step\n    loss.backward()\n    ~~~~~~~~~~~~~^^\n'
TRACEBACK = f"Traceback (most recent call last):\n{FRAMES}"
NO_KERNEL = "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device"
SEARCH = "Search for `cudaErrorNoKernelImageForDevice' in https://docs.nvidia.com/cuda/cuda-runtime-api for more."
VERBOSE = '\nSet TORCH_LOGS="+dynamo" and TORCHDYNAMO_VERBOSE=1 for more information\n'
TOO_OLD = "RuntimeError: Found NVIDIA GeForce GTX 1070 which is too old to be supported by the triton GPU compiler"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (f"{TRACEBACK}{NO_KERNEL}\n{SEARCH}{ASYNCHRONOUS}", NO_KERNEL),
        (f"{FRAMES}{NO_KERNEL}\n{SEARCH}{ASYNCHRONOUS}", NO_KERNEL),  # the log keeps fifty lines, so it may begin here
        (
            f"{TRACEBACK}torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised:\n{TOO_OLD}\n{VERBOSE}",
            f"torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised: {TOO_OLD}",
        ),
        (f"{TRACEBACK}KeyError: 'a'\n\nDuring handling of it, another:\n\n{TRACEBACK}{TOO_OLD}{VERBOSE}", TOO_OLD),
        (f"loss 4.1\n{TRACEBACK}triton.OutOfResources: shared memory", "triton.OutOfResources: shared memory"),
        ("step 1\nFatal Python error: Aborted\n\nCurrent thread 0x1:\n", "Fatal Python error: Aborted"),
        ("/usr/bin/python: can't open file\n", "/usr/bin/python: can't open file"),
        ("", ""),
    ],
)
def test_names_the_error_and_not_the_advice_below_it(log: str, line: str) -> None:
    assert find_error_line(log) == line


@pytest.mark.parametrize(
    ("reason", "log", "is_possible"),
    [
        ("train.py raised AcceleratorError: CUDA error: unspecified launch failure", "", True),
        ("train.py raised RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling", "", True),
        ("the trainer was ended by signal 7 (Bus error) before it had finished", "", True),
        ("train.py raised AcceleratorError: CUDA error: an illegal memory access was encountered", "", True),
        ("the trainer ended with exit status 1 before it had finished", "CUDA driver error: unknown error", True),
        ("train.py raised OutOfMemoryError: CUDA out of memory", "", True),
        ("train.py raised KeyError: 'x'", "step 1", False),
        ("train.py raised RuntimeError: mat1 and mat2 shapes cannot be multiplied", "", False),
        ("the trainer was ended by signal 9 (Killed) before it had finished", "", False),
    ],
)
def test_any_error_of_a_device_may_be_the_machines(reason: str, log: str, is_possible: bool) -> None:
    """A GPU that is lost gives words that a wrong kernel gives, too: only the project's own code tells them apart."""
    assert may_be_the_machines(reason, log) is is_possible


def test_says_what_to_do_only_where_it_knows() -> None:
    assert explain("train.py raised KeyError: 'x'", "step 1\nKeyError: 'x'") == "train.py raised KeyError: 'x'"
    told = explain("the trainer ended", "main.c:4:10: fatal error: Python.h: No such file or directory")
    assert told == (
        "the trainer ended. Install Python's headers: `apt-get install python3-dev` (`dnf install python3-devel`)"
    )
