"""From an instance's change of state to the process of rules: over a real control plane, while either is away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from minicloud import cloud_transitions
from minicloud.base.arn import Scope
from minicloud.base.errors import Unavailable
from minicloud.cloud_calls import Calls
from minicloud.cloud_events import CloudSources
from minicloud.cloud_groups import Notices
from minicloud.event.rpc import EVENTS, EventServicer
from minicloud.rpc import fleet_auth
from minicloud.rpc.door import Entry, door
from minicloud.rpc.server import Listen, RpcServer
from minicloud.scaling.commands import Unheard
from minicloud.scaling.model import Activity, Group, Listener
from minicloud.scaling.notices import activity_event, bus_of
from minicloud.scaling.state import State
from minicloud.settings import FUNCTIONS, CloudSettings, ShardSettings
from minicloud.wire import fleet_pb2, fleet_pb2_grpc, instance_pb2
from tests.contract.test_control_plane import SECRET, Cloud, cloud_on
from tests.turns import until

HOME = Scope()


class Rules:
    """The service of rules, as EventServicer sees it. `away`: so many calls are refused; `unheard`: nobody listens."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.away = 0
        self.unheard: set[Scope] = set()
        self.came = asyncio.Event()

    async def happened(self, told: list[Any]) -> set[Scope]:
        self.came.set()
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        self.told += told
        return self.unheard

    async def heard(self, count: int) -> list[str]:
        while len(self.told) < count:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 60)
        return [one.detail["state"] for one in self.told]


@asynccontextmanager
async def serving(folder: Path, rules: Rules) -> AsyncIterator[None]:
    socket = CloudSettings(cloud_id="0123abcd", data_dir=str(folder)).shard_socket(FUNCTIONS, 0)
    socket.parent.mkdir(parents=True, exist_ok=True)
    entry = Entry(fleet_auth.fleet_door(SECRET), lambda: "id")
    server = RpcServer([door(EventServicer(rules), EVENTS, entry)], lambda: "id", Listen(socket=str(socket)))  # type: ignore[arg-type]
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)
        shutil.rmtree(socket.parent)  # under /tmp where the folder's name is long


def plane(folder: Path) -> Any:
    return cloud_on(folder, functions=(ShardSettings(),))


async def listen(cloud: Cloud, folder: Path) -> None:
    """As the process of rules does, over the wire."""
    host, _, port = cloud.address.partition(":")
    settings = CloudSettings(cloud_id="0123abcd", data_dir=str(folder), control_host=host, control_port=int(port))
    calls = Calls(settings, SECRET, "functions")
    try:
        await CloudSources(calls, settings, SECRET, "functions").listen(HOME)
    finally:
        await calls.close()


async def test_every_change_of_an_instance_is_told_once_in_order(tmp_path: Path) -> None:
    rules = Rules()
    async with serving(tmp_path, rules), plane(tmp_path) as cloud, cloud.host():
        (before,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(before.id, "running"), 60)
        await listen(cloud, tmp_path)
        (made,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        await cloud.instances.Terminate(instance_pb2.InstanceIdsRequest(instance_ids=[made.id]))
        assert await rules.heard(4) == ["pending", "running", "shutting-down", "terminated"]
        first = rules.told[0]
        assert (first.source, first.detail_type) == ("aws.ec2", "EC2 Instance State-change Notification")
        assert first.resources == (HOME.arn("ec2", f"instance/{made.id}"),) and first.scope == HOME
        assert {one.detail["instance-id"] for one in rules.told} == {made.id}
        assert len({one.id for one in rules.told}) == 4
        await until(lambda: not cloud.plane.service.state.transitions)
        assert HOME.key() in cloud.plane.service.state.listeners


async def test_what_happened_while_rules_or_the_control_plane_were_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_transitions, "PAUSE_S", (0.01, 0.02))
    rules = Rules()
    async with plane(tmp_path) as cloud, cloud.host():  # nobody serves rules
        await listen(cloud, tmp_path)
        (made,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(made.id, "running"), 60)
    rules.away = 3
    async with serving(tmp_path, rules), plane(tmp_path):  # restarted: from its journal
        assert await rules.heard(2) == ["pending", "running"]


async def test_nothing_more_is_told_where_no_rule_listens(tmp_path: Path) -> None:
    rules = Rules()
    rules.unheard = {HOME}
    async with serving(tmp_path, rules), plane(tmp_path) as cloud, cloud.host():
        await listen(cloud, tmp_path)
        (made,) = await cloud.launch()
        assert (await rules.heard(1))[0] == "pending"
        await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        await until(lambda: not cloud.plane.service.state.transitions)
        assert not cloud.plane.service.state.listeners
        told = len(rules.told)
        await cloud.launch()
        assert not cloud.plane.service.state.transitions and len(rules.told) == told


async def test_users_cannot_tell_events_or_listen(tmp_path: Path) -> None:
    async with plane(tmp_path) as cloud:
        stub: Any = fleet_pb2_grpc.ListenServiceStub(cloud.channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Listen(fleet_pb2.ListenRequest(account=HOME.account, region=HOME.region))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_autoscaler_tells_how_activities_end_and_hears_where_nobody_listens(tmp_path: Path) -> None:
    rules, state, said = Rules(), State(), list[Unheard]()

    async def submit(command: Unheard) -> None:
        said.append(command)

    settings = CloudSettings(cloud_id="0123abcd", data_dir=str(tmp_path), functions=(ShardSettings(),))
    calls = Calls(settings, SECRET, "autoscaler")
    notices = Notices(calls, SECRET, "autoscaler", state, submit)
    group = Group(HOME.key("web"), "web", HOME.account, HOME.region, "uid", 0.0, 0, 1, 1, [])
    activity = Activity(
        f"{group.key}/1", group.key, "ab12", "Launching a new EC2 instance: i-1", "", 1.0, 2.0, "Successful",
        instance_id="i-1",
    )  # fmt: skip
    async with serving(tmp_path, rules):
        await notices.tell(HOME, bus_of(HOME), "", activity_event(group, activity))
        await notices.tell(HOME, bus_of(HOME), "", activity_event(group, activity))
        first, second = rules.told
        assert first == second and first.detail_type == "EC2 Instance Launch Successful"
        assert (first.scope, first.source, first.time) == (HOME, "aws.autoscaling", 2.0)
        assert first.resources == (group.arn, HOME.arn("ec2", "instance/i-1"))
        rules.unheard = {HOME}
        await notices.tell(HOME, bus_of(HOME), "", activity_event(group, activity))
        assert said == []
        state.listeners[HOME.key()] = Listener(HOME.key(), 7)
        await notices.tell(HOME, bus_of(HOME), "", activity_event(group, activity))
        assert said == [Unheard(HOME, 7)]
    await calls.close()
