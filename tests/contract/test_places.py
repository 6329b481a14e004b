"""Where instances are: what a balancer process asks and hears, over a control plane that goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from minicloud import cloud_places
from minicloud.balancer.ports import Place
from minicloud.base.arn import Scope
from minicloud.base.errors import Unavailable
from minicloud.cloud_calls import Calls
from minicloud.cloud_function_hosts import Cordons
from minicloud.cloud_places import InstancePlaces
from minicloud.compute.rpc.places import PlaceServicer
from minicloud.rpc import fleet_auth
from minicloud.rpc.door import Entry, door
from minicloud.rpc.server import Listen, RpcServer
from minicloud.settings import CloudSettings
from minicloud.wire import fleet_pb2

SECRET = bytes(range(32))
ONE, TWO = "i-1", "i-2"
PLACES = fleet_pb2.DESCRIPTOR.services_by_name["PlaceService"]


class Control:
    """Compute, as PlaceServicer sees it, behind a server that can be ended."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(instances={}, hosts={})
        self.host_followers: set[Callable[[], None]] = set()
        self.followers: set[Callable[[str], None]] = set()
        self.samples: dict[str, Any] = {}
        self.looked = 0
        self.port = 0

    async def start(self) -> None:
        entry = Entry(fleet_auth.fleet_door(SECRET), lambda: "id")
        servicer = PlaceServicer(self)  # type: ignore[arg-type]
        self.server = RpcServer([door(servicer, PLACES, entry)], lambda: "id", Listen(port=self.port))
        self.port = await self.server.start()

    async def shown(self, look: Callable[[], Any]) -> Any:
        self.looked += 1
        return look()

    def put(self, instance_id: str, state: str, address: str = "", account: str = "000000000000") -> None:
        self.state.instances[instance_id] = SimpleNamespace(
            id=instance_id,
            account=account,
            region="us-east-1",
            state=state,
            private_ip=address,
            zone="z",
            reason_code="",
            generation=1,
        )
        self.changed(instance_id)

    def cordon(self, name: str, cordoned: bool, drained: bool = False) -> None:
        self.state.hosts[f"h-{name}"] = SimpleNamespace(name=name, cordoned=cordoned, drained=drained)
        for follow in self.host_followers:
            follow()

    def forget(self, instance_id: str) -> None:
        del self.state.instances[instance_id]
        self.changed(instance_id)

    def changed(self, instance_id: str) -> None:
        for follow in self.followers:
            follow(instance_id)


@dataclass
class Heard:
    """The balancer service, as InstancePlaces sees it."""

    mine: set[str] = field(default_factory=set)
    news: asyncio.Queue[tuple[str, Place | None, bool]] = field(default_factory=asyncio.Queue)

    def instances(self) -> set[str]:
        return self.mine

    async def seen(self, instance_id: str, place: Place | None, gone: bool = False) -> None:
        self.news.put_nowait((instance_id, place, gone))

    async def until(self, wanted: tuple[str, Place | None, bool]) -> None:
        async with asyncio.timeout(60):
            while await self.news.get() != wanted:
                pass


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    made = Control()
    await made.start()
    yield made
    await made.server.stop(0)


@pytest.fixture
async def heard(control: Control) -> AsyncIterator[Heard]:
    yield Heard()


@pytest.fixture
async def places(control: Control, heard: Heard) -> AsyncIterator[InstancePlaces]:
    made = InstancePlaces(f"127.0.0.1:{control.port}", SECRET, "balancer-0")
    made.start(heard)
    yield made
    await made.close()


async def test_only_instances_of_the_scope_that_run_have_a_place(control: Control, places: InstancePlaces) -> None:
    control.put(ONE, "running", "10.0.0.1")
    control.put(TWO, "stopping", "10.0.0.2")
    control.put("i-3", "running", "10.0.0.3", account="111122223333")
    found = await places.places(Scope(), [ONE, TWO, "i-3", "i-4", ONE])
    assert found == {ONE: Place("10.0.0.1", "z")}


async def test_what_is_not_there_is_not_remembered(control: Control, places: InstancePlaces) -> None:
    assert await places.places(Scope(), [ONE]) == {}
    looked = control.looked
    control.changed(ONE)
    control.put(TWO, "running", "10.0.0.2")
    assert len(await places.places(Scope(), [TWO])) == 1
    assert control.looked == looked + 1


