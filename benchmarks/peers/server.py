"""Somebody else's server as this process's child: free ports, its own folder, ended by its pid, nothing left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

TICKS = os.sysconf("SC_CLK_TCK")
END_S = 20.0


class Absent(Exception):
    """The peer is not on this machine; the text says how to get it."""


class Meter:
    """What a load has done. `window` bounds the messages sent and not yet deleted, so that senders never run ahead."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.begun = self.sent = self.deleted = 0
        self.open = True

    def room(self) -> int:
        """How many messages may be sent now."""
        return self.window - self.begun + self.deleted if self.open else 0


class Load(Protocol):
    """Producers and consumers at work on one queue, in this process."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class System(Protocol):
    """Something that keeps messages. `window` is where it is at its best."""

    name: str
    window: int

    def start(self, folder: Path) -> None:
        """Blocks until it serves. Raises Absent."""

    def stop(self) -> None: ...

    def cpu_s(self) -> float: ...

    def load(self, meter: Meter, payload: bytes) -> Load: ...


@dataclass(slots=True)
class Child:
    """A process and what it started. `stop()` asks it to end, waits, and kills what is left of its tree by pid."""

    command: Sequence[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop)  # whatever happens until then
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt is for the benchmark, which then ends its children in order
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in tree(self.pid))

    def until_open(self, port: int, within_s: float = 60.0) -> None:
        """Until something answers on the port. Raises RuntimeError with the end of the log when nothing will."""
        assert self.process is not None
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.command[0]} does not serve: {(self.folder / 'output.log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process is None:
            return
        family = list(tree(self.pid))
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(END_S)
        self.process = None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]


def tree(pid: int) -> Iterator[int]:
    """The process and its descendants that are alive."""
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process has used; 0 when it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / TICKS
