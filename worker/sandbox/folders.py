"""The allow-list: what every sandboxed process may read besides its project's folder."""

import site
import sys
from collections.abc import Iterator
from pathlib import Path

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LINKER_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
"""What the dynamic linker reads; distributions choose libraries such as BLAS through /etc/alternatives."""


def readable_folders() -> Iterator[str]:
    """The system's programs and libraries, the interpreter and its packages; none lies below another."""
    seen: list[Path] = []
    interpreter = (sys.base_prefix, sys.prefix, *site.getsitepackages())
    for name in (*SYSTEM_FOLDERS, *LINKER_FILES, *interpreter):
        for path in (Path(name), Path(name).resolve()):
            shown = any(path.is_relative_to(folder) for folder in seen)
            if path.exists() and not shown and not (path.is_symlink() and name in SYSTEM_FOLDERS):
                seen.append(path)
                yield str(path)


def find_links() -> Iterator[tuple[str, str]]:
    """Those of the system's folders that are links here, each with where it leads: `/bin` to `usr/bin`, say."""
    for folder in SYSTEM_FOLDERS:
        if Path(folder).is_symlink():
            yield folder, str(Path(folder).readlink())
