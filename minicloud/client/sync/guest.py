"""Made from `minicloud/client/guest.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from minicloud.base.errors import CloudError
from minicloud.client.guest import AsyncExecSession, AsyncGuests, ExecOptions
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.sync.forward import Forward

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class ExecSession:
    """A command that runs in a guest. Take its output until it ends; then `exit_code` is set."""

    _inner: AsyncExecSession

    def __init__(self, inner: AsyncExecSession, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def __enter__(self) -> ExecSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id inside the guest, once it has started."""
        return self._inner.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128+n: ended by signal n; 126, 127: it could not be started (see `error`)."""
        return self._inner.exit_code

    @property
    def error(self) -> str:
        """Why it could not be started; '' otherwise."""
        return self._inner.error

    def read(self) -> models.ExecChunk | None:
        """The next piece of output; None when the command has ended. Raises CloudError."""
        return self._loop.run(self._inner.read())

    def output(self) -> Iterator[models.ExecChunk]:
        """Output until the command ends. Raises CloudError."""
        return self._loop.iterate(self._inner.output())

    def write(self, data: bytes) -> None:
        """To its standard input; waits while the guest has no room. Raises IncorrectState once it has ended."""
        self._loop.run(self._inner.write(data))

    def close_stdin(self) -> None:
        """End of its standard input."""
        self._loop.run(self._inner.close_stdin())

    def resize(self, rows: int, columns: int) -> None:
        """The size of its terminal."""
        self._loop.run(self._inner.resize(rows, columns))

    def signal(self, number: int) -> None:
        """To the process group of the command."""
        self._loop.run(self._inner.signal(number))

    def wait(self) -> int:
        """Its exit code; output not taken so far is dropped. Raises CloudError."""
        return self._loop.run(self._inner.wait())

    def close(self) -> None:
        """Leave it: the stream ends, and with it a command that still runs."""
        self._loop.run(self._inner.close())


class Guests:
    """Streams into guests; part of `instances`."""

    _inner: AsyncGuests

    def __init__(self, inner: AsyncGuests, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def endpoint(self, instance_id: str) -> models.Endpoint:
        """Where the guest's streams are served, with a ticket for them. Raises NotFound, IncorrectState."""
        return self._loop.run(self._inner.endpoint(instance_id))

    def exec(
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
        return self._loop.run(self._inner.exec(instance_id, command, stdin=stdin, timeout=timeout, **options))

    def open_exec(self, instance_id: str, command: Sequence[str] | str, **options: Unpack[ExecOptions]) -> ExecSession:
        """Start a command and stay in touch with it: output as it comes, standard input, signals."""
        return ExecSession(self._loop.run(self._inner.open_exec(instance_id, command, **options)), self._loop)

    def connect(
        self,
        instance_id: str,
        command: Sequence[str] | str = (),
        *,
        rows: int = 24,
        columns: int = 80,
        **options: Unpack[ExecOptions],
    ) -> ExecSession:
        """A terminal in the guest; without a command the login shell."""
        return ExecSession(
            self._loop.run(self._inner.connect(instance_id, command, rows=rows, columns=columns, **options)), self._loop
        )

    def logs(self, instance_id: str, *, follow: bool = False, tail_bytes: int = 0) -> Iterator[bytes]:
        """The console log, from its last `tail_bytes` (0: all that is kept); with `follow` until the caller stops."""
        return self._loop.iterate(self._inner.logs(instance_id, follow=follow, tail_bytes=tail_bytes))

    def upload(self, instance_id: str, local_path: str | Path, remote_path: str) -> models.CopyResult:
        """Copy a file or directory into the guest, as `cp -r` would: into a directory that exists, else as that name.

        Raises InvalidParameterValue, NotFound (no such local file), CloudError of the guest; OSError of local files.
        """
        return self._loop.run(self._inner.upload(instance_id, local_path, remote_path))

    def download(self, instance_id: str, remote_path: str, local_path: str | Path) -> models.CopyResult:
        """Copy a file or directory out of the guest, as `cp -r` would.

        What would reach outside of the target (absolute links, devices) is left out and named in `skipped`.
        """
        return self._loop.run(self._inner.download(instance_id, remote_path, local_path))

    def forward(
        self,
        instance_id: str,
        remote_port: int,
        *,
        local_port: int = 0,
        on_error: Callable[[CloudError], None] | None = None,
    ) -> Forward:
        """Listen on a loopback port (0: a free one) and carry each connection to a port of the guest.

        on_error hears of connections that failed. Raises InvalidParameterValue, NotFound; OSError (port taken).
        """
        return Forward(
            self._loop.run(self._inner.forward(instance_id, remote_port, local_port=local_port, on_error=on_error)),
            self._loop,
        )
