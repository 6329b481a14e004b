"""Child processes of the supervisor: recorded before use, watched without polling, output in a log file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minicloud.cluster.processes import ProcessTable

LOG_TAIL_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. The child leads a session of its own: Ctrl-C in a terminal reaches the supervisor only."""

    role: str
    command: list[str]
    env: dict[str, str] = field(repr=False)
    log: Path
    pipe: bool = False  # stdin and stdout are pipes to the supervisor


class Child:
    """One process. `ended` is set when it has exited and was reaped; `status` is its return code then."""

    def __init__(self, spec: ChildSpec, table: ProcessTable, on_end: Callable[[Child], None] | None = None) -> None:
        """Raises OSError when it cannot be started. To be called on the running event loop."""
        self.spec = spec
        self.ended = asyncio.Event()
        self._table = table
        self._on_end = on_end
        with open(spec.log, "ab") as log:
            pipe = subprocess.PIPE if spec.pipe else None
            self.process = subprocess.Popen(
                spec.command,
                env=spec.env,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                start_new_session=True,
            )
        table.add(spec.role, self.pid)
        self._fd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._fd, self._reap)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def status(self) -> int | None:
        return self.process.returncode

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def forget(self) -> None:
        """Its end is wanted: do not tell `on_end`."""
        self._on_end = None

    async def end(self, grace_s: float = 0.0) -> None:
        """SIGTERM, up to `grace_s` seconds, SIGKILL; returns when it is gone. `on_end` is not told."""
        self.forget()
        if grace_s > 0 and not self.ended.is_set():
            self.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace_s)
        if not self.ended.is_set():
            self.kill()
            await self.ended.wait()

    def log_tail(self) -> str:
        return log_tail(self.spec.log)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self.process.wait()
        self._table.discard(self.pid)
        self.ended.set()
        if self._on_end:
            self._on_end(self)


def log_tail(path: Path) -> str:
    """The last lines of a log, for an error message."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
