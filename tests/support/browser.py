"""Where the browser is that tests and screenshots use."""

import os
import shutil

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--js-flags=--no-opt --no-maglev"]
"""Containers have neither user namespaces nor much /dev/shm, and no GPU; and no page lives long enough for optimising
its scripts to be worth a fifth of the browser's CPU time."""


class BrowserMissingError(Exception):
    """There is no Chromium."""


def find_chromium() -> str:
    """SWARM_CHROMIUM, or a Chromium on PATH. Raises BrowserMissingError."""
    named = os.environ.get("SWARM_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise BrowserMissingError(
            "No browser. Install Chromium (Debian, Ubuntu: apt-get install chromium), "
            "or name one by SWARM_CHROMIUM=/path/to/chromium."
        )
    return found
