"""Security groups as the SDK gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """protocol: tcp | udp | icmp | icmpv6 | a number; "-1" any. Ports -1: any. peer: a range, or the id of a group."""

    id: str
    protocol: str
    from_port: int
    to_port: int
    peer: str
    description: str


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """instances: how many have it."""

    id: str
    name: str
    description: str
    ingress: tuple[SecurityRule, ...]
    egress: tuple[SecurityRule, ...]
    created_time: datetime | None
    tags: Mapping[str, str]
    instances: int