async def test_changes_of_what_was_asked_for_come_by_themselves(
    control: Control, places: InstancePlaces, heard: Heard
) -> None:
    control.put(ONE, "running", "10.0.0.1")
    control.put(TWO, "running", "10.0.0.2")
    await places.places(Scope(), [ONE])
    looked = control.looked
    control.put(TWO, "stopped")  # nobody asked for it
    control.put(ONE, "stopped")
    await heard.until((ONE, None, False))
    control.put(ONE, "running", "10.0.0.9")
    await heard.until((ONE, Place("10.0.0.9", "z"), False))
    control.put(ONE, "terminated")
    await heard.until((ONE, None, True))
    control.forget(ONE)
    await heard.until((ONE, None, True))
    assert control.looked == looked + 4


async def test_targets_are_asked_for_again_by_a_new_stream(
    control: Control, places: InstancePlaces, heard: Heard
) -> None:
    control.put(ONE, "running", "10.0.0.1")
    await places.places(Scope(), [ONE])
    heard.mine = {ONE, TWO}
    await control.server.stop(0)
    control.put(ONE, "running", "10.0.0.5")  # while nobody listens
    control.put(TWO, "running", "10.0.0.2")
    asked = asyncio.create_task(places.places(Scope(), [TWO]))
    await control.start()
    assert await asked == {TWO: Place("10.0.0.2", "z")}
    await heard.until((ONE, Place("10.0.0.5", "z"), False))
    for _ in range(3):  # questions go to the new stream, whatever is left of the old one
        assert await places.places(Scope(), [ONE]) == {ONE: Place("10.0.0.5", "z")}


async def test_an_answer_from_before_the_question_is_none(control: Control, places: InstancePlaces) -> None:
    control.put(ONE, "pending")
    assert await places.places(Scope(), [ONE]) == {}
    for turn in range(50):
        control.put(ONE, "pending")  # its news is on the way
        control.state.instances[ONE].state, control.state.instances[ONE].private_ip = "running", f"10.0.0.{turn}"
        assert await places.places(Scope(), [ONE]) == {ONE: Place(f"10.0.0.{turn}", "z")}
        control.put(ONE, "pending")


async def test_without_a_control_plane_there_is_no_answer(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_places, "ANSWER_S_MAX", 0.05)
    lost = InstancePlaces("127.0.0.1:9", SECRET, "balancer-0")
    lost.start(heard)
    with pytest.raises(Unavailable):
        await lost.places(Scope(), [ONE])
    assert not lost._awaited, "whoever gave up is not remembered"
    await lost.close()


async def test_a_stranger_hears_nothing(control: Control, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_places, "ANSWER_S_MAX", 0.3)
    control.put(ONE, "running", "10.0.0.1")
    stranger = InstancePlaces(f"127.0.0.1:{control.port}", b"x" * 32, "balancer-0")
    stranger.start(heard)
    with pytest.raises(Unavailable):
        await stranger.places(Scope(), [ONE])
    assert not control.looked and not control.followers
    await stranger.close()


async def test_cordons_of_hosts_are_told_and_told_again_by_the_next_control_plane(control: Control) -> None:
    told: asyncio.Queue[tuple[str, bool, bool]] = asyncio.Queue()
    control.cordon("a", True)
    control.cordon("b", False)
    cloud = CloudSettings("c", "/nowhere", control_port=control.port)
    calls = Calls(cloud, SECRET, "functions-0")
    cordons = Cordons(calls, fleet_auth.token(SECRET, "functions-0"), lambda *said: told.put_nowait(said))
    cordons.start()
    async with asyncio.timeout(60):
        assert [await told.get(), await told.get()] == [("a", True, False), ("b", False, False)]
        control.cordon("a", False)
        assert await told.get() == ("a", False, False)
        control.cordon("a", False)  # nothing new
        control.cordon("b", True, drained=True)
        assert await told.get() == ("b", True, True)
        await control.server.stop(0)
        control.state.hosts.clear()
        control.cordon("a", True)
        await control.start()
        assert await told.get() == ("a", True, False)
    await cordons.close()
    await calls.close()
