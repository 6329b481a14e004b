"""The control plane and its hosts when the disk is full, and when a host cannot do what it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minicloud.base import limits
from minicloud.base.errors import InsufficientStorage
from minicloud.compute import links, service
from minicloud.wire import catalog_pb2, common_pb2, fleet_pb2, host_pb2, instance_pb2
from tests.contract.fake_host import FakeHost
from tests.contract.test_control_plane import Cloud, cloud_on, refused


class Disk:
    """Between the shell and its journal: a disk that can be full."""

    def __init__(self, cloud: Cloud) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.refused = asyncio.Event()
        self.plane = cloud.plane
        self._commit = cloud.plane.journal.commit
        cloud.plane.journal.commit = self.commit  # type: ignore[method-assign]

    async def commit(self, records: Any) -> None:
        if not self.room.is_set():
            self.refused.set()
            raise InsufficientStorage()
        await self._commit(records)

    def hold(self) -> asyncio.Event:
        """Commits wait until the event is set."""
        go_on, commit = asyncio.Event(), self.commit

        async def wait_first(records: Any) -> None:
            await go_on.wait()
            await commit(records)

        self.plane.journal.commit = wait_first  # type: ignore[method-assign]
        return go_on

    async def fill(self) -> None:
        self.room.clear()
        self.refused.clear()


def beat(instance_id: str, answers: bool = True) -> fleet_pb2.HostReport:
    sample = fleet_pb2.GuestSample(instance_id=instance_id, generation=1, answers=answers)
    return fleet_pb2.HostReport(beat=fleet_pb2.HostBeat(samples=[sample]))


async def status_of(cloud: Cloud, instance_id: str, status: str) -> None:
    request = instance_pb2.WatchInstancesRequest(instance_ids=[instance_id])
    async for one in cloud.instances.Watch(request, timeout=10):
        if one.instance_status == status:
            return


async def host_state(cloud: Cloud) -> str:
    return str((await cloud.hosts.List(host_pb2.ListHostsRequest())).hosts[0].state)


async def test_beats_are_heard_while_a_report_waits_for_the_disk(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        one, two = await cloud.launch(2)
        for made in (one, two):
            await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        disk = Disk(cloud)
        await disk.fill()
        await host.report(two.id, 1, "ended", exit_code=137)
        await disk.refused.wait()
        await host.say(beat(one.id))
        await status_of(cloud, one.id, "ok")
        assert (await cloud.instances.Get(instance_pb2.GetInstanceRequest(instance_id=two.id))).state == "running"
        disk.room.set()
        ended = await asyncio.wait_for(cloud.until(two.id, "stopped"), 60)
        assert ended.exit_code == 137


async def test_a_host_that_is_heard_of_again_before_its_loss_is_on_disk_is_not_lost(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        disk = Disk(cloud)
        await disk.fill()
        cloud.plane.service.links._silent(host.host_id)
        await disk.refused.wait()
        await host.say(beat(one.id))
        await status_of(cloud, one.id, "ok")
        disk.room.set()
        await drained(cloud)
        assert await host_state(cloud) == "up"
        assert (await cloud.instances.Get(instance_pb2.GetInstanceRequest(instance_id=one.id))).state == "running"


async def test_a_host_that_stays_silent_is_lost_as_soon_as_the_disk_takes_it(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        disk = Disk(cloud)
        await disk.fill()
        cloud.plane.service.links._silent(host.host_id)
        await disk.refused.wait()
        disk.room.set()
        await asyncio.wait_for(cloud.until(one.id, "stopped"), 60)
        assert await host_state(cloud) == "down"
        assert await asyncio.wait_for(cloud.actors.kills.get(), 60) == (one.id, 1)


async def test_the_loss_of_an_old_session_does_not_hit_the_next_one(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud:
        async with cloud.host() as host:
            (one,) = await cloud.launch()
            await asyncio.wait_for(cloud.until(one.id, "running"), 60)
            disk = Disk(cloud)
            await disk.fill()
            cloud.plane.service.node_died(host.session)
            await disk.refused.wait()
        disk.room.set()
        async with cloud.host(session="node-2"):
            await drained(cloud)
            again = await asyncio.wait_for(cloud.until(one.id, "running"), 60)
            assert again.generation == 2 and await host_state(cloud) == "up"


async def test_a_termination_that_the_disk_refused_ends_nothing(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        disk = Disk(cloud)
        entered, go_on, real = asyncio.Event(), asyncio.Event(), cloud.plane.journal.commit

        async def first_then_full(records: Any) -> None:
            entered.set()
            await go_on.wait()
            disk.room.clear()
            await disk._commit(records)
            cloud.plane.journal.commit = real  # type: ignore[method-assign]

        cloud.plane.journal.commit = first_then_full  # type: ignore[method-assign]
        tagging = asyncio.ensure_future(
            cloud.instances.Tag(instance_pb2.TagRequest(resource_id=one.id, tags={"a": "b"}))
        )
        await entered.wait()
        submitted = cloud.plane.shell.pending()
        ending = asyncio.ensure_future(
            cloud.instances.Terminate(instance_pb2.InstanceIdsRequest(instance_ids=[one.id]))
        )
        while cloud.plane.shell.pending() == submitted:  # until it is decided, and waits behind the commit in flight
            await cloud.types.Get(catalog_pb2.GetTypeRequest(name="t3.micro"))  # what is not a record waits for no disk
        go_on.set()
        await tagging
        async with refused(InsufficientStorage):
            await ending
        seen = await cloud.instances.Get(instance_pb2.GetInstanceRequest(instance_id=one.id))
        assert seen.state == "running" and dict(seen.tags) == {"a": "b"}
        assert not [order for order in host.orders if order.WhichOneof("order") == "end"]


async def test_no_reply_shows_what_is_not_on_disk(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        disk = Disk(cloud)
        await cloud.keys.Create(catalog_pb2.CreateKeyPairRequest(name="old"))
        go_on = disk.hold()
        changes = [
            asyncio.ensure_future(cloud.keys.Create(catalog_pb2.CreateKeyPairRequest(name="new"))),
            asyncio.ensure_future(cloud.keys.Delete(catalog_pb2.GetKeyPairRequest(name="old"))),
        ]
        while [key.name for key in cloud.plane.compute.state.key_pairs.values()] != ["new"]:
            await cloud.types.Get(catalog_pb2.GetTypeRequest(name="t3.micro"))  # no record: it waits for no disk
        seen = [
            asyncio.ensure_future(cloud.keys.Get(catalog_pb2.GetKeyPairRequest(name="old"))),
            asyncio.ensure_future(cloud.keys.List(catalog_pb2.ListKeyPairsRequest())),
        ]
        await asyncio.wait(seen, timeout=0.05)
        assert not any(one.done() for one in seen)
        await disk.fill()
        go_on.set()
        for change in changes:
            async with refused(InsufficientStorage):
                await change
        old, names = await asyncio.gather(*seen)
        assert old.name == "old" and [key.name for key in names.key_pairs] == ["old"]


async def test_an_end_that_a_host_refused_is_ordered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "END_AGAIN_S", 0.01)
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        host.deaf = True
        await cloud.instances.Terminate(instance_pb2.InstanceIdsRequest(instance_ids=[one.id]))
        (order,) = await host.ordered("end")
        await refuse(host, order)
        await host.ordered("end", 2)
        await host.report(one.id, 1, "ended")
        await host.say(fleet_pb2.HostReport(result=fleet_pb2.OrderResult(order_id=order.order_id, ok=True)))
        await asyncio.wait_for(cloud.until(one.id, "terminated"), 60)


async def test_a_disk_whose_deletion_nobody_confirmed_is_deleted_after_a_restart(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        host.deaf = True
        await cloud.instances.Terminate(instance_pb2.InstanceIdsRequest(instance_ids=[one.id]))
        await host.ordered("end")
        await host.report(one.id, 1, "ended")
        await asyncio.wait_for(cloud.until(one.id, "terminated"), 60)
        await host.ordered("forget")
        assert len(await host.ordered("end")) == 1  # its answer is under way
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (order,) = await host.ordered("end")
        assert order.end.delete_disk
        while cloud.plane.compute.state.instances[one.id].disk_left:
            await cloud.hosts.List(host_pb2.ListHostsRequest())
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        other = (await cloud.launch())[0]
        await asyncio.wait_for(cloud.until(other.id, "running"), 60)
        assert not [order for order in host.orders if order.WhichOneof("order") == "end"]


async def test_a_start_that_a_host_refused_ends_the_launch_with_its_reason(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        host.deaf = True
        (one,) = await cloud.launch()
        (order,) = await host.ordered("start")
        await refuse(host, order)
        ended = await asyncio.wait_for(cloud.until(one.id, "shutting-down"), 60)
        assert ended.state_reason.message == "its host cannot start it: no space left"


async def refuse(host: FakeHost, order: Any) -> None:
    error = common_pb2.Reason(code="InternalError", message="no space left")
    await host.say(fleet_pb2.HostReport(result=fleet_pb2.OrderResult(order_id=order.order_id, ok=False, error=error)))


async def drained(cloud: Cloud) -> None:
    """Every settling task that is under way has ended."""
    await asyncio.gather(*cloud.plane.service._tasks)


async def test_a_control_plane_that_stood_still_gives_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SECOND_LOOK_S", 0.0)
    silent: list[str] = []
    heard_nothing = asyncio.Event()

    def on_silence(host_id: str) -> None:
        silent.append(host_id)
        heard_nothing.set()

    watched, now = links.Links(on_silence), asyncio.get_running_loop().time()
    watched._overdue("h-1", now - 2 * links.STOOD_STILL_S)
    assert watched.expected("h-1") and watched._timers["h-1"].when() > now + 0.9 * limits.HOST_LOST_AFTER_S
    watched._overdue("h-2", now)
    await asyncio.wait_for(heard_nothing.wait(), 60)
    assert silent == ["h-2"] and not watched.expected("h-2")
    watched.close()


async def test_status_checks_say_what_is_true(tmp_path: Path) -> None:
    """System: its host reports. Instance: the guest answered its last ping."""
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        get = instance_pb2.GetInstanceRequest(instance_id=one.id)
        for answers, status in ((True, "ok"), (False, "impaired"), (True, "ok")):
            await host.say(beat(one.id, answers))
            await status_of(cloud, one.id, status)
            assert (await cloud.instances.Get(get)).system_status == "ok"
        cloud.plane.service.links._silent(host.host_id)
        await asyncio.wait_for(cloud.until(one.id, "stopped"), 60)
        shown = await cloud.instances.Get(get)
        assert shown.system_status == shown.instance_status == "not-applicable"
