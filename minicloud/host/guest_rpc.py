"""GuestService: the streams between callers and guests, at the host agent's own door.

Translates and decides nothing: a ticket is checked (`check_ticket`), the guest is found (`GuestLookup`), frames become
messages. Backpressure passes through from end to end: a caller that does not read stops the guest's writer. When a call
ends early, for whatever reason, its session with the guest is closed, and the guest ends what ran in it.

    Exec      the end of the caller's stream is the end of stdin; nothing after the Exit
    Forward   an empty DataChunk says that the guest's side has ended (half-close); the end of the caller's stream says
              that the caller's has; the call ends when both have
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from minicloud.base.errors import (
    CloudError,
    IncorrectState,
    InvalidParameterValue,
    MissingParameter,
    Unauthenticated,
    Unavailable,
)
from minicloud.host.console import Consoles
from minicloud.host.guest import Command, ExecSession, Exit, ForwardSession, Guest, Output
from minicloud.host.ticket import TICKET_METADATA
from minicloud.rpc.door import Entry, Service, door
from minicloud.wire import guest_pb2 as pb

SIGNAL_MAX = 64
TERMINAL_SIDE_MAX = 0xFFFF

CheckTicket = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class GuestAccess:
    """How to reach one guest of this host. A guest that has ended has a console and no socket."""

    console_path: Path
    socket_path: Path | None = None


class GuestLookup(Protocol):
    """The guests of this host."""

    async def find(self, instance_id: str) -> GuestAccess:
        """Raises NotFound."""
        ...


def guest_service(
    lookup: GuestLookup, consoles: Consoles, check_ticket: CheckTicket, new_request_id: Callable[[], str]
) -> Service:
    """For `minicloud.rpc.server`. `check_ticket(ticket, instance_id, action)` raises Unauthenticated."""
    servicer = GuestServicer(lookup, consoles, check_ticket)
    return door(servicer, pb.DESCRIPTOR.services_by_name["GuestService"], Entry(_ticket, new_request_id))


def _ticket(metadata: Any) -> str:
    ticket = metadata.get(TICKET_METADATA)
    if not isinstance(ticket, str):
        raise Unauthenticated(f"the call has no ticket ({TICKET_METADATA})")
    return ticket


class GuestServicer:
    """One method a call; the third argument is the caller's ticket."""

    def __init__(self, lookup: GuestLookup, consoles: Consoles, check_ticket: CheckTicket) -> None:
        self._lookup = lookup
        self._consoles = consoles
        self._check_ticket = check_ticket

    async def _access(self, ticket: str, instance_id: str, action: str) -> GuestAccess:
        if not instance_id:
            raise MissingParameter("instance_id is required", field="instance_id")
        self._check_ticket(ticket, instance_id, action)
        return await self._lookup.find(instance_id)

    async def _guest(self, ticket: str, instance_id: str, action: str) -> Guest:
        access = await self._access(ticket, instance_id, action)
        if access.socket_path is None:
            raise _not_running(instance_id)
        return Guest(access.socket_path)

    async def Exec(self, requests: AsyncIterator[pb.ExecInput], ticket: str) -> AsyncGenerator[pb.ExecOutput, None]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "start":
            raise MissingParameter("the first message must be start", field="start")
        start = first.start
        if start.user not in ("", "root"):
            raise InvalidParameterValue("a guest has no user but root", field="start.user")
        guest = await self._guest(ticket, start.instance_id, "Exec")
        async with await guest.exec(_command(start)) as session:
            yield pb.ExecOutput(started_pid=session.pid)
            feeder = asyncio.ensure_future(_closing(_feed(session, requests), session))
            try:
                async for event in session:
                    yield _message(event)
            except Unavailable as error:
                raise _failure(feeder, error) from None
            finally:
                await _stop(feeder)

    async def Logs(self, request: pb.LogsRequest, ticket: str) -> AsyncGenerator[pb.LogChunk, None]:
        if request.tail_bytes < 0:
            raise InvalidParameterValue("tail_bytes must not be negative", field="tail_bytes")
        access = await self._access(ticket, request.instance_id, "Logs")
        follow = request.follow and access.socket_path is not None
        async with aclosing(self._consoles.read(access.console_path, request.tail_bytes, follow)) as chunks:
            async for chunk in chunks:
                yield pb.LogChunk(data=chunk)

    async def Upload(self, requests: AsyncIterator[pb.UploadInput], ticket: str) -> pb.UploadResult:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise MissingParameter("the first message must be header", field="header")
        guest = await self._guest(ticket, first.header.instance_id, "Upload")
        moved = await guest.upload(first.header.path, _chunks(requests))
        return pb.UploadResult(files=moved.files, bytes=moved.bytes)

    async def Download(self, request: pb.DownloadRequest, ticket: str) -> AsyncGenerator[pb.DataChunk, None]:
        guest = await self._guest(ticket, request.instance_id, "Download")
        async with aclosing(guest.download(request.path)) as chunks:
            async for chunk in chunks:
                yield pb.DataChunk(data=chunk)

    async def Forward(
        self, requests: AsyncIterator[pb.ForwardInput], ticket: str
    ) -> AsyncGenerator[pb.DataChunk, None]:
        first = await anext(requests, None)
        if first is None:
            raise MissingParameter("the first message must name instance_id and port", field="instance_id")
        if not 1 <= first.port <= 65535:
            raise InvalidParameterValue("port must be from 1 to 65535", field="port")
        guest = await self._guest(ticket, first.instance_id, "Forward")
        async with await guest.forward(first.port) as session:
            await session.write(first.data)
            feeder = asyncio.ensure_future(_closing(_feed_forward(session, requests), session))
            try:
                async for data in session:
                    yield pb.DataChunk(data=data)
                yield pb.DataChunk()
                await feeder
            finally:
                await _stop(feeder)


