"""The daemon behind `minicloud up`: starts everything in order, restarts what dies, ends everything.

    python -m minicloud.cluster.supervisor [--lifeline]

reads the settings from stdin (one line of JSON) and says what it does on stdout (JSON lines) and in log/supervisor.log.
With --lifeline it ends the cloud when stdin is closed: the terminal that `up` runs in cannot die and leave a cloud.

It is not a Ray driver and never imports Ray: a driver exits 60 s after it lost the GCS, and the supervisor must be the
last to go. What it watches, and what it does when that dies:

    gcs              started again in place: its tables are on disk, the cluster goes on
    head's raylet    started again at once, as a new Ray node; Ray brings control plane and agent back there
    other raylets    a failed host: started again after `host_restart_after_s`, so that the failure is seen and acted on
    front door       started again at once
    gcs, again and again: the whole of Ray is started anew, the control plane restarts its instances from the journal

A raylet that was stopped (SIGSTOP) is dead to Ray after 4.5 s and cannot come back as the same node; after FROZEN_S it
is killed, and so becomes one of the cases above. Control plane, shards and agents are Ray's to restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from minicloud.base.errors import CloudError
from minicloud.cluster.boot import GCS, RAYLET, RayBoot
from minicloud.cluster.child import Child
from minicloud.cluster.ports import claim_port, free_port
from minicloud.cluster.processes import ProcessTable, end_marked, marks
from minicloud.cluster.ray_commands import LOOPBACK
from minicloud.cluster.teardown import (
    DataDirLock,
    ask_shutdown,
    awaited,
    end_processes,
    get_health,
    make_run,
    remove_run,
)
from minicloud.proxy.front_door import DoorPaths, front_door
from minicloud.proxy.process import Haproxy, ProxyEvents
from minicloud.settings import SHARD_KINDS, CloudSettings, ShardSettings, child_env, write_file

log = logging.getLogger("minicloud.cluster.supervisor")

READY_S_MAX = 60.0
HEALTH_RETRY_S = 0.05
PATIENCE_S = 1.0  # before it is told what is waited for
FROZEN_S = 10.0
DOOR_PAUSE_S = 0.1
GCS_DEATHS_MAX = 3  # within GCS_WINDOW_S: more of them, and it is not the process that is broken
GCS_WINDOW_S = 30.0
REBOOT_PAUSE_S = 5.0


@dataclass(slots=True)
class Supervisor:
    """One cloud. `stop` ends `run`."""

    settings: CloudSettings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    phase: str = "starting"
    restarts: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    _broken: asyncio.Event = field(default_factory=asyncio.Event)
    _story: str = ""
    _table: ProcessTable | None = None
    _ray: RayBoot | None = None
    _door: Haproxy | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _gcs_deaths: deque[float] = field(default_factory=lambda: deque(maxlen=GCS_DEATHS_MAX + 1))

    async def run(self) -> int:
        """Up, until `stop` is set or the start fails; then down. Returns the exit status."""
        start, stop = asyncio.create_task(self._start()), asyncio.create_task(self.stop.wait())
        broken = asyncio.create_task(self._breakage())
        status = 1
        try:
            await asyncio.wait([start, stop, broken], return_when=asyncio.FIRST_COMPLETED)
            for needed in (broken, start):
                if needed.done():
                    needed.result()
            await stop
            status = 0
        except CloudError as error:
            self.say("failed", error=error.message, field=error.field)
        except OSError as error:
            self.say("failed", error=f"{type(error).__name__}: {error}")
        finally:
            start.cancel()
            stop.cancel()
            broken.cancel()
            await asyncio.wait([start, stop, broken])
            await self._down()
        return status

    async def _breakage(self) -> None:
        """Ends, with the story, when a process dies that the start needs."""
        await self._broken.wait()
        raise CloudError(self._story)

    # ---------------------------------------------------------------- up

    async def _start(self) -> None:
        self._set_phase("starting")
        if left := await asyncio.to_thread(end_processes, self.settings):
            raise CloudError(f"processes of an earlier run do not end: {[record.pid for record in left]}")
        remove_run(self.settings)
        self.settings = _with_ports(self.settings)
        make_run(self.settings)
        self._table = ProcessTable(self.settings.run_path / "processes.json")
        self._table.add("supervisor", os.getpid())
        self._save()
        self._ray = self._new_ray()
        self.settings = await self._ray.start()
        self._save()
        await self._open_door()
        await self._await_health()
        self._set_phase("ready")

    def _new_ray(self) -> RayBoot:
        assert self._table is not None
        return RayBoot(self.settings, self._table, self.say, self._on_child_end)

    async def _open_door(self) -> None:
        run = self.settings.run_path
        cert = ""
        if self.settings.tls:
            cert = str(run / "front-door.pem")
            write_file(run / "front-door.pem", _read(self.settings.tls.cert) + b"\n" + _read(self.settings.tls.key))
        events = ProxyEvents(on_start=self._on_door_start, on_end=self._on_door_end)
        env = child_env() | marks(self.settings)
        self._door = self._door or Haproxy(run, self.settings.log_path / "front-door.log", env, events)
        await self._door.start(front_door(self.settings, DoorPaths(self.settings.socket_path / "door", cert)))
        self.say("front-door", pid=self._door.pid, **self.settings.endpoints)

    async def _await_health(self) -> None:
        """Readiness of another process has no event; asking costs less than a millisecond."""
        loop = asyncio.get_running_loop()
        began, status, told = loop.time(), 0, ""
        while loop.time() < began + READY_S_MAX:
            status, body = await asyncio.to_thread(get_health, self.settings)
            if status == 200:
                return
            what = awaited(body)
            if what not in ("", told) and loop.time() > began + PATIENCE_S:
                told = what
                self.say("waiting", what=what)
            await asyncio.sleep(HEALTH_RETRY_S)
        where = self.settings.log_path / "control-plane.log"
        raise CloudError(f"the control plane is not healthy after {READY_S_MAX:.0f} s (HTTP {status}); see {where}")

    # ---------------------------------------------------------------- what dies

    def _on_child_end(self, child: Child) -> None:
        role = child.spec.role
        log.warning("%s (pid %d) ended with status %s", role, child.pid, child.status)
        self.say("died", role=role, pid=child.pid, status=child.status)
        if self.phase == "starting":
            self._story = f"{role} ended with status {child.status}: {child.log_tail()}"
            self._broken.set()
        elif role == GCS:
            self._background(self._revive_gcs())
        elif role.startswith(RAYLET):
            self._background(self._revive_raylet(role.removeprefix(RAYLET)))

    async def _revive_gcs(self) -> None:
        assert self._ray is not None
        loop = asyncio.get_running_loop()
        self._gcs_deaths.append(loop.time())
        if len(self._gcs_deaths) > GCS_DEATHS_MAX and loop.time() - self._gcs_deaths[0] < GCS_WINDOW_S:
            await self._reboot()
            return
        try:
            await self._ray.start_gcs()
        except CloudError:
            log.exception("the GCS does not come back")
            await self._reboot()
            return
        self._count("gcs")

    async def _revive_raylet(self, host_name: str) -> None:
        assert self._ray is not None
        ray = self._ray
        if host_name != self.settings.hosts[0].name:
            await asyncio.sleep(self.settings.host_restart_after_s)
        if ray is not self._ray:  # all of Ray was started anew meanwhile
            return
        ray.start_raylet(self.settings.host(host_name))
        self._count(RAYLET + host_name)

    async def _reboot(self) -> None:
        """All of Ray anew. Guests die with it, and the control plane starts again what should run."""
        assert self._table is not None and self._ray is not None and self._door is not None
        self._set_phase("rebooting")
        while True:
            self._ray.forget()
            self._gcs_deaths.clear()
            await self._door.stop(grace_s=0)
            await asyncio.to_thread(end_marked, self.settings)
            try:
                self._ray = self._new_ray()
                self.settings = await self._ray.start()
                await self._open_door()
                await self._await_health()
            except CloudError as error:
                log.error("Ray does not start: %s", error)
                await asyncio.sleep(REBOOT_PAUSE_S)
                continue
            self._count("ray")
            self._set_phase("ready")
            return

    def _on_door_start(self, pid: int) -> None:
        assert self._table is not None
        self._table.add("front-door", pid)

    def _on_door_end(self, pid: int, status: int, wanted: bool) -> None:
        if self._table:
            self._table.discard(pid)
        if wanted or self.phase != "ready":
            return
        self.say("died", role="front-door", pid=pid, status=status)
        self._background(self._revive_door())

    async def _revive_door(self) -> None:
        while self._door and self._door.pid is None:
            try:
                await self._open_door()
            except CloudError as error:
                log.error("the front door does not open: %s", error)
                await asyncio.sleep(DOOR_PAUSE_S)
        self._count("front-door")

    def on_child_signal(self) -> None:
        """SIGCHLD: a child stopped, went on or ended. Ends are noticed elsewhere; a stopped raylet gets FROZEN_S."""
        for child in self._ray.raylets.values() if self._ray else ():
            if _is_stopped(child.pid):
                asyncio.get_running_loop().call_later(FROZEN_S, self._kill_if_stopped, child)

    def _kill_if_stopped(self, child: Child) -> None:
        if not child.ended.is_set() and _is_stopped(child.pid):
            log.warning("%s (pid %d) stands still: killed", child.spec.role, child.pid)
            child.kill()

    def _background(self, work: Any) -> None:
        if self.phase == "stopping":
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.critical("cannot go on: %s", error, exc_info=error)
            self.say("failed", error=str(error))
            self.stop.set()

    # ---------------------------------------------------------------- down

    async def _down(self) -> None:
        self._set_phase("stopping")
        for task in self._tasks:
            task.cancel()
        if self._ray:
            self._ray.forget()
        if self._door:
            await self._door.stop(grace_s=0)
        if self.nodes:  # before there are any, nobody can have launched anything
            problem = await asyncio.to_thread(ask_shutdown, self.settings)
            self.say("guests-stopped", problem=problem)
        if self._ray and self._ray.joined:
            with contextlib.suppress(CloudError):
                await self._ray.release()
        left = await asyncio.to_thread(end_processes, self.settings)
        if self._table:
            self._table.close()
        remove_run(self.settings)
        self.say("down", left=[record.pid for record in left])

    # ---------------------------------------------------------------- what is told

    def say(self, event: str, **details: Any) -> None:
        """One line on stdout, unless nobody reads it any more, and one in the log."""
        if event == "nodes":
            self.nodes.update(details["nodes"])
        line = json.dumps({"event": event, **details})
        log.info("%s", line)
        try:
            os.write(sys.stdout.fileno(), line.encode() + b"\n")
        except OSError:  # whoever listened has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _count(self, role: str) -> None:
        self.restarts[role] = self.restarts.get(role, 0) + 1
        self.say("restarted", role=role, times=self.restarts[role])
        self._save()

    def _set_phase(self, phase: str) -> None:
        self.phase = phase
        self._save()
        self.say(phase, **(_how_to_reach(self.settings) if phase == "ready" else {}))

    def _save(self) -> None:
        if self._table is None:
            return
        state = {
            "phase": self.phase,
            "supervisor": os.getpid(),
            "endpoints": self.settings.endpoints,
            "nodes": self.nodes,
            "restarts": self.restarts,
            "settings": json.loads(self.settings.to_json()),
        }
        with contextlib.suppress(FileNotFoundError):
            write_file(self.settings.run_path / "state.json", json.dumps(state, indent=1).encode())


def _how_to_reach(settings: CloudSettings) -> dict[str, str]:
    """Endpoints, and what a client needs besides: the CA to trust, the file with the administrator's key."""
    extra = {"ca": settings.tls.ca} if settings.tls and settings.tls.ca else {}
    if settings.auth:
        extra["admin"] = str(settings.data_path / "admin.json")
    return settings.endpoints | extra


