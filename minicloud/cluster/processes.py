"""Which processes are this cloud's, and how they are ended: exactly these, and nothing else.

Two ways to know a process again, both safe against reused pids:

* recorded: pid and start time (clock ticks since boot, /proc/<pid>/stat), written to <data>/run/processes.json before
  anything depends on the process. A file of an earlier boot of the machine is void.
* marked: every process of a cloud carries MINICLOUD_CLOUD_ID and MINICLOUD_CLOUD_DATA in its environment, which Ray's
  workers and everything they start inherit. Guests have a clean environment, they die with their parent.

A signal goes through a pidfd that was opened before the identity was checked, so it can never hit a successor.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from minicloud.settings import CloudSettings, write_file

MARK_ID = "MINICLOUD_CLOUD_ID"
MARK_DATA = "MINICLOUD_CLOUD_DATA"
KILL_WAIT_S = 5.0  # a SIGKILLed process is gone in milliseconds unless the kernel holds it (disk wait)
SWEEPS_MAX = 20  # a process may fork while it is looked for


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """`started`: clock ticks between the machine's boot and the process's start."""

    role: str
    pid: int
    started: int


class ProcessTable:
    """The recorded processes of one cloud, on disk before `add` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[int, ProcessRecord] = {}
        self._closed = False

    def add(self, role: str, pid: int) -> ProcessRecord | None:
        """None when the process has ended already."""
        started = start_ticks(pid)
        if started is None:
            return None
        record = ProcessRecord(role, pid, started)
        self._records[pid] = record
        self._write()
        return record

    def discard(self, pid: int) -> None:
        if self._records.pop(pid, None):
            self._write()

    def all(self) -> list[ProcessRecord]:
        return list(self._records.values())

    def of(self, role: str) -> list[ProcessRecord]:
        return [record for record in self._records.values() if record.role == role]

    def close(self) -> None:
        """Write no more: the folder goes away."""
        self._closed = True

    def _write(self) -> None:
        if self._closed:
            return
        body = {"boot": boot_id(), "processes": [asdict(record) for record in self._records.values()]}
        write_file(self._path, json.dumps(body, indent=1).encode())


def read_table(path: Path) -> list[ProcessRecord]:
    """What an earlier supervisor recorded and is still alive. A missing, damaged or older file records nothing."""
    try:
        body = json.loads(path.read_text())
        if body["boot"] != boot_id():
            return []
        records = [ProcessRecord(str(r["role"]), int(r["pid"]), int(r["started"])) for r in body["processes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [record for record in records if is_alive(record)]


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; None when there is no such process, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name may hold spaces and brackets
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_alive(record: ProcessRecord) -> bool:
    return start_ticks(record.pid) == record.started


def marks(settings: CloudSettings) -> dict[str, str]:
    """The environment that marks a process as this cloud's."""
    return {MARK_ID: settings.cloud_id, MARK_DATA: settings.data_dir}


def marked(settings: CloudSettings) -> list[ProcessRecord]:
    """Every process that carries the cloud's marks, except the caller."""
    wanted = [f"{name}={value}".encode() for name, value in marks(settings).items()]
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            if all(mark in environment for mark in wanted) and (started := start_ticks(int(name))) is not None:
                found.append(ProcessRecord("marked", int(name), started))
    return found


def end(records: Iterable[ProcessRecord], grace_s: float = 0.0) -> list[ProcessRecord]:
    """SIGTERM, up to `grace_s` seconds, SIGKILL. Blocks until they are gone; returns those that are not."""
    open_fds = {fd: record for record in records if (fd := _open(record)) is not None}
    try:
        if grace_s > 0:
            _signal(open_fds, signal.SIGTERM)
            _wait(open_fds, grace_s)
        _signal(open_fds, signal.SIGKILL)
        _wait(open_fds, KILL_WAIT_S)
        return [record for record in open_fds.values() if is_alive(record)]
    finally:
        for fd in open_fds:
            os.close(fd)


def end_marked(settings: CloudSettings) -> list[ProcessRecord]:
    """End every marked process, and what it started meanwhile. Returns those that would not end."""
    left: list[ProcessRecord] = []
    for _ in range(SWEEPS_MAX):
        found = marked(settings)
        if not found or found == left:
            return found
        left = end(found)
    return left


def _open(record: ProcessRecord) -> int | None:
    try:
        fd = os.pidfd_open(record.pid)
    except OSError:
        return None
    if is_alive(record):
        return fd
    os.close(fd)
    return None


def _signal(fds: Iterable[int], number: signal.Signals) -> None:
    for fd in fds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)


def _wait(fds: dict[int, ProcessRecord], seconds: float) -> None:
    """Until all have ended, or the time is over. A pidfd is readable once its process has ended."""
    poll, waiting = select.poll(), set(fds)
    for fd in fds:
        poll.register(fd, select.POLLIN)
    until = time.monotonic() + seconds
    while waiting and (left := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            waiting.discard(fd)
