"""Guests' firewalls, from their records into their network namespaces."""

from __future__ import annotations

import threading

from minicloud.base.errors import UnsupportedOperation
from minicloud.host.guests import spec_of
from minicloud.host.records import GuestRecord
from minicloud.sandbox import firewall, netns
from minicloud.sandbox.nftables import program
from minicloud.wire import fleet_pb2 as pb

_TURNS = tuple(threading.Lock() for _ in range(16))  # one for a guest: whoever comes last reads what was given last


def enforce(record: GuestRecord) -> None:
    """What its spec says, in its namespace; blocks. A guest that has no network yet gets it when it has.

    Raises UnsupportedOperation (its network is the host's), Unavailable, OSError.
    """
    with _TURNS[hash(record.instance_id) % len(_TURNS)]:
        _enforce(record)


def _enforce(record: GuestRecord) -> None:
    spec = spec_of(record)
    name = record.network.get("netns", "")
    if not name:
        if spec.HasField("firewall") and record.private_ip:
            raise UnsupportedOperation("security groups cannot be enforced in the host's own network")
        return
    rules = _rules(spec.firewall, record.network.get("gateway", "")) if spec.HasField("firewall") else None
    firewall.enforce(netns.path_of(name), rules, program() or "nft")


def _rules(message: pb.Firewall, gateway: str) -> firewall.Firewall:
    def read(one: pb.FirewallRule) -> firewall.Rule:
        host = (f"{gateway}/32",) if one.host and gateway else ()
        return firewall.Rule(one.protocol, one.from_port, one.to_port, (*one.peers, *host))

    return firewall.Firewall(tuple(map(read, message.ingress)), tuple(map(read, message.egress)))
