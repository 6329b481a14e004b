"""Which addresses guests get. Pure: the same cloud, host and account choose the same subnet again while it is free.

Guests of one account on one host share a subnet, out of 10.64.0.0/10; where the host has a route into the chosen one,
the next is tried. Without namespaces a guest gets an address of 127.64.0.0/10 instead. As in a VPC, the first four
addresses and the last of a subnet are not given out: network, gateway, two in reserve, broadcast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network

from minicloud.base.errors import InsufficientCapacity, InvalidParameterValue

GUEST_POOL = IPv4Network("10.64.0.0/10")
LOOPBACK_POOL = IPv4Network("127.64.0.0/10")
SUBNET_BITS = 22  # 1,019 guests of an account on a host
RESERVED_FIRST = 4
RESERVED_LAST = 1


def digest(*parts: str) -> int:
    """A number that these words always give, on any machine."""
    text = "\0".join(parts).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def choose_subnet(
    seed: tuple[str, str, str],
    taken: Collection[IPv4Network],
    pool: IPv4Network = GUEST_POOL,
    prefix: int = SUBNET_BITS,
) -> IPv4Network:
    """The subnet for (cloud, host, account) that overlaps none of `taken`; InsufficientCapacity if none is free."""
    size = 1 << (32 - prefix)
    base = int(pool.network_address)
    for slot in _walk(digest(*seed), pool.num_addresses // size):
        subnet = IPv4Network((base + slot * size, prefix))
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise InsufficientCapacity(f"no free /{prefix} in {pool}: the host's routes and other accounts have them all")


def choose_address(subnet: IPv4Network, instance_id: str, used: Collection[IPv4Address]) -> IPv4Address:
    """The address for an instance. Raises InsufficientCapacity when the subnet is full."""
    base = int(subnet.network_address) + RESERVED_FIRST
    count = subnet.num_addresses - RESERVED_FIRST - RESERVED_LAST
    for slot in _walk(digest(instance_id), count):
        address = IPv4Address(base + slot)
        if address not in used:
            return address
    raise InsufficientCapacity(f"subnet {subnet} has no free address: {count} are in use")


def checked_address(subnet: IPv4Network, text: str, used: Collection[IPv4Address]) -> IPv4Address:
    """An address that the caller asks for. Raises InvalidParameterValue where it cannot be had."""
    try:
        address = IPv4Address(text)
    except ValueError:
        raise InvalidParameterValue(f"not an IPv4 address: {text!r}", field="address") from None
    first, last = int(subnet.network_address) + RESERVED_FIRST, int(subnet.broadcast_address) - RESERVED_LAST
    if not first <= int(address) <= last:
        raise InvalidParameterValue(f"{address} is not an address for guests of {subnet}", field="address")
    if address in used:
        raise InvalidParameterValue(f"{address} is in use", field="address")
    return address


def gateway(subnet: IPv4Network) -> IPv4Address:
    """The host's own address in a subnet."""
    return subnet.network_address + 1


def _walk(start: int, count: int) -> Iterator[int]:
    """Every slot once, from the hashed one onwards."""
    return ((start + step) % count for step in range(count))
