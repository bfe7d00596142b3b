"""The address of a request, for limits. Behind a trusted proxy it is the one that the proxy forwards for."""

from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Annotated

from fastapi import Depends, Request

IPV6 = 6
IPV6_NETWORK = 64
"""Bits of an IPv6 address that count: one household or machine has all addresses of such a network."""


def find_address(request: Request) -> str | None:
    """The host that a request came from."""
    return request.client.host if request.client else None


async def _get_address(request: Request) -> str | None:
    return find_address(request)


ClientAddress = Annotated[str | None, Depends(_get_address)]
"""The address of a request."""


def hash_address(host: str | None) -> str | None:
    """A name for an address of the internet, of an IPv6 address' network; None for this machine's own."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return None
    if address.is_loopback:
        return None
    network = ip_network((address, IPV6_NETWORK), strict=False) if address.version == IPV6 else address
    return sha256(str(network).encode()).hexdigest()
