"""Into a guest: commands, terminals, logs, files, ports. These streams go straight to the instance's host agent.

    InstanceService.GetEndpoint  ->  address of the host agent + a ticket that is good for a short time
    GuestService.<stream>        ->  with the ticket as metadata

Back pressure is gRPC's own: a writer waits until the peer has room, and nothing is read ahead of what the caller takes.
A stream that breaks is not opened again: a command cannot be run twice in the caller's name.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from minicloud.base.errors import (
    CloudError,
    DeadlineExceeded,
    IncorrectState,
    InvalidParameterValue,
)
from minicloud.client import files
from minicloud.client.convert import check_names, to_model
from minicloud.client.forward import AsyncForward
from minicloud.client.lazy import lazy
from minicloud.client.streams import GuestStream
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import guest_pb2, instance_pb2
else:
    models = lazy("minicloud.client.models")
    guest_pb2 = lazy("minicloud.wire.guest_pb2")
    instance_pb2 = lazy("minicloud.wire.instance_pb2")

_CHUNK_BYTES = 64 * 1024  # below limits.STREAM_CHUNK_BYTES_MAX; large enough that a message's cost does not show
_SHELL = "/bin/sh"


class ExecOptions(TypedDict, total=False):
    """How a command runs in a guest: environment to add, working directory, user ("root" or empty)."""

    env: Mapping[str, str]
    cwd: str
    user: str


class AsyncExecSession:
    """A command that runs in a guest. Take its output until it ends; then `exit_code` is set."""

    def __init__(self, call: GuestStream) -> None:
        self._call = call
        self._pid: int | None = None
        self._exit_code: int | None = None
        self._error = ""

    async def __aenter__(self) -> AsyncExecSession:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """The process id inside the guest, once it has started."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128+n: ended by signal n; 126, 127: it could not be started (see `error`)."""
        return self._exit_code

    @property
    def error(self) -> str:
        """Why it could not be started; '' otherwise."""
        return self._error

    async def read(self) -> models.ExecChunk | None:
        """The next piece of output; None when the command has ended. Raises CloudError."""
        while self._exit_code is None:
            message = await self._call.read()
            if message is None:
                raise await self._call.broken()
            chunk = self._take(message)
            if chunk is not None:
                return chunk
        return None

    async def output(self) -> AsyncIterator[models.ExecChunk]:
        """Output until the command ends. Raises CloudError."""
        while (chunk := await self.read()) is not None:
            yield chunk

    async def write(self, data: bytes) -> None:
        """To its standard input; waits while the guest has no room. Raises IncorrectState once it has ended."""
        for start in range(0, len(data), _CHUNK_BYTES):
            await self._send(guest_pb2.ExecInput(stdin=data[start : start + _CHUNK_BYTES]))

    async def close_stdin(self) -> None:
        """End of its standard input."""
        await self._send(guest_pb2.ExecInput(stdin_eof=True))

    async def resize(self, rows: int, columns: int) -> None:
        """The size of its terminal."""
        await self._send(guest_pb2.ExecInput(window=guest_pb2.WindowSize(rows=rows, columns=columns)))

    async def signal(self, number: int) -> None:
        """To the process group of the command."""
        await self._send(guest_pb2.ExecInput(signal=number))

    async def wait(self) -> int:
        """Its exit code; output not taken so far is dropped. Raises CloudError."""
        while await self.read() is not None:
            pass
        return self._exit_code if self._exit_code is not None else 1

    async def close(self) -> None:
        """Leave it: the stream ends, and with it a command that still runs."""
        self._call.cancel()

    def _take(self, message: guest_pb2.ExecOutput) -> models.ExecChunk | None:
        part = message.WhichOneof("part")
        if part == "stdout":
            return models.ExecChunk("stdout", message.stdout)
        if part == "stderr":
            return models.ExecChunk("stderr", message.stderr)
        if part == "started_pid":
            self._pid = message.started_pid
        elif part == "exit":
            self._exit_code, self._error = message.exit.code, message.exit.error
        return None

    async def _send(self, message: guest_pb2.ExecInput) -> None:
        if not await self._call.write(message):
            raise IncorrectState("the command has ended", code="CommandEnded")


