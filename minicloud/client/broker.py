"""The way to the shard that serves the caller's queues and topics (a message broker), or its load balancers.

    MessagingService.Locate  ->  address of the broker + a ticket for it, asked once and kept
    QueueService, TopicService  ->  straight to the broker, with the ticket as metadata
    BalancingService.Locate, BalancerService  ->  the same for a balancer process
    AutoscalingService.Locate  ->  the same for the autoscaler: metrics, alarms, logs, groups
    ComputingService.Locate, FunctionService  ->  the same for a function process

The ticket is asked for again before it ends (calls go on with the old one meanwhile), after UNAUTHENTICATED, and when
the broker stays away: then it may have come up elsewhere. UNAVAILABLE is retried until `retry_s` has passed: a broker
that restarts is back within seconds, and what it had acknowledged is there. So are calls that were throttled. A call
whose answer was lost on the way is made again too, so a message may be sent twice (at least once, as AWS's SDKs do it);
FIFO queues know it by its deduplication id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from minicloud.base.errors import CloudError, DeadlineExceeded, Throttled, Unauthenticated, Unavailable
from minicloud.client.config import jitter
from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.streams import mapped
from minicloud.client.transport import TICKET_METADATA, Transport

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

    from minicloud.client import models
    from minicloud.rpc.bulk import Encoded
    from minicloud.wire import queue_pb2
else:
    models = lazy("minicloud.client.models")
    queue_pb2 = lazy("minicloud.wire.queue_pb2")
    grpc = lazy("grpc")

M = TypeVar("M", bound="Message")

MESSAGES, BALANCERS, AUTOSCALERS = "MessagingService/Locate", "BalancingService/Locate", "AutoscalingService/Locate"
FUNCTIONS = "ComputingService/Locate"
_BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)
_LOCATE_EVERY = 4  # attempts that failed, about half a second
_RENEW_S_MIN = 60.0  # of a ticket that seems to end sooner: the clocks differ, UNAUTHENTICATED will tell
_RENEW_PART = 0.8  # of a ticket's life


class Broker:
    """Calls to the caller's shard. Used from one event loop; clients made by `with_options` share the place.

    locate: the method that says where it is.
    """

    def __init__(self, transport: Transport, locate: str = MESSAGES) -> None:
        self.transport = transport
        self._locate_method = locate
        self._place = transport.place(locate)

    async def call(
        self, method: str, request: Message | Encoded, reply: type[M], *, wait_s: float = 0.0, repeat: bool = True
    ) -> M:
        """One call ("QueueService/SendBulk"). wait_s: how long the broker itself may wait. Raises CloudError.

        repeat: after UNAVAILABLE too, when it may have been carried out.
        """
        config = self.transport.config
        started = _now()
        budget = config.timeout_s + wait_s
        attempt, renewed = 0, False
        while True:
            try:
                start = await self._start(method, reply, started + budget - _now())
                left = max(started + budget - _now(), 0.001)
                metadata = self._place.metadata
                answer: M = await start(request, timeout=left, metadata=metadata)
                return answer
            except grpc.aio.AioRpcError as error:
                failure = mapped(error)
            if isinstance(failure, Unauthenticated) and not renewed:
                renewed = True
                if self._place.metadata is metadata:  # else another call has a new one already
                    self._place.forget()
                continue
            unsure = isinstance(failure, Unavailable) and not repeat
            pause = None if unsure else self._pause(failure, attempt, _now() - started)
            if pause is None:
                raise failure
            attempt += 1
            if attempt % _LOCATE_EVERY == 0:
                self._place.forget()
            await asyncio.sleep(pause)

    async def follow(self, method: str, request: Message, reply: type[M]) -> AsyncGenerator[M, None]:
        """A server stream that may be opened again: after UNAVAILABLE it is, and starts from the present state."""
        attempt, renewed, failed_since = 0, False, _now()
        while True:
            try:
                async for message in self._stream(method, request, reply):
                    attempt, renewed, failed_since = 0, False, _now()
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                failure = mapped(error)
            if isinstance(failure, Unauthenticated) and not renewed:
                renewed = True
                self._place.forget()
                continue
            pause = self._pause(failure, attempt, _now() - failed_since)
            if pause is None:
                raise failure
            attempt += 1
            if attempt % _LOCATE_EVERY == 0:
                self._place.forget()
            await asyncio.sleep(pause)

    async def _stream(self, method: str, request: Message, reply: type[M]) -> AsyncIterator[M]:
        place = self._place
        if place.endpoint is None or _now() > place.renew_at:
            await self._locate(self.transport.config.timeout_s)
        assert place.endpoint is not None
        call = self.transport.broker_stream(place.endpoint, method, reply)(request, metadata=place.metadata)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    async def upload(self, method: str, requests: Sequence[Message], reply: type[M]) -> M:
        """A client-streaming call, once: it is not made again when its answer is lost. Raises CloudError."""
        place = self._place
        if place.endpoint is None or _now() > place.renew_at:
            await self._locate(self.transport.config.timeout_s)
        assert place.endpoint is not None
        start = self.transport.broker_upload(place.endpoint, method, reply)
        try:
            answer: M = await start(iter(requests), metadata=place.metadata)
            return answer
        except grpc.aio.AioRpcError as error:
            raise mapped(error) from None

    async def stream(self, method: str, request: Message, reply: type[M]) -> AsyncIterator[M]:
        """A server-streaming call, once. Raises CloudError."""
        try:
            async for message in self._stream(method, request, reply):
                yield message
        except grpc.aio.AioRpcError as error:
            raise mapped(error) from None

    async def duplex(self, method: str, reply: type[Message]) -> tuple[Callable[..., Any], Any]:
        """What starts a stream both ways, and its metadata: a ticket that is good for most of its life."""
        place = self._place
        if place.endpoint is None or _now() > place.renew_at:
            await self._locate(self.transport.config.timeout_s)
        assert place.endpoint is not None
        return self.transport.broker_duplex(place.endpoint, method, reply), place.metadata

    def forget(self) -> None:
        """Ask where it is before the next call."""
        self._place.forget()

    def pause(self, failure: CloudError, attempt: int, elapsed: float) -> float | None:
        """Seconds until the next attempt; None: give up."""
        return self._pause(failure, attempt, elapsed)

    def _pause(self, failure: CloudError, attempt: int, elapsed: float) -> float | None:
        """Seconds until the next attempt; None: give up."""
        if not isinstance(failure, Unavailable | Throttled):
            return None
        config = self.transport.config
        pause = jitter() * _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
        return pause if elapsed + pause < min(config.retry_s, config.timeout_s) else None

    async def _start(self, method: str, reply: type[Message], left: float) -> Callable[..., Any]:
        place = self._place
        if place.endpoint is None:
            await self._locate(left)
        elif _now() > place.renew_at and place.asking is None:
            self._ask()
        start = place.calls.get(method)
        if start is None:
            assert place.endpoint is not None
            start = place.calls[method] = self.transport.broker_unary(place.endpoint, method, reply)
        return start

    async def _locate(self, left: float) -> None:
        """Whoever comes while somebody asks waits for the same answer; one that leaves does not end it for the rest."""
        task = self._place.asking or self._ask()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                await asyncio.shield(task)
        except TimeoutError:
            raise DeadlineExceeded(f"the cloud did not answer {self._locate_method} in time") from None
        except CloudError as error:
            raise error.copy() from None

    def _ask(self) -> asyncio.Task[None]:
        place = self._place
        task = asyncio.get_running_loop().create_task(self._renew())
        place.asking = task
        task.add_done_callback(_asked(place))
        return task

    async def _renew(self) -> None:
        reply = await self.transport.call(self._locate_method, queue_pb2.LocateRequest(), queue_pb2.BrokerEndpoint)
        place, endpoint = self._place, to_model(models.BrokerEndpoint, reply)
        old = place.endpoint
        place.endpoint = endpoint
        place.metadata = ((TICKET_METADATA, endpoint.ticket),)
        life = max(endpoint.expires_ms / 1000 - time.time(), _RENEW_S_MIN)
        place.renew_at = _now() + life * _RENEW_PART
        if old is None or (old.address, old.tls) != (endpoint.address, endpoint.tls):
            place.calls.clear()


def _asked(place: Any) -> Callable[[asyncio.Task[None]], None]:
    def done(task: asyncio.Task[None]) -> None:
        place.asking = None
        if not task.cancelled() and task.exception() is not None:
            # Nobody may wait for it: the old ticket goes on, and the next to need a new one asks again.
            place.renew_at = max(place.renew_at, asyncio.get_running_loop().time() + 1.0)

    return done


def _now() -> float:
    return asyncio.get_running_loop().time()
