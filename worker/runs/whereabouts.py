"""Where a process was that could not say so by itself: out of what Python's faulthandler printed when it was ended."""

import re
from collections.abc import Mapping, Sequence

_BEGINS = re.compile(r"\(most recent call first\):$")
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)$')


def find_frame(log: str, files: Mapping[str, str], editable: Sequence[str]) -> str:
    """The deepest frame of an edited file in the last stack of a log, as `train.py:12 in forward: x = self.w @ x`.

    Empty if there is none. The log is the experiment's own: what it says here is for people, and decides nothing.
    """
    lines = log.splitlines()
    begins = [number for number, line in enumerate(lines) if _BEGINS.search(line)]
    for line in lines[begins[-1] + 1 :] if begins else []:
        frame = _FRAME.match(line)
        if frame is None:
            break
        for path in editable:
            if frame["file"].endswith(f"/{path}"):
                number = int(frame["line"])
                code = files.get(path, "").splitlines()
                text = code[number - 1].strip() if number <= len(code) else ""
                return f"{path}:{number} in {frame['name']}: {text}"
    return ""
