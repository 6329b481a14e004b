"""A grpc.aio server with everything bounded, health and reflection, and one dictionary look-up from path to handler.

message          Listen.message_bytes_max both ways         -> RESOURCE_EXHAUSTED (gRPC) or MessageTooLarge (ours)
metadata         GRPC_METADATA_BYTES_MAX                   -> RESOURCE_EXHAUSTED
calls at once    GRPC_CALLS_MAX; a connection: GRPC_STREAMS_PER_CONNECTION_MAX  -> RESOURCE_EXHAUSTED, never a queue
pings            more than two faster than one a second    -> GOAWAY too_many_pings
silence          no preface or handshake within 10 s, no answer to a keepalive ping within 10 s  -> closed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as reflection_wire

from minicloud.base.errors import Unavailable
from minicloud.base.limits import (
    GRPC_CALLS_MAX,
    GRPC_MESSAGE_BYTES_MAX,
    GRPC_METADATA_BYTES_MAX,
    GRPC_STREAMS_PER_CONNECTION_MAX,
)
from minicloud.rpc.door import Entry, Service, door
from minicloud.rpc.health import DESCRIPTOR as HEALTH
from minicloud.rpc.health import Health

REFLECTION = reflection_wire.DESCRIPTOR.services_by_name["ServerReflection"]
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second listener
    ("grpc.max_metadata_size", GRPC_METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", GRPC_METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", GRPC_STREAMS_PER_CONNECTION_MAX),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),  # host agents ask every few seconds
    ("grpc.http2.max_ping_strikes", 2),
)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens. Port 0: a free one. `credentials` None: plain text, for loopback and behind a proxy.

    `socket`: the path of a unix socket to listen on as well, for processes of the same cloud and machine ('': none).
    `message_bytes_max`: in both directions.
    """

    host: str = "127.0.0.1"
    port: int = 0
    credentials: grpc.ServerCredentials | None = None
    calls_max: int = GRPC_CALLS_MAX
    socket: str = ""
    message_bytes_max: int = GRPC_MESSAGE_BYTES_MAX

    def options(self) -> list[tuple[str, int]]:
        size = self.message_bytes_max
        return [*OPTIONS, ("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)]


class RpcServer:
    """Serves the given services, health and reflection. `health` says what is ready; `port` is set by `start`."""

    def __init__(self, services: Sequence[Service], new_request_id: Callable[[], str], listen: Listen) -> None:
        self._listen = listen
        self.port = listen.port
        anyone: Entry[None] = Entry(lambda _metadata: None, new_request_id)
        names = [service.name for service in services]
        self.health = Health(names)
        public = [*names, HEALTH.full_name, REFLECTION.full_name]
        table = _Table(
            [
                *services,
                door(self.health, HEALTH, anyone),
                door(reflection.aio.ReflectionServicer(public), REFLECTION, anyone),  # type: ignore[attr-defined]
            ]
        )
        self._server = grpc.aio.server(
            handlers=(table,), options=listen.options(), maximum_concurrent_rpcs=listen.calls_max
        )

    async def start(self) -> int:
        """Listen; returns the port. Raises Unavailable where the address cannot be had."""
        address = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
        where = f"{address}:{self._listen.port}"
        try:
            if self._listen.credentials is None:
                self.port = self._server.add_insecure_port(where)
            else:
                self.port = self._server.add_secure_port(where, self._listen.credentials)
            if self._listen.socket:
                self._server.add_insecure_port(f"unix:{self._listen.socket}")
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {where}: is another process there?") from error
        await self._server.start()
        return self.port

    async def stop(self, grace_s: float = 2.0) -> None:
        """Say NOT_SERVING, take no new calls, give running ones `grace_s`, then cancel them. Idempotent."""
        self.health.set_all(False)
        await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Until stopped."""
        await self._server.wait_for_termination()


class _Table(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    def __init__(self, services: Iterable[Service]) -> None:
        self._handlers: dict[str, Any] = {}
        for service in services:
            self._handlers.update(service.handlers)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)
