"""A Ray cluster of our own, or a place in somebody else's.

    start:  gcs_server -> driver (registers, says the cluster id) -> one raylet per host -> actors (by the driver)

`RayBoot` runs in the supervisor and does not import Ray; what needs Ray's Python is done by the driver process
(minicloud.cluster.driver). What dies is told to `on_end` by role: 'gcs', or 'raylet:<host name>'.

The first host's raylet is the head. Every raylet that is started is a new node to Ray, with a new id.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minicloud.base.errors import CloudError, Internal, Unavailable
from minicloud.cluster.child import Child, ChildSpec
from minicloud.cluster.ports import free_port
from minicloud.cluster.processes import ProcessTable, marks
from minicloud.cluster.ray_commands import (
    LOOPBACK,
    RayletIdentity,
    RayPlace,
    gcs_command,
    host_env,
    port_files,
    ray_env,
    raylet_command,
)
from minicloud.settings import CloudSettings, HostSettings, child_env, random_hex, write_file

GCS_S_MAX = 20.0
DRIVER_S_MAX = 120.0
CONNECT_RETRY_S = 0.01
GCS = "gcs"
RAYLET = "raylet:"
DRIVER = "driver"
_NODE_ID_BYTES = 28

Emit = Callable[..., None]


@dataclass(slots=True)
class RayBoot:
    """The Ray processes of one cloud. All methods belong to one event loop."""

    settings: CloudSettings
    table: ProcessTable
    emit: Emit
    on_end: Callable[[Child], None]
    place: RayPlace = field(init=False)
    gcs: Child | None = None
    raylets: dict[str, Child] = field(default_factory=dict)
    _head_node_id: str = ""
    _cluster_id: str = ""

    def __post_init__(self) -> None:
        self.place = RayPlace(
            base=self.settings.socket_path / "ray",
            logs=self.settings.log_path / "ray",
            gcs_port=0 if self.joined else free_port(LOOPBACK),
            ray_path=find_ray(),
        )

    @property
    def joined(self) -> bool:
        return bool(self.settings.ray_address)

    @property
    def address(self) -> str:
        return self.settings.ray_address or self.place.gcs_address

    async def start(self) -> CloudSettings:
        """Everything up to running actors; returns the settings with the hosts that there are.

        Raises Unavailable or Internal with the story. What was started by then is in the process table.
        """
        if not self.joined:
            self._prepare()
        async with Driver(self, "open") as driver:  # it imports Ray while the GCS starts
            if not self.joined:
                await self.start_gcs()
            async for event in driver.events():
                await self._on_event(event)
        return self.settings

    async def _on_event(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "cluster":
                self._cluster_id = event["cluster_id"]
                for host in self.settings.hosts:
                    self.start_raylet(host)
            case "hosts":
                self.settings = CloudSettings.from_json(event["settings"])
        self.emit(**{k: v for k, v in event.items() if k != "settings"})

    async def start_gcs(self) -> None:
        """Start it, or start it again where it was: same port, same storage, so that the cluster goes on."""
        env, log = ray_env(self.settings, self.place), self.place.logs / "gcs_server.log"
        self.gcs = Child(ChildSpec(GCS, gcs_command(self.place, self._head_node_id), env, log), self.table, self.on_end)
        await self._await_port(self.gcs)
        self.emit("gcs", pid=self.gcs.pid, address=self.place.gcs_address)

    def start_raylet(self, host: HostSettings) -> None:
        is_head = host.name == self.settings.hosts[0].name
        # The GCS was told the first head's id before there was a raylet; a head that comes later has another.
        first = is_head and host.name not in self.raylets
        node_id = self._head_node_id if first else random_hex(_NODE_ID_BYTES)
        for path, port in port_files(self.place, node_id).items():
            path.write_text(port)
        command = raylet_command(self.place, host, RayletIdentity(node_id, self._cluster_id, is_head))
        env = ray_env(self.settings, self.place) | host_env(host)
        spec = ChildSpec(RAYLET + host.name, command, env, self.place.logs / f"raylet-{host.name}.log")
        self.raylets[host.name] = Child(spec, self.table, self.on_end)
        self.emit("raylet", host=host.name, pid=self.raylets[host.name].pid)

    async def release(self) -> None:
        """End what this cloud has in a joined cluster: its actors."""
        async with Driver(self, "stop") as driver:
            async for event in driver.events():
                self.emit(**event)

    def forget(self) -> None:
        """From now on, ends are wanted."""
        for child in [self.gcs, *self.raylets.values()]:
            if child:
                child.forget()

    def _prepare(self) -> None:
        shutil.rmtree(self.place.base, ignore_errors=True)
        previous = self.place.logs.with_name("ray.previous")
        shutil.rmtree(previous, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self.place.logs.rename(previous)
        for folder in [*self.place.folders, self.place.logs]:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.place.session / "logs").symlink_to(self.place.logs)
        write_file(self.place.token, random_hex(32).encode())
        self._head_node_id = random_hex(_NODE_ID_BYTES)

    async def _await_port(self, child: Child) -> None:
        """A listening socket has no event that another process could wait for."""
        until = asyncio.get_running_loop().time() + GCS_S_MAX
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, self.place.gcs_port)
                writer.close()
                return
            if child.ended.is_set():
                raise Internal(f"{child.spec.role} ended with status {child.status}: {child.log_tail()}")
            await asyncio.sleep(CONNECT_RETRY_S)
        raise Unavailable(f"{child.spec.role} does not listen after {GCS_S_MAX:.0f} s")


class Driver:
    """One run of `minicloud.cluster.driver`. Leaving the context ends the process."""

    def __init__(self, boot: RayBoot, act: str) -> None:
        self._boot = boot
        self._act = act

    async def __aenter__(self) -> Driver:
        boot = self._boot
        joined = child_env(joins_ray=True) | marks(boot.settings)
        env = joined if boot.joined else ray_env(boot.settings, boot.place)
        command = [sys.executable, "-m", "minicloud.cluster.driver", self._act, boot.address]
        spec = ChildSpec(DRIVER, command, env, boot.settings.log_path / "driver.log", pipe=True)
        self._child = Child(spec, boot.table)
        stdin = self._child.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(boot.settings.to_json().encode())
            stdin.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._child.end()

    async def events(self) -> Any:
        """What it says, until it ends. Raises Internal when it fails, Unavailable when it takes too long."""
        stdout = self._child.process.stdout
        assert stdout is not None
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdout)
        try:
            async with asyncio.timeout(DRIVER_S_MAX):
                while line := await reader.readline():
                    event = json.loads(line)
                    if event["event"] == "failed":
                        raise Internal(f"Ray: {event['error']} (log: {self._child.spec.log})")
                    yield event
                await self._child.ended.wait()
        except TimeoutError:
            raise Unavailable(f"Ray did not come up within {DRIVER_S_MAX:.0f} s") from None
        finally:
            transport.close()
        if self._child.status:
            raise Internal(f"Ray driver ended with status {self._child.status}: {self._child.log_tail()}")


def find_ray() -> Path:
    """Where Ray is installed; does not import it. Raises CloudError."""
    spec = importlib.util.find_spec("ray")
    if spec is None or not spec.submodule_search_locations:
        raise CloudError("Ray is not installed: pip install 'minicloud[server]'", code="MissingDependency")
    return Path(spec.submodule_search_locations[0])
