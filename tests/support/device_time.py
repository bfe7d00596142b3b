"""How long a worker's device was busy, from the lines of its log."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

_LINE = re.compile(r"timestamp=(\S+) level=\w+ event=\"?(\w+)\"?(.*)")
_BEGINS, _ENDS = ("starting",), ("reporting", "ready")


@dataclass(frozen=True)
class DeviceTime:
    """Seconds from the start of the first run to the end of the last; those without a run; the number of `waits`."""

    seconds: float
    idle_seconds: float
    waits: int

    @property
    def idle_share(self) -> float:
        return self.idle_seconds / self.seconds if self.seconds else 0.0


def read_device_time(lines: Iterable[str]) -> DeviceTime:
    """Read the lines of `worker.log` or of `--plain`."""
    began: dict[str, datetime] = {}
    busy: list[tuple[datetime, datetime]] = []
    waits = 0
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        at, fields = datetime.fromisoformat(found[1]), dict(re.findall(r"(\w+)=(\S+)", found[3]))
        waits += found[2] == "waiting"
        if found[2] == "phase" and fields["phase"] in _BEGINS:
            began[fields["job"]] = at
        elif (found[2] == "phase" and fields["phase"] in _ENDS and fields["job"] in began) or (
            found[2] == "dropped" and fields["job"] in began
        ):
            busy.append((began.pop(fields["job"]), at))
    if not busy:
        return DeviceTime(0.0, 0.0, waits)
    seconds = (busy[-1][1] - busy[0][0]).total_seconds()
    return DeviceTime(seconds, seconds - sum((end - start).total_seconds() for start, end in busy), waits)
