"""Ports for servers that have to be told theirs, or have to come back on the same."""

from __future__ import annotations

import contextlib
import random
import socket

#: Below those that systems give to whoever asks for any, so that nobody takes one while its server is not up.
_PORTS = range(10_000, 30_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError(f"none of 100 ports from {_PORTS[0]} on is free")
