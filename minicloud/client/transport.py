"""Channels to the cloud and its hosts: deadlines, retries, credentials, and wire errors turned into ours.

A call has one deadline for all its attempts. UNAVAILABLE is retried, for calls that are safe to repeat, with full
jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): for `retry_s` when the front door answers but what
stands behind it does not, for `connect_s` when nobody listens at the endpoint.

    channel READY, call UNAVAILABLE     the cloud is there, a part of it is restarting    -> retry_s
    channel not READY                   the cloud is not there                            -> connect_s
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from minicloud.base.errors import CloudError, InvalidParameterValue, Unavailable
from minicloud.client.config import ClientConfig, jitter
from minicloud.client.lazy import lazy
from minicloud.client.loop import LOOP
from minicloud.client.streams import GuestStream, mapped

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")
    grpc = lazy("grpc")

M = TypeVar("M", bound="Message")
Metadata = tuple[tuple[str, str], ...]

TICKET_METADATA = "x-minicloud-ticket"
_PACKAGE = "/minicloud.v1."
_BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),  # answers of functions are up to 6 MiB
    ("grpc.enable_http_proxy", 0),  # a proxy for the web must not get calls to one's own cloud
    ("grpc.initial_reconnect_backoff_ms", 100),  # gRPC's own default waits a second and more before it looks again
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Place:
    """Where this caller's shard (message broker, balancer process) is, as the cloud said last.

    `asking`: whoever asks now, for all.
    """

    __slots__ = ("asking", "calls", "endpoint", "metadata", "renew_at")

    def __init__(self) -> None:
        self.endpoint: models.BrokerEndpoint | None = None
        self.metadata: Metadata = ()
        self.renew_at = 0.0
        self.calls: dict[str, Callable[..., Any]] = {}
        self.asking: asyncio.Task[None] | None = None

    def forget(self) -> None:
        self.endpoint = None


class Transport:
    """What all groups of one client share. Made anywhere, used from one event loop."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._channels: dict[tuple[str, bool], grpc.aio.Channel] = {}
        self._metadata = _metadata(config)
        self._places: dict[str, Place] = {}
        self.closers: set[Callable[[], Awaitable[None]]] = set()

    def with_config(self, **changes: Any) -> Transport:
        """The same channels with other times."""
        other = Transport(replace(self.config, **changes))
        other._channels, other._places, other.closers = self._channels, self._places, self.closers
        return other

    def place(self, locate: str) -> Place:
        """Of the shard that this method ("MessagingService/Locate") tells."""
        return self._places.setdefault(locate, Place())

    async def close(self) -> None:
        for close in list(self.closers):
            await close()
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close(None)

    async def call(self, method: str, request: Message, reply: type[M], *, idempotent: bool = True) -> M:
        """One unary call ("InstanceService/Launch"). Raises CloudError."""
        started = _now()
        attempt = 0
        while True:
            left = started + self.config.timeout_s - _now()
            try:
                answer: M = await self._unary(method, reply)(request, timeout=max(left, 0.001), metadata=self._metadata)
                return answer
            except grpc.aio.AioRpcError as error:
                failure = mapped(error)
                wait = self._pause(failure, attempt, _now() - started) if idempotent else None
                if wait is None:
                    raise failure from None
            attempt += 1
            await asyncio.sleep(wait)

    async def upload(self, method: str, requests: AsyncIterator[Message], reply: type[M]) -> M:
        """A client-streaming call without a deadline of its own: it lasts as long as the data. Raises CloudError."""
        channel = self._channel(self.config.address, self.config.tls)
        start = channel.stream_unary(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        try:
            answer: M = await start(requests, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise mapped(error) from None
        return answer

    async def follow(self, method: str, request: Message, reply: type[M]) -> AsyncIterator[M]:
        """A server stream that may be opened again: after UNAVAILABLE it is, and starts from the present state."""
        attempt, failed_since = 0, _now()
        while True:
            try:
                async for message in self._server_stream(method, request, reply):
                    attempt, failed_since = 0, _now()
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                failure = mapped(error)
            if attempt == 0:
                failed_since = _now()
            wait = self._pause(failure, attempt, _now() - failed_since)
            if wait is None:
                raise failure
            attempt += 1
            await asyncio.sleep(wait)

    async def _server_stream(self, method: str, request: Message, reply: type[M]) -> AsyncIterator[M]:
        channel = self._channel(self.config.address, self.config.tls)
        start = channel.unary_stream(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        call = start(request, metadata=self._metadata)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    def _unary(self, method: str, reply: type[M]) -> Callable[..., Any]:
        channel = self._channel(self.config.address, self.config.tls)
        start: Callable[..., Any] = channel.unary_unary(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        return start

    def guest_stream(self, endpoint: models.Endpoint, method: str, reply: type[Message]) -> GuestStream:
        """Open a bidirectional call to a host agent ("Exec")."""
        open_ = self._channel(endpoint.address, endpoint.tls).stream_stream
        return self._guest(open_, endpoint, method, reply)

    def guest_upload(self, endpoint: models.Endpoint, method: str, reply: type[Message]) -> GuestStream:
        """Open a client stream to a host agent."""
        open_ = self._channel(endpoint.address, endpoint.tls).stream_unary
        return self._guest(open_, endpoint, method, reply)

    def guest_download(
        self, endpoint: models.Endpoint, method: str, request: Message, reply: type[Message]
    ) -> GuestStream:
        """Open a server stream from a host agent."""
        open_ = self._channel(endpoint.address, endpoint.tls).unary_stream
        return self._guest(open_, endpoint, method, reply, request)

    def _guest(
        self, open_: Any, endpoint: models.Endpoint, method: str, reply: type[Message], *first: Message
    ) -> GuestStream:
        path = f"{_PACKAGE}GuestService/{method}"
        start = open_(path, request_serializer=_serialize, response_deserializer=reply.FromString)
        return GuestStream(start(*first, metadata=((TICKET_METADATA, endpoint.ticket),)))

    def broker_unary(self, endpoint: models.BrokerEndpoint, method: str, reply: type[Message]) -> Callable[..., Any]:
        """How a method of a shard is called; the ticket is the caller's to give."""
        channel = self._channel(endpoint.address, endpoint.tls)
        start: Callable[..., Any] = channel.unary_unary(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        return start

    def broker_stream(self, endpoint: models.BrokerEndpoint, method: str, reply: type[Message]) -> Callable[..., Any]:
        """The same for a method that answers with a stream."""
        channel = self._channel(endpoint.address, endpoint.tls)
        start: Callable[..., Any] = channel.unary_stream(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        return start

    def broker_upload(self, endpoint: models.BrokerEndpoint, method: str, reply: type[Message]) -> Callable[..., Any]:
        """The same for a method that takes a stream."""
        channel = self._channel(endpoint.address, endpoint.tls)
        start: Callable[..., Any] = channel.stream_unary(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        return start

    def broker_duplex(self, endpoint: models.BrokerEndpoint, method: str, reply: type[Message]) -> Callable[..., Any]:
        """The same for a method that takes a stream and answers with one."""
        channel = self._channel(endpoint.address, endpoint.tls)
        start: Callable[..., Any] = channel.stream_stream(
            _PACKAGE + method, request_serializer=_serialize, response_deserializer=reply.FromString
        )
        return start

    def _channel(self, address: str, tls: bool) -> grpc.aio.Channel:
        found = self._channels.get((address, tls))
        if found is None:
            found = self._channels[address, tls] = _open(address, tls, self.config.ca)
        return found

    def _pause(self, failure: CloudError, attempt: int, elapsed: float) -> float | None:
        """Seconds until the next attempt; None: give up."""
        if not isinstance(failure, Unavailable):
            return None
        channel = self._channel(self.config.address, self.config.tls)
        there = channel.get_state() is grpc.ChannelConnectivity.READY
        budget = self.config.retry_s if there else min(self.config.connect_s, self.config.retry_s)
        wait = jitter() * _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
        return wait if elapsed + wait < min(budget, self.config.timeout_s) else None


@cache
def hold_grpc() -> None:
    """Keep grpc.aio open for as long as the process lives. For loops that are the process's only one.

    It closes its queue when its last object goes, also while an event of it is being handled, which ends in a traceback
    on stderr (EBADF). Programs with one loop after another must not hold it: events of a closed loop would stay in it.
    """
    vars(grpc.aio)["init_grpc_aio"]()


def _open(address: str, tls: bool, ca: str) -> grpc.aio.Channel:
    if LOOP.is_current():
        hold_grpc()
    options = list(_CHANNEL_OPTIONS)
    if not tls:
        return grpc.aio.insecure_channel(address, options=options)
    try:
        roots = Path(ca).read_bytes() if ca else None
    except OSError as error:
        raise InvalidParameterValue(f"cannot read {ca}: {error.strerror}", field="ca") from None
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=options)


def _metadata(config: ClientConfig) -> Metadata:
    pairs = []
    if config.access_key_id:
        pairs.append(("authorization", f"Bearer {config.access_key_id}:{config.secret_access_key}"))
    if config.region:
        pairs.append(("x-minicloud-region", config.region))
    return tuple(pairs)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _now() -> float:
    return asyncio.get_running_loop().time()
