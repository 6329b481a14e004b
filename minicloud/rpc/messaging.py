"""MessagingService, on the control plane: at which message broker an account's queues and topics are, and a way in.

Brokers listen on the machine of the front door, so their host is the one by which the caller reached the cloud (the
front door hands it on): right for guests, for names in certificates, and behind a wildcard address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minicloud.base.arn import Caller
from minicloud.base.errors import Unavailable
from minicloud.rpc import broker_ticket
from minicloud.rpc.door import Metadata
from minicloud.wire import queue_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["MessagingService"]
REACHED_AS = "x-minicloud-reached-as"  # the Host that the caller used; set by the front door, never by callers


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller, and the host by which it came ('' where no front door said so)."""

    caller: Caller
    host: str


@dataclass(frozen=True, slots=True)
class Brokers:
    """`host`: where they are for whom no front door introduced. `ports`: one a broker."""

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


class MessagingServicer:
    """For `rpc.door.door(MessagingServicer(...), DESCRIPTOR, Entry(visitors(admit), ...))`."""

    def __init__(self, brokers: Brokers, secret: bytes, wall: Callable[[], float]) -> None:
        self._brokers = brokers
        self._secret = secret
        self._wall = wall

    async def Locate(self, _request: wire.LocateRequest, visitor: Visitor) -> wire.BrokerEndpoint:
        brokers, scope = self._brokers, visitor.caller.scope
        if not brokers.ports:
            raise Unavailable("this cloud has no message broker")
        number = broker_ticket.broker_of(scope, len(brokers.ports))
        expires = int(self._wall() + broker_ticket.TICKET_S)
        host = brokers.host if ":" not in brokers.host else f"[{brokers.host.strip('[]')}]"
        return wire.BrokerEndpoint(
            address=f"{visitor.host or host}:{brokers.ports[number]}",
            ticket=broker_ticket.issue(self._secret, number, scope, expires),
            expires_ms=expires * 1000,
            tls=brokers.tls,
        )
