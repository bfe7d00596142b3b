"""Where the browser is that tests and screenshots use."""

import os
import shutil

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--js-flags=--no-opt --no-maglev"]
"""Containers have neither user namespaces nor much /dev/shm, and no GPU; and no page lives long enough for optimising
its scripts to be worth a fifth of the browser's CPU time."""


PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first takes two fifths of the CPU time of the others, which draw a window's frame that nobody sees."""


class BrowserMissingError(Exception):
    """There is no Chromium."""


def find_chromium() -> str:
    """SWARM_CHROMIUM, or a Chromium on PATH. Raises BrowserMissingError."""
    found = os.environ.get("SWARM_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise BrowserMissingError(
            "No browser. Install Chromium (Debian: apt-get install chromium-headless-shell), "
            "or name one by SWARM_CHROMIUM=/path/to/chromium."
        )
    return found
