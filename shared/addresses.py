"""Addresses as people write them."""

import re

from pydantic import HttpUrl, TypeAdapter, ValidationError

_LOCAL = re.compile(
    r"localhost|127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|\[::1\]|[^./:]+(:|/|$)|[^/]*\.local(:|/|$)"
)


def complete_address(text: str) -> str:
    """An address with its scheme: http for this machine and its network, else https. Raises ValueError."""
    text = text.strip().rstrip("/").removesuffix("/chat/completions")
    if text and "://" not in text:
        text = f"{'http' if _LOCAL.match(text) else 'https'}://{text}"
    try:
        TypeAdapter(HttpUrl).validate_python(text)
    except ValidationError as error:
        raise ValueError("give an address, as https://swarm.example.org") from error
    return text
