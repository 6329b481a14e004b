"""One guest's line, from the order to its end, among facts that come at bad moments. Nothing is real but processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minicloud.host.instances import ActorHello
from minicloud.host.life import Life, LifeTools
from minicloud.host.ports import GuestStatus
from minicloud.host.records import GuestRecord, RecordFiles
from minicloud.host.watch import ProcessRef, identify


@dataclass
class World:
    """Builder, watch and walls of a host where a guest waits; it is killed for memory as soon as it boots."""

    began: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    oom: int = 0

    async def begin(self, record: GuestRecord, save: Callable[[], None]) -> int:
        self.began.append(record.instance_id)
        save()
        self.oom += 1
        return os.getpid()

    async def prepare(self, record: GuestRecord, cancelled: threading.Event) -> None:
        self.prepared.append(record.instance_id)

    async def plan(self, record: GuestRecord) -> dict[str, Any]:
        return {"adopt": "/run/keeper"}

    async def release(self, record: GuestRecord) -> None:
        self.released.append(record.instance_id)

    async def delete_disk(self, instance_id: str) -> None: ...

    async def take_over(self, live: Iterable[GuestRecord]) -> list[str]:
        return []

    def close(self) -> None: ...

    async def statuses(self, record: GuestRecord) -> AsyncIterator[GuestStatus]:
        await asyncio.Event().wait()
        yield GuestStatus()

    async def shut_down(self, record: GuestRecord, grace_s: float) -> None: ...

    async def ping(self, record: GuestRecord) -> bool:
        return False

    def oom_events(self, record: GuestRecord) -> int:
        return -1

    def oom_kills(self, record: GuestRecord) -> int:
        return self.oom

    async def kill(self, record: GuestRecord) -> None: ...

    async def freeze(self, record: GuestRecord) -> bool:
        return False

    async def thaw(self, record: GuestRecord) -> None: ...


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def tools(world: World, tmp_path: Path) -> LifeTools:
    return LifeTools(world, world, world, RecordFiles(tmp_path / "guests"), lambda _: None, lambda _: None)


@pytest.fixture
def actor() -> Iterable[ProcessRef]:
    with subprocess.Popen(["sleep", "60"]) as process:
        found = identify(process.pid)
        assert found is not None
        yield found
        process.kill()


async def test_what_was_to_end_before_it_began_does_not_begin(world: World, tools: LifeTools) -> None:
    """An agent that comes back finds the order to end what its predecessor had not begun."""
    life = Life(GuestRecord("i-1", 1), tools, adopted=True)
    life.ask_end(0.0)
    await asyncio.wait_for(life.run(), 60)
    assert life.record.reason_code == "Stopped"
    assert world.released == ["i-1"] and not world.began and not world.prepared


async def test_memory_that_ran_out_before_its_actor_came_is_told_as_that(
    world: World, tools: LifeTools, actor: ProcessRef
) -> None:
    life = Life(GuestRecord("i-1", 1, spec={"shape": {"memoryMib": 64}}), tools)

    def send(order: dict[str, Any]) -> None:
        if order["op"] == "plan":
            life.actor_said({"op": "started", "boot": 1, "pid": 2**22 - 1})
            life.actor_said({"op": "exited", "boot": 1, "status": -9})
        elif order["op"] == "exit":
            life._on_actor_gone()

    hello = ActorHello("i-1", 1, actor, (), 0, 0)
    life.actor_came(SimpleNamespace(hello=hello, send=send))  # type: ignore[arg-type]
    await asyncio.wait_for(life.run(), 60)
    assert (life.record.reason_code, life.record.exit_code) == ("OutOfMemory", 137)


async def test_who_is_to_end_before_its_actor_has_taken_it_gets_its_grace(
    world: World, tools: LifeTools, actor: ProcessRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, asked = Life(GuestRecord("i-1", 1), tools), []

    async def shut_down(record: GuestRecord, grace_s: float) -> None:
        asked.append(grace_s)
        life._on_guest_gone()

    def send(order: dict[str, Any]) -> None:
        if order["op"] == "plan":
            life.ask_end(30.0)
        elif order["op"] == "exit":
            life._on_actor_gone()

    monkeypatch.setattr(world, "shut_down", shut_down)
    hello = ActorHello("i-1", 1, actor, (), 0, 0)
    life.actor_came(SimpleNamespace(hello=hello, send=send))  # type: ignore[arg-type]
    await asyncio.wait_for(life.run(), 60)
    assert asked == [30.0] and life.record.reason_code == "Stopped"
