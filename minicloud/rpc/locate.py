"""Where an account's queues, topics, load balancers and metrics are, and a way in: Locate, on the control plane.

Shards (rpc/shard_ticket.py) listen on the machine of the front door, so their host is the one by which the caller
reached the cloud (the front door hands it on): right for guests, for names in certificates, and behind a wildcard
address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minicloud.base.arn import Caller
from minicloud.base.errors import Unavailable
from minicloud.rpc import shard_ticket
from minicloud.rpc.door import Metadata
from minicloud.rpc.shard_ticket import Shards
from minicloud.wire import autoscaler_pb2, balancer_pb2, function_pb2
from minicloud.wire import queue_pb2 as wire

MESSAGING = wire.DESCRIPTOR.services_by_name["MessagingService"]
BALANCING = balancer_pb2.DESCRIPTOR.services_by_name["BalancingService"]
COMPUTING = function_pb2.DESCRIPTOR.services_by_name["ComputingService"]
AUTOSCALING = autoscaler_pb2.DESCRIPTOR.services_by_name["AutoscalingService"]
REACHED_AS = "x-minicloud-reached-as"  # the Host that the caller used; set by the front door, never by callers


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller, and the host by which it came ('' where no front door said so)."""

    caller: Caller
    host: str


@dataclass(frozen=True, slots=True)
class Listening:
    """`host`: where shards are for whom no front door introduced. `ports`: one a shard."""

    host: str
    ports: tuple[int, ...]
    tls: bool = False


def visitors(admit: Callable[[Metadata], Caller]) -> Callable[[Metadata], Visitor]:
    """For `Entry.admit`."""
    return lambda metadata: Visitor(admit(metadata), host_of(str(metadata.get(REACHED_AS, ""))))


def host_of(authority: str) -> str:
    """Without the port: `[::1]:7077` -> `[::1]`."""
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


class Locator:
    """For `rpc.door.door(Locator(BROKERS, ...), MESSAGING, Entry(visitors(admit), ...))`, and its likes."""

    def __init__(self, of: Shards, listening: Listening, secret: bytes, wall: Callable[[], float]) -> None:
        self._of = of
        self._listening = listening
        self._secret = secret
        self._wall = wall

    async def Locate(self, _request: wire.LocateRequest, visitor: Visitor) -> wire.BrokerEndpoint:
        found, scope = self._listening, visitor.caller.scope
        if not found.ports:
            raise Unavailable(f"this cloud has no {self._of.noun}")
        number = shard_ticket.shard_of(scope, len(found.ports))
        expires = int(self._wall() + shard_ticket.TICKET_S)
        host = found.host if ":" not in found.host else f"[{found.host.strip('[]')}]"
        return wire.BrokerEndpoint(
            address=f"{visitor.host or host}:{found.ports[number]}",
            ticket=shard_ticket.issue(self._of, self._secret, number, scope, expires),
            expires_ms=expires * 1000,
            tls=found.tls,
        )