def _with_ports(settings: CloudSettings) -> CloudSettings:
    """Raises Conflict where a wanted port is taken."""
    bind = "127.0.0.1" if settings.bind == "localhost" else settings.bind
    shards: dict[str, Any] = {
        kind.part: tuple(ShardSettings(free_port(bind), free_port(LOOPBACK)) for _ in settings.shards(kind))
        for kind in SHARD_KINDS
    }
    return replace(
        settings,
        grpc_port=claim_port(bind, settings.grpc_port, "grpc_port"),
        http_port=claim_port(bind, settings.http_port, "http_port"),
        control_port=free_port(settings.control_host),
        control_http_port=free_port(settings.control_host),
        **shards,
    )


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def _serve(settings: CloudSettings, lifeline: bool) -> int:
    supervisor = Supervisor(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop.set)
    loop.add_signal_handler(signal.SIGCHLD, supervisor.on_child_signal)
    if lifeline:
        loop.add_reader(sys.stdin.fileno(), _on_lifeline, supervisor)
    return await supervisor.run()


def _on_lifeline(supervisor: Supervisor) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        supervisor.stop.set()


def _read_line(fd: int) -> str:
    """One line, and not a byte more: what follows is the lifeline."""
    line = bytearray()
    while (byte := os.read(fd, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def main(arguments: list[str]) -> int:
    settings = CloudSettings.from_json(_read_line(sys.stdin.fileno()))
    try:
        lock = DataDirLock(settings.data_path)
    except CloudError as error:
        sys.stdout.write(json.dumps({"event": "failed", "error": error.message, "field": error.field}) + "\n")
        return 1
    settings.log_path.mkdir(mode=0o700, exist_ok=True)
    logging.basicConfig(
        filename=settings.log_path / "supervisor.log",
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        return asyncio.run(_serve(settings, "--lifeline" in arguments))
    finally:
        lock.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
