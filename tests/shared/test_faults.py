"""Faults of machines, by words that torch, Triton, compilers and drivers print in public issue threads."""

import pytest

from shared.faults import OF_MACHINES, find_fault
from shared.findings import FailureClass

ASYNCHRONOUS = """
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
OF_A_MACHINE = [
    ("RuntimeError: Failed to find C compiler. Please specify via CC environment variable.", "compiler", "gcc"),
    (
        "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')",
        "compiler",
        "g++",
    ),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'gcc'", "compiler", "gcc"),
    ("/tmp/tmpn8c04nql/main.c:4:10: fatal error: Python.h: No such file or directory", "compiler", "python3-dev"),
    ("cuda_utils.c:5:10: fatal error: stdio.h: No such file or directory", "compiler", "libc6-dev"),
    ("gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory", "compiler", "g++"),
    ("/usr/bin/ld: cannot find crti.o: No such file or directory", "compiler", "libc6-dev"),
    ("fatal error: stddef.h: No such file or directory", "compiler", "libc6-dev"),
    ("AssertionError: libcuda.so cannot found!", "driver", "ldconfig"),
    ("/usr/bin/ld: cannot find -lcuda: No such file or directory", "driver", "ldconfig"),
    (
        "ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory",
        "driver",
        "--force-reinstall",
    ),
    ("OSError: libcuda.so.1: cannot open shared object file: No such file or directory", "driver", "ldconfig"),
    (
        "RuntimeError: CUDA error: no kernel image is available for execution on the device" + ASYNCHRONOUS,
        "driver",
        "cu126",
    ),
    ("RuntimeError: Found Tesla P40 which is too old to be supported by the triton GPU compiler", "driver", "cu126"),
    ("RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.", "driver", "12.8"),
    ("CUDA error: the provided PTX was compiled with an unsupported toolchain.", "driver", "update"),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", "driver", "update"),
    ("CUDA driver version is insufficient for CUDA runtime version", "driver", "update"),
    ("Error 802: system not yet initialized (Triggered internally at CUDAFunctions.cpp:109.)", "driver", "fabric"),
    (
        "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable" + ASYNCHRONOUS,
        "driver",
        "DEFAULT",
    ),
    ("RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable", "driver", "DEFAULT"),
    ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "driver", "Xid"),
    ("Unable to determine the device handle for GPU0000:03:00.0: Unknown Error", "driver", "Xid"),
    ("CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error", "driver", "Xid"),
    ("Failed to initialize NVML: Driver/library version mismatch", "driver", "restart"),
    ("CUDA error: API call is not supported in the installed CUDA driver", "driver", "update"),
    ("ImportError: /tmp/x/launcher.so: failed to map segment from shared object", "compiler", "noexec"),
    (
        'RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":830',
        "out_of_memory",
        "free",
    ),
    ("RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment", "driver", "nvidia-smi"),
    ("RuntimeError: No CUDA GPUs are available", "driver", "nvidia-smi"),
    ("RuntimeError: Found no NVIDIA driver on your system.", "driver", "nvidia-smi"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.00 MiB.", "out_of_memory", "nvidia-smi"),
    (
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "out_of_memory",
        "free",
    ),
    ("MemoryError", "out_of_memory", "free"),
    (
        "torch._inductor.exc.InductorError: CalledProcessError: Command '['/usr/bin/gcc', 'main.c']' returned 1",
        "compiler",
        "log",
    ),
    ("triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 147456", "compiler", "log"),
    ("ptxas /tmp/tmp1.ptx, line 59; error   : Feature '.bf16' requires .target sm_80 or higher", "compiler", "log"),
]
OF_A_COMMIT = [
    "RuntimeError: CUDA error: device-side assert triggered" + ASYNCHRONOUS,
    "RuntimeError: CUDA error: an illegal memory access was encountered" + ASYNCHRONOUS,
    "RuntimeError: CUDA error: misaligned address",
    "RuntimeError: CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasGemmEx`",
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 4x4)",
    "torch._dynamo.exc.TorchRuntimeError: Dynamo failed to run FX node with fake tensors",
    "triton.compiler.errors.CompilationError: at 12:4: NameError('BLOCK is not defined')",
    "ModuleNotFoundError: No module named 'flash_attn'",
    "FileNotFoundError: [Errno 2] No such file or directory: 'notes.txt'",
    "the loss became nan at step 3",
    "it used more than 512 MiB of memory",
]


@pytest.mark.parametrize(("words", "failure", "advice"), OF_A_MACHINE)
def test_knows_the_faults_of_machines_and_what_to_do(words: str, failure: str, advice: str) -> None:
    fault = find_fault(f"train.py raised something\n{words}\n")
    assert fault is not None and fault.failure is FailureClass(failure) and fault.failure in OF_MACHINES
    assert advice in fault.advice


@pytest.mark.parametrize("words", OF_A_COMMIT)
def test_takes_no_mistake_of_a_commit_for_one(words: str) -> None:
    assert find_fault(words) is None


def test_a_log_counts_where_the_reason_names_no_other_exception() -> None:
    """Of what goes before a crash, programs get over some: the seed tries several kinds of attention."""
    log = "attention by packed does not work here: CUDA error: operation not supported\nstep 1"
    assert find_fault("train.py raised KeyError: 'x'", log) is None
    ended = find_fault("the trainer ended with exit status 1 before it had finished", log)
    assert ended is not None and ended.failure is FailureClass.DRIVER
    gcc = "train.py raised CalledProcessError: Command '['/usr/bin/gcc', 'main.c']' returned non-zero exit status 1."
    specific = find_fault(gcc, "main.c:4:10: fatal error: Python.h: No such file or directory")
    assert specific is not None and "python3-dev" in specific.advice
