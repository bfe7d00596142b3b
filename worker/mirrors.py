"""Other places than the public ones, where a machine looks for the files that contracts name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mirrors:
    """Where to look instead of the public places (None): a simple package index, and a folder for `base_url`."""

    package_index: str | None = None
    data: str | None = None


PUBLIC_PLACES = Mirrors()
