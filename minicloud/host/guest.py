"""The host's end of a guest's init: one connection a session, typed, with a deadline on everything a guest must answer.

A guest is not trusted. It can write to its control directory, which is the host's as well, so the socket is opened as
what it is (O_NOFOLLOW, must be a socket) and connected by descriptor: a link there leads nowhere, and no path is too
long. What it sends is bounded and checked; a guest that hangs costs its caller a deadline and nobody else anything.

The protocol itself is described in `minicloud_workers.protocol`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from minicloud_workers import protocol

from minicloud.base import errors
from minicloud.base.errors import CloudError, Internal, InvalidParameterValue, Unavailable
from minicloud.host.notify import CREATE, MOVED_TO, Notify

ANSWER_S = 10.0  # to open a session
PING_S = 2.0
PROGRESS_S = 60.0  # without a byte moved, in a transfer
_STREAM_LIMIT = 2 * protocol.FRAME_BYTES_MAX
_TEXT_CHARS_MAX = 1024


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """What init says of itself. `user_data_state`: none | running | done | failed."""

    uptime_s: float
    load: tuple[float, float, float]
    processes: int
    sessions: int
    user_data_state: str
    user_data_exit: int
    stopping: bool


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. No argv, with a terminal: the login shell. No cwd: the home directory. Sides 0: 24 by 80."""

    argv: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    tty: bool = False
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that the command wrote; on a terminal all of it is stdout."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a command. 128+n: by signal n; 126, 127 with `error`: it could not be started."""

    code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of a transfer."""

    files: int
    bytes: int


class _Channel:
    """One connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Raises Unavailable when the guest is gone."""
        try:
            for start in range(0, max(len(payload), 1), protocol.FRAME_BYTES_MAX):
                part = payload[start : start + protocol.FRAME_BYTES_MAX]
                self._writer.write(protocol.header(kind, len(part)))
                self._writer.write(part)
            await self._writer.drain()
        except (ConnectionError, OSError) as error:
            raise Unavailable("the guest has closed the session") from error

    async def send_control(self, kind: bytes, fields: Mapping[str, Any]) -> None:
        payload = protocol.control(kind, dict(fields))[protocol.HEADER_BYTES :]
        if len(payload) > protocol.FRAME_BYTES_MAX:
            raise InvalidParameterValue(
                f"argv and env are {len(payload)} bytes together, at most {protocol.FRAME_BYTES_MAX}", field="argv"
            )
        await self.send(kind, payload)

    async def receive(self) -> tuple[bytes, bytes] | None:
        """The next frame; None: the guest has closed. Raises the error that an ERROR frame carries, Unavailable."""
        try:
            kind, size = protocol.parse_header(await self._reader.readexactly(protocol.HEADER_BYTES))
            payload = await self._reader.readexactly(size) if size else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except (protocol.BadFrame, OSError) as error:
            raise Unavailable(f"the guest's init answers nonsense: {error}") from error
        if kind == protocol.ERROR:
            raise _error(_fields(payload))
        return kind, payload

    async def expect(self, kind: bytes, seconds: float) -> dict[str, Any]:
        """The control frame that must come next, in time. Raises Unavailable."""
        got = await within(seconds, self.receive())
        if got is None or got[0] != kind:
            raise Unavailable("the guest has closed the session")
        return _fields(got[1])

    def close(self) -> None:
        with suppress(OSError, RuntimeError):  # RuntimeError: the event loop is closed already
            self._writer.transport.abort()


class ExecSession:
    """A command that runs: iterate for Output events and one Exit, the last. Close it, or use `async with`.

    Closing before the Exit hangs the command up. All methods raise Unavailable when the guest is gone.
    """

    def __init__(self, channel: _Channel, pid: int, ended: Exit | None) -> None:
        self._channel = channel
        self._ended = ended
        self.pid = pid  # as the guest counts; 0: it could not be started

    async def write(self, data: bytes) -> None:
        """To its stdin. Waits while the command does not read."""
        if self._ended is None and data:
            await self._channel.send(protocol.DATA, data)

    async def end_input(self) -> None:
        if self._ended is None:
            await self._channel.send(protocol.EOF)

    async def resize(self, rows: int, columns: int) -> None:
        """Of its terminal; without one it does nothing."""
        if self._ended is None:
            await self._channel.send_control(protocol.WINDOW, {"rows": rows, "columns": columns})

    async def signal(self, number: int) -> None:
        if self._ended is None:
            await self._channel.send_control(protocol.SIGNAL, {"signal": number})

    async def __aiter__(self) -> AsyncIterator[Output | Exit]:
        while self._ended is None:
            got = await self._channel.receive()
            if got is None:
                raise Unavailable("the guest went away while the command ran")
            kind, payload = got
            if kind == protocol.DATA:
                yield Output("stdout", payload)
            elif kind == protocol.STDERR:
                yield Output("stderr", payload)
            elif kind == protocol.EXIT:
                self._ended = _exit(_fields(payload))
        yield self._ended

    def close(self) -> None:
        self._channel.close()

    async def __aenter__(self) -> ExecSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class ForwardSession:
    """A TCP connection into the guest. Iterate for its bytes; the iteration ends when the guest's side has ended."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    async def write(self, data: bytes) -> None:
        if data:
            await self._channel.send(protocol.DATA, data)

    async def end_input(self) -> None:
        """Half-close: the guest reads an end of file, and may go on writing."""
        await self._channel.send(protocol.EOF)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (got := await self._channel.receive()) is not None and got[0] == protocol.DATA:
            yield got[1]

    def close(self) -> None:
        self._channel.close()

    async def __aenter__(self) -> ForwardSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Guest:
    """Sessions with the init behind `socket_path`. Holds no connection of its own; every method opens one."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = Path(socket_path)

    async def wait_ready(self, notify: Notify, seconds: float) -> None:
        """Until init listens: its socket appears by rename, complete. Raises Unavailable."""
        appeared = asyncio.Event()
        watch = notify.watch(self.socket_path.parent, CREATE | MOVED_TO, appeared.set)
        try:
            async with asyncio.timeout(seconds):
                while not self._listens():
                    await appeared.wait()
                    appeared.clear()
        except TimeoutError:
            raise Unavailable(f"the guest's init did not come up within {seconds:g} s") from None
        finally:
            watch.close()

    def _listens(self) -> bool:
        """A socket file alone says nothing: an earlier boot may have left it."""
        try:
            _connected(self.socket_path).close()
        except Unavailable:
            return False
        return True

    async def ping(self, seconds: float = PING_S) -> GuestStatus:
        """Raises Unavailable when init does not answer in time."""
        async with _Opening(self, {"kind": "ping"}, seconds) as (_channel, fields):
            return _status(fields)

    async def watch(self) -> AsyncGenerator[GuestStatus, None]:
        """The status now and after every change of it, until the guest ends. Raises Unavailable at the start only."""
        async with _Opening(self, {"kind": "watch"}) as (channel, fields):
            yield _status(fields)
            while (got := await channel.receive()) is not None:
                yield _status(_fields(got[1]))

    async def exec(self, command: Command, seconds: float = ANSWER_S) -> ExecSession:
        """Start a command. One that cannot be started gives a session whose only event is its Exit."""
        fields = {
            "kind": "exec",
            "argv": list(command.argv),
            "env": dict(command.env),
            "cwd": command.cwd,
            "tty": command.tty,
            "rows": command.rows,
            "columns": command.columns,
        }
        channel = await self._connect()
        try:
            await within(seconds, channel.send_control(protocol.OPEN, fields))
            got = await within(seconds, channel.receive())
            if got is None:
                raise Unavailable("the guest has closed the session")
            answer = _fields(got[1])
            ended = _exit(answer) if got[0] == protocol.EXIT else None
            return ExecSession(channel, _number(answer, "pid"), ended)
        except BaseException:
            channel.close()
            raise

    async def upload(self, path: str, chunks: AsyncIterable[bytes]) -> Moved:
        """Unpack an uncompressed tar under an existing directory. Raises what `chunks` or the guest raises."""
        async with _Opening(self, {"kind": "upload", "path": path}) as (channel, _fields):
            sending = asyncio.ensure_future(_send_all(channel, chunks))
            result = asyncio.ensure_future(channel.receive())
            try:
                await asyncio.wait((sending, result), return_when=asyncio.FIRST_COMPLETED)
                if sending.done() and not result.done() and sending.exception() is None:
                    await within(PROGRESS_S, asyncio.wait((result,)))
                if sending.done() and (error := sending.exception()) is not None and not result.done():
                    raise error
                return _moved(result.result())
            finally:
                for task in (sending, result):
                    task.cancel()
                await asyncio.gather(sending, result, return_exceptions=True)

    async def download(self, path: str) -> AsyncGenerator[bytes, None]:
        """An uncompressed tar of a file or directory, in chunks."""
        async with _Opening(self, {"kind": "download", "path": path}) as (channel, _fields):
            while (got := await within(PROGRESS_S, channel.receive())) is not None:
                if got[0] != protocol.DATA:
                    _moved(got)
                    return
                yield got[1]
        raise Unavailable("the guest went away during the transfer")

    async def forward(self, port: int, seconds: float = ANSWER_S) -> ForwardSession:
        """Raises Conflict when nothing listens on that port of the guest."""
        channel = await self._connect()
        try:
            await within(seconds, channel.send_control(protocol.OPEN, {"kind": "forward", "port": port}))
            await channel.expect(protocol.OPENED, seconds)
        except BaseException:
            channel.close()
            raise
        return ForwardSession(channel)

    async def shutdown(self, grace_s: float) -> None:
        """Ask the guest to end; returns when init has taken the order. The end itself is the exit of its process."""
        async with _Opening(self, {"kind": "shutdown", "grace_s": grace_s}):
            return

    async def _connect(self) -> _Channel:
        sock = _connected(self.socket_path)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_STREAM_LIMIT)
        except BaseException:
            sock.close()
            raise
        return _Channel(reader, writer)


class _Opening:
    """`async with`: a session that answered OPENED, closed at the end."""

    def __init__(self, guest: Guest, fields: dict[str, Any], seconds: float = ANSWER_S) -> None:
        self._guest = guest
        self._fields = fields
        self._seconds = seconds

    async def __aenter__(self) -> tuple[_Channel, dict[str, Any]]:
        self._channel = await self._guest._connect()
        try:
            await within(self._seconds, self._channel.send_control(protocol.OPEN, self._fields))
            return self._channel, await self._channel.expect(protocol.OPENED, self._seconds)
        except BaseException:
            self._channel.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._channel.close()


def _connected(path: Path) -> socket.socket:
    """Through a descriptor of the socket file itself. Raises Unavailable."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    fd = -1
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise Unavailable("the guest has put something else in the place of its socket")
        sock.connect(f"/proc/self/fd/{fd}")
    except OSError as error:  # BlockingIOError among them: its backlog is full, so it has not listened for a while
        sock.close()
        raise Unavailable(f"the guest's init does not answer: {error.strerror}") from error
    except Unavailable:
        sock.close()
        raise
    finally:
        if fd >= 0:
            os.close(fd)
    return sock


