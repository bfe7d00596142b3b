"""Faults that lie with a machine, told apart by the words of torch, Triton, a C compiler or NVIDIA's driver.

Anybody's code can print these words, so they choose a sentence and where a crash counts, and prove nothing.
"""

import re
from dataclasses import dataclass

from shared.findings import FailureClass


@dataclass(frozen=True)
class KnownFault:
    """The part of a machine that failed, and advice for its owner (an imperative clause)."""

    failure: FailureClass
    advice: str


_TABLE = (
    (
        FailureClass.COMPILER,
        r"failed to find c compiler|no working c\+\+ compiler|file or directory: '(/\S*/)?(gcc|g\+\+|cc|c\+\+|clang)'",
        "install a compiler: `apt-get install gcc g++` (`dnf install gcc gcc-c++`)",
    ),
    (
        FailureClass.COMPILER,
        r"python\.h: no such file",
        "install Python's headers: `apt-get install python3-dev` (`dnf install python3-devel`)",
    ),
    (
        FailureClass.COMPILER,
        r"(std(io|lib|def|int|bool)|cstdint|cmath)(\.h)?: no such file|cannot find crt[1in]\.o|execute 'cc1",
        "install the C library's headers: `apt-get install libc6-dev g++` (`dnf install glibc-devel gcc-c++`)",
    ),
    (
        FailureClass.DRIVER,
        r"libcuda\.so(\.1)? cannot found|cannot find -l:?(lib)?cuda\b|libcuda\.so(\.1)?: cannot open shared",
        "let the linker find libcuda.so.1, a part of NVIDIA's driver: install the whole driver, then run `ldconfig`",
    ),
    (
        FailureClass.DRIVER,
        r"lib(nvrtc|nvjitlink|nccl|cu(dnn|blas|fft|sparse|rand|solver|dart))[\w-]*\.so\S*: cannot open"
        r"|unable to load any of \{?libcudnn",
        "install torch again with the libraries that come with it: `pip install --force-reinstall torch`",
    ),
    (
        FailureClass.DRIVER,
        r"no kernel image is available|too old to be supported by the triton|not compatible with the current pytorch",
        "install a torch that was built for this GPU: for CUDA 12.6 if it is older than Turing "
        "(`pip install torch --index-url https://download.pytorch.org/whl/cu126`), for CUDA 12.8 or later if it is a "
        "Blackwell",
    ),
    (
        FailureClass.DRIVER,
        r"driver version is insufficient|unsupported toolchain|nvidia driver on your system is too old"
        r"|api call is not supported in the installed cuda driver"
        r"|forward compatibility was attempted|cudaerrorsystemdrivermismatch|system has unsupported display driver",
        "update NVIDIA's driver, and restart this machine",
    ),
    (
        FailureClass.DRIVER,
        r"driver/library version mismatch",
        "restart this machine: NVIDIA's driver was updated, and its old part still runs",
    ),
    (
        FailureClass.DRIVER,
        r"system not yet initialized",
        "start NVIDIA's fabric manager, of the driver's own version: `systemctl start nvidia-fabricmanager`",
    ),
    (
        FailureClass.DRIVER,
        r"(device|devices|device\(s\)) (is|are|is/are) busy or unavailable|exclusive-(thread|process)",
        "let several programs use the GPU (`nvidia-smi -c DEFAULT`), and end the one that holds it",
    ),
    (
        FailureClass.DRIVER,
        r"uncorrectable ecc|gpu is lost|fallen off the bus|hardware stack error|nvlink error"
        r"|unable to determine the device|gpu requires reset|or a hardware error",
        "restart this machine; if it happens again, the GPU or its power supply is faulty (`dmesg | grep Xid`)",
    ),
    (
        FailureClass.OUT_OF_MEMORY,
        r"out of memory|outofmemoryerror|\bmemoryerror\b|(cublas|cudnn)_status_alloc_failed|can(no|')t allocate memory"
        r"|nvml_success == r",  # https://github.com/pytorch/pytorch/issues/112377
        "free its memory: end other programs that use it (`nvidia-smi` lists those on a GPU), or take a larger device",
    ),
    (
        FailureClass.DRIVER,
        r"no cuda gpus are available|no cuda-capable device|found no nvidia driver|cuda unknown error"
        r"|cuda driver (error|initialization failed)|cuda error: (initialization error|unknown error|operation not"
        r"|os call failed|invalid device ordinal)|(cublas|cudnn)_status_(not_initialized|arch_mismatch|not_supported)",
        "look whether `nvidia-smi` works, and restart this machine",
    ),
    (
        FailureClass.COMPILER,
        r"failed to map segment from shared object",
        "set TMPDIR to a folder from which programs can be loaded: that for temporary files is mounted `noexec`",
    ),
    (
        FailureClass.COMPILER,
        r"torch\._inductor\.exc\.|\binductorerror\b|backendcompilerfailed|\bptxas\b.*(error|fatal)|outofresources"
        r"|out of resource: |cppcompileerror|calledprocesserror: command '\['(\S*/)?(gcc|g\+\+|cc|c\+\+|clang|ptxas)'",
        "see the log for what the compiler refuses; another version of torch may do",
    ),
)
_KNOWN = tuple((re.compile(words, re.IGNORECASE), KnownFault(failure, advice)) for failure, words, advice in _TABLE)
OF_MACHINES = frozenset(failure for failure, _, _ in _TABLE)
"""Failures that may differ from one hardware class to the next: they say nothing of a commit in another class."""


def find_fault(reason: str, log: str = "") -> KnownFault | None:
    """The fault of a machine that a failure's reason tells of, the most specific first.

    The log counts, too, unless the reason names another exception: programs also print errors that they get over.
    """
    if " raised " in reason and not any(words.search(reason) for words, _ in _KNOWN):
        return None
    return next((fault for words, fault in _KNOWN if words.search(f"{reason}\n{log}")), None)
