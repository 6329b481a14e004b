"""Choosing ports that stay ours.

A port of the ephemeral range may be taken by anybody's outgoing connection while its server restarts; so ports that are
chosen lie below that range (Linux: /proc/sys/net/ipv4/ip_local_port_range, usually 32768-60999).
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from minicloud.base.errors import Conflict, InvalidParameterValue, Unavailable
from minicloud.settings import random_hex

LOWEST = 20_000
TRIES = 200
_given: set[int] = set()  # of this process: who was given one may not listen on it yet
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(address: str) -> int:
    """A TCP port that nobody listens on at this address, and that was not given here before. Raises Unavailable."""
    top = _ephemeral_start()
    for _ in range(TRIES):
        port = LOWEST + int(random_hex(4), 16) % (top - LOWEST)
        if port not in _given and _can_bind(address, port) is None:
            _given.add(port)
            return port
    raise Unavailable(f"found no free port between {LOWEST} and {top} on {address}")


def claim_port(address: str, port: int, field: str) -> int:
    """The port itself, or a free one for 0. Raises Conflict where it is taken, InvalidParameterValue for an address."""
    if port == 0:
        return free_port(address)
    error = _can_bind(address, port)
    if error is None:
        return port
    flag = "--" + field.replace("_", "-")
    if error.errno == errno.EADDRINUSE:
        raise Conflict(f"port {port} on {address} is in use: choose another with {flag} (0: any free one)", field=field)
    raise InvalidParameterValue(f"cannot listen on {address}:{port}: {error.strerror}", field="bind")


def _can_bind(address: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def _ephemeral_start() -> int:
    try:
        low = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return low if low > LOWEST + 1000 else 32_768
