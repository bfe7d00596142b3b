"""Headers of every answer: what pages may load, and the id by which logs name the request."""

import re
from collections.abc import Iterable, Iterator
from uuid import uuid4

from structlog.contextvars import bind_contextvars, get_contextvars

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # ticks of pictures stand where a style attribute says; htmx adds a sheet
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
)

REQUEST_ID_HEADER = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_SITE = re.compile(rb"^(?:https?:)?//[^/?#]*")


def begin_request(given: bytes | None) -> None:
    """Choose the id of the request that begins: the one `given` by a proxy or client if it is well-formed."""
    bind_contextvars(request_id=given.decode() if given and _WELL_FORMED.fullmatch(given) else uuid4().hex)


def keep_local(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Headers with every redirect as a path of this site: a host's name in it would be the one that the client sent."""
    for name, value in headers:
        if name.lower() == b"location":
            yield name, b"/" + _SITE.sub(b"", value).lstrip(b"/")
        else:
            yield name, value


def list_headers() -> list[tuple[bytes, bytes]]:
    """The headers that every answer to the current request has; one place sets them."""
    return [*SECURITY_HEADERS, (REQUEST_ID_HEADER, get_request_id().encode())]


def get_request_id() -> str:
    """The id of the current request; `-` outside of one."""
    return str(get_contextvars().get("request_id", "-"))
