"""Objects as they were read, and a bounded number of them kept at hand."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

from shared.commits import GitObject


@dataclass(frozen=True)
class Version:
    """An object, and the names of all that are read to make it: itself, its base, and so on to a whole one."""

    object: GitObject
    chain: list[str]

    @property
    def deltas(self) -> int:
        """How many deltas are between it and a whole object."""
        return len(self.chain) - 1


class RecentObjects:
    """Objects that were read lately. A name stands for one content for ever, so none of them can be out of date.

    Chains can be, after another process has re-packed; they only say where a new delta may begin.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._versions: OrderedDict[str, Version] = OrderedDict()
        self._lock = Lock()

    def find(self, shas: Iterable[str]) -> dict[str, Version]:
        with self._lock:
            found = {sha: self._versions[sha] for sha in shas if sha in self._versions}
            for sha in found:
                self._versions.move_to_end(sha)
        return found

    def keep(self, versions: Mapping[str, Version]) -> None:
        with self._lock:
            for sha, version in versions.items():
                if sha not in self._versions:
                    self._versions[sha] = version
                    self._bytes += len(version.object.data)
            while self._bytes > self._max_bytes:
                _, oldest = self._versions.popitem(last=False)
                self._bytes -= len(oldest.object.data)

    def clear(self) -> None:
        with self._lock:
            self._versions.clear()
            self._bytes = 0