def _not_running(instance_id: str) -> CloudError:
    return IncorrectState(f"instance {instance_id} is not running on this host", field="instance_id")


def _message(event: Output | Exit) -> pb.ExecOutput:
    if isinstance(event, Exit):
        return pb.ExecOutput(exit=pb.ExecExit(code=event.code, error=event.error))
    if event.stream == "stderr":
        return pb.ExecOutput(stderr=event.data)
    return pb.ExecOutput(stdout=event.data)


def _command(start: pb.ExecStart) -> Command:
    rows, columns = _window(start.window, "start.window")
    return Command(tuple(start.argv), dict(start.env), start.cwd, start.tty, rows, columns)


def _window(window: pb.WindowSize, field: str) -> tuple[int, int]:
    if max(window.rows, window.columns) > TERMINAL_SIDE_MAX:
        raise InvalidParameterValue(f"a side of a terminal is at most {TERMINAL_SIDE_MAX}", field=field)
    return window.rows, window.columns


async def _feed(session: ExecSession, requests: AsyncIterator[pb.ExecInput]) -> None:
    """Everything that comes after start. Raises InvalidRequest."""
    async for message in requests:
        part = message.WhichOneof("part")
        if part == "stdin":
            await session.write(message.stdin)
        elif part == "stdin_eof":
            await session.end_input()
        elif part == "window":
            await session.resize(*_window(message.window, "window"))
        elif part == "signal":
            if not 1 <= message.signal <= SIGNAL_MAX:
                raise InvalidParameterValue(f"signal must be from 1 to {SIGNAL_MAX}", field="signal")
            await session.signal(message.signal)
        elif part == "start":
            raise InvalidParameterValue("start comes once, first", field="start")
        else:
            raise MissingParameter("a message has no part", field="part")
    await session.end_input()


async def _feed_forward(session: ForwardSession, requests: AsyncIterator[pb.ForwardInput]) -> None:
    async for message in requests:
        await session.write(message.data)
    await session.end_input()


async def _chunks(requests: AsyncIterator[pb.UploadInput]) -> AsyncIterator[bytes]:
    async for message in requests:
        if message.WhichOneof("part") != "chunk":
            raise InvalidParameterValue("after the header come chunks only", field="chunk")
        yield message.chunk


async def _closing(feeding: Coroutine[Any, Any, None], session: ExecSession | ForwardSession) -> None:
    """What the caller sends, until it ends. If it fails the session is over, and `_failure` says why."""
    try:
        await feeding
    except Unavailable:  # the guest is gone, which the other direction tells
        return
    except BaseException:
        session.close()
        raise


def _failure(feeder: asyncio.Future[None], error: Unavailable) -> CloudError:
    """The reason why a session broke off: the caller's own bad message, or else what the guest's side says."""
    if not feeder.done() or feeder.cancelled():
        return error
    cause = feeder.exception()
    return cause if isinstance(cause, CloudError) else error


async def _stop(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
