"""Guests started ahead: in their sandbox, on a disk of their own, their init waiting to be told who they are.

Such a guest is a `Blank` until an instance takes it: then its folders get the instance's name, its control group the
limits of the type, and its keeper (minicloud.sandbox.keeper, where the ties are described) lets it boot, and waits for
the actor to take it. What that saves is on the launch path otherwise: bubblewrap, the start of Python, and Ray's part.

A blank fits an instance of a built-in image without accelerators that has no disk yet. What cannot be changed from
outside once it runs is the size of /tmp; so blanks are of a size, and the pool keeps those that were asked for lately.
Setting the host name from outside needs root; without it, or without bubblewrap, there are no blanks.

A blank costs 6 MB, and no CPU while it waits. The pool holds as many as the last minutes asked for, within bounds, and
waits for quiet before it makes one. Blanks die with their agent; what they stood in is found by name (`AHEAD`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import select
import shutil
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minicloud
from minicloud.base.errors import CloudError, Unavailable
from minicloud.host.boot import init_argv
from minicloud.host.places import Places
from minicloud.host.quiet import Quiet
from minicloud.host.walls import Walls
from minicloud.sandbox import bwrap, linux, netns
from minicloud.sandbox.cgroup import CpuMemoryLimits
from minicloud.sandbox.kept import Lines
from minicloud.sandbox.network import GuestNetwork
from minicloud.sandbox.plan import PythonPrefix, SandboxSpec, workers_package
from minicloud.sandbox.spawn import lowered

log = logging.getLogger("minicloud.host.ahead")

AHEAD = "ahead-"  # begins the names of blanks' groups and folders
TMP_MIB_USUAL = 512  # of every type with 1 GiB or more
EACH_MAX = 2
MEMORY_S = 300.0  # how long a launch is remembered
QUIET_S = 0.5  # a launch is under way just after one was taken
ANSWER_S = 10.0
LAST_KEEPER_S = 0.2
LIMITS = CpuMemoryLimits(1.0, 512, 64)  # of a blank


@dataclass(slots=True)
class Blank:
    """One guest that waits. `pid` is bubblewrap's, `init` its init's; `netns`: a reserved one, where there are any."""

    name: str
    tmp_mib: int
    netns: str | None
    line: Lines
    pid: int = 0
    init: int = 0

    def alive(self) -> bool:
        """Its keeper has nothing to say until it is asked; what can be read is its end."""
        poll = select.poll()
        poll.register(self.line.sock, select.POLLIN)
        return not poll.poll(0)

    def ask(self, message: dict[str, Any], *answers: str) -> dict[str, Any]:
        """Tell its keeper; returns the last of `answers`, which come in this order. Blocks. Raises Unavailable."""
        self.line.say(message)
        waiting, said = list(answers), dict[str, Any]()
        while waiting:
            words = self.line.read()
            for said in words or [{"op": "failed", "error": "it is gone"}]:
                if said["op"] == "failed":
                    raise Unavailable(f"a guest started ahead cannot be used: {said['error']}")
                if said["op"] == waiting[0]:
                    waiting.pop(0)
                self.pid = int(said.get("pid", self.pid))
        return said

    def shape(self, hostname: str, rlimits: Iterable[tuple[str, int, int]]) -> None:
        """What a plan would have made so. Raises OSError."""
        for name, soft, hard in rlimits:
            kind = getattr(resource, name)
            resource.prlimit(self.init, kind, lowered(kind, soft, hard))
        linux.set_hostname(self.init, hostname)

    def end(self) -> None:
        """Returns when no process of it is left, kept or not. Blocks. Idempotent."""
        self.line.say({"op": "end"})
        with contextlib.suppress(OSError):
            self.line.sock.settimeout(ANSWER_S)
            while self.line.sock.recv(4096):
                continue
        self.line.sock.close()


@dataclass(frozen=True, slots=True)
class AheadParts:
    """prepare_disk(root): a disk that is nobody's; blocks. under_way: is a guest of an instance on its way?"""

    places: Places
    walls: Walls
    network: GuestNetwork
    bwrap_path: str
    python: PythonPrefix
    prepare_disk: Callable[[Path], None]
    under_way: Callable[[], bool] = lambda: False


