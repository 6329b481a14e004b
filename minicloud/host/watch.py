"""Processes that are not our children, told apart for sure and watched without polling.

A pid alone names nothing: it may be reused. A process is its pid together with the moment it started (ticks since the
machine's boot, field 22 of /proc/<pid>/stat); a pidfd, once opened and checked against that, can no longer be mistaken
and becomes readable when the process ends (also as a zombie that nobody reaped).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class ProcessRef(NamedTuple):
    """One process of this boot of the machine. `start`: clock ticks since boot."""

    pid: int
    start: int


def identify(pid: int) -> ProcessRef | None:
    """The process that has this pid now; None where there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return ProcessRef(pid, int(fields[19]))


def is_alive(process: ProcessRef) -> bool:
    return identify(process.pid) == process


def kill(process: ProcessRef, number: int = signal.SIGKILL) -> bool:
    """Signal exactly this process. False: it is gone."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def machine_boot_id() -> str:
    """Changes with every boot of the machine: pids and starts of another boot mean nothing now."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class ProcessWatch:
    """Calls `gone` once, from the event loop, when the process ends; at the next turn when it is gone already."""

    def __init__(self, process: ProcessRef, gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._fd = -1
        try:
            self._fd = os.pidfd_open(process.pid)
        except OSError:
            self._loop.call_soon(self._gone)
            return
        if is_alive(process):
            self._loop.add_reader(self._fd, self._ring)
        else:
            self.close()
            self._loop.call_soon(self._gone)

    def _ring(self) -> None:
        self.close()
        self._gone()

    def close(self) -> None:
        """Idempotent. Nothing is called afterwards."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
