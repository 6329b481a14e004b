"""What a shard has counted, for the metrics page: the control plane asks when a scrape comes, keeps nothing.

A reading is named `<family>.<what>`, as `queue_messages.sent`: the page's metric and its label. The caller shows
`x-minicloud-internal`, an HMAC of the cluster's secret: a shard's services are on its users' port too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from minicloud.base.errors import Unauthenticated
from minicloud.rpc.door import Metadata
from minicloud.wire import fleet_pb2 as wire
from minicloud.wire import fleet_pb2_grpc

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["BrokerService"]
METADATA = "x-minicloud-internal"
ASK_S_MAX = 1.0  # ours: a scrape does not wait longer for a shard that does not answer


@dataclass(frozen=True, slots=True)
class Readings:
    """`totals` only grow while the process lives; `gauges` go up and down."""

    totals: Mapping[str, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)


def token(secret: bytes) -> str:
    return hmac.new(secret, b"minicloud broker counters", hashlib.sha256).hexdigest()


def internal_door(secret: bytes) -> Callable[[Metadata], None]:
    """For `Entry.admit`. Raises Unauthenticated."""

    def admit(metadata: Metadata) -> None:
        if not hmac.compare_digest(str(metadata.get(METADATA, "")).encode(), token(secret).encode()):
            raise Unauthenticated("This service is for the cloud's own processes.")

    return admit


class CountersServicer:
    """For `rpc.door.door(CountersServicer(...), DESCRIPTOR, Entry(internal_door(...), ...))`."""

    def __init__(self, read: Callable[[], Readings | Awaitable[Readings]]) -> None:
        self._read = read

    async def Counters(self, _request: wire.CountersRequest, _caller: None) -> wire.BrokerCounters:
        found = self._read()
        now = found if isinstance(found, Readings) else await found
        return wire.BrokerCounters(totals=now.totals, gauges=now.gauges)


async def ask(channel: grpc.aio.Channel, secret: bytes, within_s: float = ASK_S_MAX) -> Readings | None:
    """None: it does not answer in time."""
    stub: Any = fleet_pb2_grpc.BrokerServiceStub(channel)  # type: ignore[no-untyped-call]
    try:
        said = await stub.Counters(wire.CountersRequest(), timeout=within_s, metadata=((METADATA, token(secret)),))
    except grpc.aio.AioRpcError:
        return None
    return Readings(dict(said.totals), dict(said.gauges))