class Ahead:
    """The blanks of one host. `take`, `refill` and `close` are called on the event loop."""

    def __init__(self, parts: AheadParts) -> None:
        self._parts = parts
        self._spawner = _Spawner(parts.python)
        self._ready: list[Blank] = []
        self._asked: deque[tuple[float, int]] = deque(maxlen=64)
        self._quiet = Quiet(QUIET_S, parts.under_way)
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    def take(self, tmp_mib: int) -> Blank | None:
        """One whose /tmp has this size, if there is one; more will be there next time."""
        self._asked.append((time.monotonic(), tmp_mib))
        self.refill()
        found = next((one for one in self._ready if one.tmp_mib == tmp_mib and one.alive()), None)
        if found is not None:
            self._ready.remove(found)
        return found

    def count(self, tmp_mib: int) -> int:
        return sum(one.tmp_mib == tmp_mib for one in self._ready)

    def refill(self) -> None:
        """Soon, in the background, when it is quiet."""
        self._quiet.launched()
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = asyncio.ensure_future(self._fill())

    def close(self) -> None:
        """Blanks end with their lines; guests that an actor holds stay."""
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()
        for blank in self._ready:
            blank.line.sock.close()
        self._ready.clear()
        self._spawner.close()

    def drop(self, blank: Blank) -> None:
        """One that will be nobody's. Blocks."""
        blank.end()
        self._clear(blank.name, blank.netns)

    # ------------------------------------------------------------ filling

    def _wanted(self) -> dict[int, int]:
        """{size of /tmp: how many}."""
        now = time.monotonic()
        recent = [tmp_mib for when, tmp_mib in self._asked if now - when <= MEMORY_S] or [TMP_MIB_USUAL]
        return {tmp_mib: min(recent.count(tmp_mib), EACH_MAX) for tmp_mib in recent}

    async def _fill(self) -> None:
        await self._quiet.come()
        try:
            for blank in self._superfluous():
                await asyncio.to_thread(self.drop, blank)
            while (tmp_mib := self._missing()) is not None:
                self._ready.append(await asyncio.to_thread(self._make, tmp_mib))
        except (CloudError, OSError) as error:
            log.warning("no guests are started ahead: %s", error)

    def _missing(self) -> int | None:
        return next((tmp_mib for tmp_mib, count in self._wanted().items() if self.count(tmp_mib) < count), None)

    def _superfluous(self) -> list[Blank]:
        wanted = self._wanted()
        doomed = [one for one in self._ready if one.tmp_mib not in wanted or not one.alive()]
        self._ready = [one for one in self._ready if one not in doomed]
        return doomed

    # ------------------------------------------------------------ on threads

    def _make(self, tmp_mib: int) -> Blank:
        """Raises CloudError, OSError."""
        name = f"{AHEAD}{os.getpid()}-{time.monotonic_ns():x}"  # a guest of an agent before may have its name yet
        space = None
        blank = None
        try:
            space = self._parts.network.reserve()
            sandbox = self._sandbox(name, tmp_mib, space)
            self._parts.prepare_disk(sandbox.disk_root)
            plan = bwrap.started_ahead(bwrap.build(sandbox, self._parts.bwrap_path, self._parts.python))
            blank = Blank(name, tmp_mib, space, Lines(self._spawner.keeper()))
            blank.ask({"op": "plan", "plan": plan.to_json()}, "spawned", "ready")
            blank.init = _only_child(blank.pid)
            if self._closed:
                raise Unavailable("the agent goes")
        except BaseException:
            if blank is not None:
                blank.end()
            self._clear(name, space)
            raise
        return blank

    def _sandbox(self, name: str, tmp_mib: int, space: str | None) -> SandboxSpec:
        places = self._parts.places
        layout = bwrap.layout(self._parts.python)
        control = places.control(name)
        control.mkdir(mode=0o700)
        group = self._parts.walls.create(name, LIMITS)
        return SandboxSpec(
            instance_id=name,
            hostname="blank",
            disk_root=places.root(name),
            control_dir=control,
            console=places.console(name),
            init=init_argv(layout.python, layout.workers),
            limits=LIMITS,
            workers_dir=workers_package(),
            env={"MINICLOUD_CONTROL_DIR": layout.control},
            cgroup_files=group.join_files if group is not None else (),
            netns=None if space is None else netns.path_of(space),
            tmp_mib=tmp_mib,
        )

    def _clear(self, name: str, space: str | None) -> None:
        parts = self._parts
        parts.walls.remove(name)
        if space is not None:
            parts.network.release(space)
        for folder in (parts.places.control(name), parts.places.disk(name)):
            shutil.rmtree(folder, ignore_errors=True)


class _Spawner:
    """The process whose children keepers are. Started when it is needed, and again when it is gone."""

    def __init__(self, python: PythonPrefix) -> None:
        self._python = python
        self._lock = threading.Lock()
        self._closed = False
        self._door: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def keeper(self) -> socket.socket:
        """The line to a new one. Raises OSError."""
        mine, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._send(theirs)
            except OSError:
                self._let_go()
                self._send(theirs)
        mine.settimeout(ANSWER_S)
        return mine

    def close(self) -> None:
        """It goes with the last of its keepers."""
        self._closed = True
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_KEEPER_S)
            self._process.returncode = 0  # it lives as long as a guest of it does; not ours to wait for
        self._door = self._process = None

    def _send(self, theirs: socket.socket) -> None:
        if self._closed:
            raise OSError("the agent goes")
        if self._door is None:
            self._start()
        assert self._door is not None
        socket.send_fds(self._door, [b"k"], [theirs.fileno()])

    def _start(self) -> None:
        library = str(Path(minicloud.__file__).parents[1])
        code = f"import sys; sys.path.insert(0, {library!r}); from minicloud.sandbox.keeper import main; main()"
        self._door, inside = socket.socketpair()
        with inside:
            self._process = subprocess.Popen(
                [self._python.executable, "-I", "-S", "-c", code],
                stdin=inside.fileno(),
                cwd="/",
                start_new_session=True,
            )


def _only_child(pid: int) -> int:
    """Raises OSError."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(found) != 1:
        raise OSError(f"bubblewrap (pid {pid}) has {len(found)} children")
    return int(found[0])
