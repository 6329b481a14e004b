"""Real clouds for the rings that run real processes: brought up and taken down by the command line, as a user would.

Each has its own data directory, ports and Ray session. `RealCloud.left_over` says what of it is still on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from minicloud.client import Client
from tests.machine_time import PATIENCE, Limit

T = TypeVar("T")
BIN = Path(sys.executable).with_name("minicloud")


@dataclass
class RealCloud:
    data: Path
    endpoint: str = ""
    http: str = ""

    def cli(self, *args: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "MINICLOUD_ENDPOINT": self.endpoint}
        options.setdefault("timeout", 90 * PATIENCE)
        done = subprocess.run([BIN, *args], env=env, capture_output=True, text=True, check=False, **options)
        assert not check or done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def up(self, *flags: str) -> None:
        self.cli("up", "--detach", "--data-dir", str(self.data), "--grpc-port", "0", "--http-port", "0", *flags)
        endpoints = self.state()["endpoints"]
        self.endpoint, self.http = endpoints["grpc"], endpoints["http"]

    def down(self) -> None:
        self.cli("down", "--data-dir", str(self.data))

    def client(self) -> Client:
        return Client(self.endpoint)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_text())
        return found

    @property
    def cloud_id(self) -> str:
        return str(json.loads((self.data / "cloud.json").read_text())["cloud_id"])

    def pid_of(self, role: str) -> int:
        """Of a process that the supervisor started: gcs, raylet:<host>, front-door. 0 while it has none."""
        rows = json.loads((self.data / "run" / "processes.json").read_text())["processes"]
        return int(next((row["pid"] for row in rows if row["role"] == role), 0))

    def actor_pids(self, word: str) -> list[int]:
        """Ray workers of this cloud whose title has this word ("ControlPlane", "HostAgent", "Instance")."""
        return [pid for pid, line in self._processes() if line.startswith("ray::") and word in line]

    def guest_pids(self, instance_id: str) -> list[int]:
        """The processes inside the sandbox of one guest, its init first: known by environment or control group.

        A guest that was started ahead has neither the instance's name in its init's environment nor in its group's.
        """
        needle, group = f"MINICLOUD_INSTANCE_ID={instance_id}".encode(), f"/{self._group(instance_id)}\n".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    inside = group in (entry / "cgroup").read_bytes() and b"bwrap" not in _name(entry)
                    if inside or needle in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return sorted(found, key=started)

    def _group(self, instance_id: str) -> str:
        for path in self.data.glob(f"hosts/*/guests/{instance_id}.json"):
            return str(json.loads(path.read_text()).get("group") or instance_id)
        return instance_id

    def _processes(self) -> Iterator[tuple[int, str]]:
        needle = f"MINICLOUD_CLOUD_ID={self.cloud_id}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    yield (
                        int(entry.name),
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
                    )
            except OSError:
                continue

    def left_over(self) -> list[str]:
        """Processes, control groups, bridges and packet filters of this cloud."""
        left = [f"{pid} {line}" for pid, line in self._processes()]
        left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/minicloud-{self.cloud_id}")]
        links = subprocess.run(["ip", "-d", "link"], capture_output=True, text=True, check=False)
        left += [line for line in links.stdout.splitlines() if f"minicloud {self.cloud_id}" in line]
        return left


def _name(entry: Path) -> bytes:
    return (entry / "comm").read_bytes()


def started(pid: int) -> tuple[int, int]:
    """Process numbers start over: the lower one need not be the older."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid
    return sys.maxsize, pid


def until(what: Callable[[], T], seconds: float, text: str | Callable[[], str] = "") -> T:
    """The first true value of `what`. Raises AssertionError when it does not come in time. text: asked for then.

    seconds: what a quiet machine needs at most (machine_time.Limit).
    """
    limit = Limit(seconds)
    while True:
        value = what()
        if value:
            return value
        assert not limit.is_over(), f"not within {seconds} s: {(text() if callable(text) else text) or what}"
        time.sleep(0.05)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    assert pid > 0, "0 would be this test's own process group"
    os.kill(pid, number)


@contextmanager
def ends(pids: Iterable[int], seconds: float) -> Iterator[None]:
    """Leaves when all of these processes have ended, with everything that they had open.

    Seen by their descriptors: a dying process has no environment any more, and its first thread is a zombie, while
    other threads still hold its sockets.
    """
    watch, opened = select.poll(), []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                opened.append(os.pidfd_open(pid))
                watch.register(opened[-1], select.POLLIN)
        yield
        deadline, left = time.monotonic() + seconds, len(opened)
        while left:
            ready = watch.poll(max(0.0, deadline - time.monotonic()) * 1000)
            assert ready, f"{left} of {len(opened)} processes live after {seconds} s"
            for descriptor, _ in ready:
                watch.unregister(descriptor)
            left -= len(ready)
    finally:
        for descriptor in opened:
            os.close(descriptor)


@contextmanager
def real_cloud(*flags: str) -> Iterator[RealCloud]:
    """A cloud for one test or module. Afterwards nothing of it may be left."""
    with tempfile.TemporaryDirectory(prefix="mct-", dir="/tmp") as folder:
        cloud = RealCloud(Path(folder))
        try:
            cloud.up(*flags)
            yield cloud
        finally:
            if (cloud.data / "cloud.json").exists():
                cloud.down()
        assert not cloud.left_over()