class AsyncGuests:
    """Streams into guests; part of `instances`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def endpoint(self, instance_id: str) -> models.Endpoint:
        """Where the guest's streams are served, with a ticket for them. Raises NotFound, IncorrectState."""
        request = instance_pb2.GetEndpointRequest(instance_id=instance_id)
        reply = await self._transport.call("InstanceService/GetEndpoint", request, instance_pb2.Endpoint)
        return to_model(models.Endpoint, reply)

    async def exec(
        self,
        instance_id: str,
        command: Sequence[str] | str,
        *,
        stdin: bytes = b"",
        timeout: float | None = None,
        **options: Unpack[ExecOptions],
    ) -> models.ExecResult:
        """Run a command to its end; a string is given to `/bin/sh -c`. timeout: seconds, then it is ended.

        Raises NotFound, IncorrectState (not running), DeadlineExceeded.
        """
        session = await self.open_exec(instance_id, command, **options)
        try:
            async with asyncio.timeout(timeout):
                return await _collect(session, stdin)
        except TimeoutError:
            raise DeadlineExceeded(f"the command did not end within {timeout:g} s", field="timeout") from None
        finally:
            await session.close()

    async def open_exec(
        self, instance_id: str, command: Sequence[str] | str, **options: Unpack[ExecOptions]
    ) -> AsyncExecSession:
        """Start a command and stay in touch with it: output as it comes, standard input, signals."""
        return await self._start(_exec_start(instance_id, _argv(command), options))

    async def connect(
        self,
        instance_id: str,
        command: Sequence[str] | str = (),
        *,
        rows: int = 24,
        columns: int = 80,
        **options: Unpack[ExecOptions],
    ) -> AsyncExecSession:
        """A terminal in the guest; without a command the login shell."""
        start = _exec_start(instance_id, _argv(command) if command else (), options)
        start.tty = True
        start.window.rows, start.window.columns = rows, columns
        return await self._start(start)

    async def logs(self, instance_id: str, *, follow: bool = False, tail_bytes: int = 0) -> AsyncIterator[bytes]:
        """The console log, from its last `tail_bytes` (0: all that is kept); with `follow` until the caller stops."""
        request = guest_pb2.LogsRequest(instance_id=instance_id, follow=follow, tail_bytes=tail_bytes)
        endpoint = await self.endpoint(instance_id)
        call = self._transport.guest_download(endpoint, "Logs", request, guest_pb2.LogChunk)
        async for chunk in files.chunks(call):
            yield chunk

    async def upload(self, instance_id: str, local_path: str | Path, remote_path: str) -> models.CopyResult:
        """Copy a file or directory into the guest, as `cp -r` would: into a directory that exists, else as that name.

        Raises InvalidParameterValue, NotFound (no such local file), CloudError of the guest; OSError of local files.
        """
        source = files.local_source(local_path)
        folder, name = await self._target(instance_id, remote_path, source.name)
        endpoint = await self.endpoint(instance_id)
        call = self._transport.guest_upload(endpoint, "Upload", guest_pb2.UploadResult)
        header = guest_pb2.UploadHeader(instance_id=instance_id, path=folder)
        return await files.send(call, header, source, name)

    async def download(self, instance_id: str, remote_path: str, local_path: str | Path) -> models.CopyResult:
        """Copy a file or directory out of the guest, as `cp -r` would.

        What would reach outside of the target (absolute links, devices) is left out and named in `skipped`.
        """
        _check_absolute(remote_path)
        target = files.local_target(local_path, posixpath.basename(remote_path.rstrip("/")) or "root")
        endpoint = await self.endpoint(instance_id)
        request = guest_pb2.DownloadRequest(instance_id=instance_id, path=remote_path)
        call = self._transport.guest_download(endpoint, "Download", request, guest_pb2.DataChunk)
        return await files.receive(call, target)

    async def forward(
        self,
        instance_id: str,
        remote_port: int,
        *,
        local_port: int = 0,
        on_error: Callable[[CloudError], None] | None = None,
    ) -> AsyncForward:
        """Listen on a loopback port (0: a free one) and carry each connection to a port of the guest.

        on_error hears of connections that failed. Raises InvalidParameterValue, NotFound; OSError (port taken).
        """
        if not 1 <= remote_port <= 65535:
            raise InvalidParameterValue(f"not a port: {remote_port}", field="remote_port")
        await self.endpoint(instance_id)  # an unknown or stopped instance is told now, not at the first connection
        forward = AsyncForward(self._transport, instance_id, remote_port, on_error)
        await forward.listen(local_port, self.endpoint)
        return forward

    async def _start(self, start: guest_pb2.ExecStart) -> AsyncExecSession:
        endpoint = await self.endpoint(start.instance_id)
        session = AsyncExecSession(self._transport.guest_stream(endpoint, "Exec", guest_pb2.ExecOutput))
        await session._call.write(guest_pb2.ExecInput(start=start))  # one that ended at once is told by `read`
        return session

    async def _target(self, instance_id: str, remote_path: str, name: str) -> tuple[str, str]:
        """The directory to unpack in, and the name there."""
        _check_absolute(remote_path)
        if await self._is_directory(instance_id, remote_path):
            return remote_path, name
        if remote_path.endswith("/"):
            raise InvalidParameterValue(f"{remote_path} is not a directory of the guest", field="remote_path")
        folder, name = posixpath.split(remote_path)
        return folder, name

    async def _is_directory(self, instance_id: str, path: str) -> bool:
        if posixpath.normpath(path) == "/":
            return True
        found = await self.exec(instance_id, (_SHELL, "-c", 'test -d "$1"', "test", path))
        return path.endswith("/") if found.error else found.exit_code == 0


async def _collect(session: AsyncExecSession, stdin: bytes) -> models.ExecResult:
    feeder = asyncio.ensure_future(_feed(session, stdin))
    kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    try:
        async for chunk in session.output():
            kept[chunk.stream].append(chunk.data)
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
    code = 1 if session.exit_code is None else session.exit_code
    return models.ExecResult(b"".join(kept["stdout"]), b"".join(kept["stderr"]), code, session.error)


async def _feed(session: AsyncExecSession, stdin: bytes) -> None:
    """A command may end without reading its input: that is its right, and `output` has the true story."""
    try:
        await session.write(stdin)
        await session.close_stdin()
    except CloudError:
        return


def _exec_start(instance_id: str, argv: Sequence[str], options: ExecOptions) -> guest_pb2.ExecStart:
    check_names(options, ExecOptions)
    return guest_pb2.ExecStart(
        instance_id=instance_id,
        argv=argv,
        env=options.get("env", {}),
        cwd=options.get("cwd", ""),
        user=options.get("user", ""),
    )


def _argv(command: Sequence[str] | str) -> Sequence[str]:
    if isinstance(command, str):
        return (_SHELL, "-c", command)
    if not command:
        raise InvalidParameterValue("there is no command", field="command")
    return command


def _check_absolute(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise InvalidParameterValue(f"a path in the guest starts with '/': {path[:200]!r}", field="remote_path")
