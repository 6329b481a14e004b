"""How processes of the cloud tell events to the one that has the rules of an account and region, by its socket."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from minicloud.rpc import fleet_auth
from minicloud.rpc.errors import from_rpc_error
from minicloud.wire import fleet_pb2, fleet_pb2_grpc

CALL_S_MAX = 10.0


async def tell(
    channel: grpc.aio.Channel | None, secret: bytes, who: str, events: Sequence[fleet_pb2.CloudEvent]
) -> frozenset[str]:
    """On disk there when it returns: the scopes (as keys) in which no rule listens. Waits for a process that is away.

    who: the process that tells, for logs. Raises CloudError.
    """
    stub: Any = fleet_pb2_grpc.EventServiceStub(channel)  # type: ignore[no-untyped-call]
    request = fleet_pb2.TellEventsRequest(events=events)
    proof = ((fleet_auth.METADATA, fleet_auth.token(secret, who)),)
    try:
        reply = await stub.TellEvents(request, metadata=proof, timeout=CALL_S_MAX, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    return frozenset(reply.unheard)


def event_id(of: str) -> str:
    """The same one each time that the same thing is told."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, of))