async def within(seconds: float, work: Any) -> Any:
    """Await with a deadline. Raises Unavailable."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise Unavailable(f"the guest did not answer within {seconds:g} s") from None


async def _send_all(channel: _Channel, chunks: AsyncIterable[bytes]) -> None:
    async for chunk in chunks:
        if chunk:
            await within(PROGRESS_S, channel.send(protocol.DATA, chunk))
    await within(PROGRESS_S, channel.send(protocol.EOF))


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        return protocol.parse_control(payload)
    except protocol.BadFrame as error:
        raise Unavailable(f"the guest's init answers nonsense: {error}") from error


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name, 0)
    return value if isinstance(value, int) and -(2**31) <= value < 2**63 else 0


def _text(fields: Mapping[str, Any], name: str) -> str:
    return str(fields.get(name, ""))[:_TEXT_CHARS_MAX]


def _error(fields: Mapping[str, Any]) -> CloudError:
    kind = getattr(errors, _text(fields, "code"), None)
    if not (isinstance(kind, type) and issubclass(kind, CloudError)):
        kind = Internal
    return kind(_text(fields, "message") or None, field=_text(fields, "field") or None)


def _exit(fields: Mapping[str, Any]) -> Exit:
    return Exit(_number(fields, "code") & 0xFF, _text(fields, "error"))


def _moved(got: tuple[bytes, bytes] | None) -> Moved:
    if got is None or got[0] != protocol.EXIT:
        raise Unavailable("the guest went away during the transfer")
    fields = _fields(got[1])
    return Moved(_number(fields, "files"), _number(fields, "bytes"))


def _status(fields: Mapping[str, Any]) -> GuestStatus:
    user_data = fields.get("user_data")
    if not isinstance(user_data, dict):
        user_data = {}
    load = fields.get("load")
    numbers = [float(value) for value in load if isinstance(value, (int, float))] if isinstance(load, list) else []
    one, five, fifteen = (*numbers, 0.0, 0.0, 0.0)[:3]
    uptime = fields.get("uptime_s")
    return GuestStatus(
        uptime_s=float(uptime) if isinstance(uptime, (int, float)) else 0.0,
        load=(one, five, fifteen),
        processes=_number(fields, "processes"),
        sessions=_number(fields, "sessions"),
        user_data_state=_text(user_data, "state"),
        user_data_exit=_number(user_data, "exit"),
        stopping=fields.get("stopping") is True,
    )
