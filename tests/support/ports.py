"""Ports for programs that are told theirs.

The kernel gives none of these away, neither to those who listen on port 0 nor to connections; the tests of all
processes take each once.
"""

import socket
from random import Random

FIRST, COUNT = 20_000, 8_000
"""Below those of /proc/sys/net/ipv4/ip_local_port_range as Linux has it."""


def choose_port() -> int:
    """A free port, whose number stays taken by a name of this process's until that ends."""
    for port in Random().sample(range(FIRST, FIRST + COUNT), COUNT):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0port-of-a-test-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            name.close()
            continue
        name.detach()
        return port
    raise AssertionError("no port is free")
