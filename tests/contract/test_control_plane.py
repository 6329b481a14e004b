"""The control plane for real (journal on disk, gRPC, streams), with hosts that only say what they would do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import (
    CloudError,
    IncorrectState,
    InsufficientCapacity,
    InvalidPageToken,
    InvalidParameterValue,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from minicloud.cloud import ControlPlane
from minicloud.compute.ports import ActorSpec
from minicloud.identity.commands import CreateAccount
from minicloud.rpc.errors import from_rpc_error
from minicloud.settings import CloudSettings
from minicloud.wire import (
    catalog_pb2,
    catalog_pb2_grpc,
    fleet_pb2,
    host_pb2,
    host_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
)
from tests.contract.fake_host import FakeHost

SECRET = bytes(range(32))


class Actors:
    """The launcher's port, remembering. `refuse` makes launches fail."""

    def __init__(self) -> None:
        self.launched: list[tuple[str, int]] = []
        self.asked = asyncio.Event()
        self.kills: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.refuse: CloudError | None = None

    async def launch(self, spec: ActorSpec) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.launched.append((spec.instance_id, spec.generation))
        self.asked.set()

    async def kill(self, instance_id: str, generation: int) -> None:
        self.kills.put_nowait((instance_id, generation))


class Cloud:
    def __init__(self, plane: ControlPlane, port: int, actors: Actors, channel: grpc.aio.Channel) -> None:
        self.plane, self.actors, self.channel = plane, actors, channel
        self.address = f"127.0.0.1:{port}"
        self.instances: Any = instance_pb2_grpc.InstanceServiceStub(channel)  # type: ignore[no-untyped-call]
        self.hosts: Any = host_pb2_grpc.HostServiceStub(channel)  # type: ignore[no-untyped-call]
        self.images: Any = catalog_pb2_grpc.ImageServiceStub(channel)  # type: ignore[no-untyped-call]
        self.types: Any = catalog_pb2_grpc.TypeServiceStub(channel)  # type: ignore[no-untyped-call]
        self.keys: Any = catalog_pb2_grpc.KeyPairServiceStub(channel)  # type: ignore[no-untyped-call]

    def host(self, name: str = "host-a", session: str = "node-1") -> FakeHost:
        return FakeHost(self.address, SECRET, name, session)

    async def launch(self, count: int = 1, **fields: Any) -> list[Any]:
        fields.setdefault("image_id", "base")
        fields.setdefault("instance_type", "t3.micro")
        request = instance_pb2.LaunchRequest(min_count=count, max_count=count, **fields)
        return list((await self.instances.Launch(request)).instances)

    async def until(self, instance_id: str, state: str) -> Any:
        async for one in self.instances.Watch(instance_pb2.WatchInstancesRequest(instance_ids=[instance_id])):
            if one.state == state:
                return one
        raise AssertionError("the watch ended")


@asynccontextmanager
async def cloud_on(folder: Path, **changes: Any) -> AsyncIterator[Cloud]:
    actors = Actors()
    settings = CloudSettings(cloud_id="0123abcd", data_dir=str(folder), **changes)
    plane = ControlPlane(settings, SECRET, actors)
    port = await plane.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Cloud(plane, port, actors, channel)
    finally:
        await plane.stop()


@asynccontextmanager
async def refused(error: type[CloudError], field: str | None = None) -> AsyncIterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    typed = from_rpc_error(caught.value)
    assert type(typed) is error, typed
    assert field is None or typed.field == field


async def test_launch_watch_stop_start_terminate(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (made,) = await cloud.launch()
        assert made.state == "pending"
        one = await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        assert one.private_ip == "10.64.0.9" and one.host_name == "host-a"
        assert cloud.actors.launched == [(made.id, 1)]
        await cloud.instances.Stop(instance_pb2.StopInstancesRequest(instance_ids=[made.id]))
        await asyncio.wait_for(cloud.until(made.id, "stopped"), 60)
        await cloud.instances.Start(instance_pb2.InstanceIdsRequest(instance_ids=[made.id]))
        again = await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        assert again.generation == 2 and cloud.actors.launched[-1] == (made.id, 2)
        await cloud.instances.Terminate(instance_pb2.InstanceIdsRequest(instance_ids=[made.id]))
        await asyncio.wait_for(cloud.until(made.id, "terminated"), 60)
        (first, second) = await host.ordered("end", 2)
        assert not first.end.delete_disk and second.end.delete_disk


async def test_an_actor_is_made_once_its_guest_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUEST_FIRST_S_MAX", 60.0)
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        host.deaf = True
        (made,) = await cloud.launch()
        await host.ordered("start")
        for generation in (2, 1):  # the first is of another life
            assert not cloud.actors.launched
            await host.say(fleet_pb2.HostReport(begun=fleet_pb2.GuestBegun(instance_id=made.id, generation=generation)))
        await asyncio.wait_for(cloud.actors.asked.wait(), 60)
        assert cloud.actors.launched == [(made.id, 1)]


async def test_no_actor_is_made_for_what_was_ended_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUEST_FIRST_S_MAX", 60.0)
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        host.deaf = True
        (made, kept) = await cloud.launch(2)
        await host.ordered("start", 2)
        await cloud.instances.Terminate(instance_pb2.InstanceIdsRequest(instance_ids=[made.id]))
        for one in (made, kept):
            await host.say(fleet_pb2.HostReport(begun=fleet_pb2.GuestBegun(instance_id=one.id, generation=1)))
        await asyncio.wait_for(cloud.actors.asked.wait(), 60)
        assert cloud.actors.launched == [(kept.id, 1)]


async def test_an_actor_is_made_though_its_host_says_nothing(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        host.deaf = True
        (made,) = await cloud.launch()
        await asyncio.wait_for(cloud.actors.asked.wait(), 60)
        assert cloud.actors.launched == [(made.id, 1)]


async def test_a_restarted_control_plane_goes_on_where_it_was(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        host.deaf = True
        (made,) = await cloud.launch()
        await host.ordered("start")
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        (order,) = await host.ordered("start")
        assert order.start.spec.generation == 1
        assert cloud.actors.launched == [(made.id, 1)]


async def test_running_guests_survive_a_restart_untouched(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (made,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        guests = dict(host.guests)
    async with cloud_on(tmp_path) as cloud:
        host = cloud.host()
        host.guests = guests
        async with host:
            one = await cloud.instances.Get(instance_pb2.GetInstanceRequest(instance_id=made.id))
            assert (one.state, one.generation) == ("running", 1)
            assert not cloud.actors.launched and [o.WhichOneof("order") for o in host.orders] == ["welcome"]


async def test_a_host_that_restarted_gets_its_instances_again(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud:
        async with cloud.host():
            (made,) = await cloud.launch()
            await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        async with cloud.host(session="node-2"):
            one = await asyncio.wait_for(cloud.until(made.id, "running"), 60)
            assert one.generation == 2


async def test_a_lost_host_stops_its_instances_and_its_guests_are_fenced(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud:
        async with cloud.host() as host:
            (made,) = await cloud.launch()
            await asyncio.wait_for(cloud.until(made.id, "running"), 60)
            cloud.plane.service.node_died("node-1")
            one = await asyncio.wait_for(cloud.until(made.id, "stopped"), 60)
            assert one.state_reason.code == "Server.HostFailure"
            listed = await cloud.hosts.List(host_pb2.ListHostsRequest())
            assert listed.hosts[0].state == "down"
            guests = dict(host.guests)
        assert await asyncio.wait_for(cloud.actors.kills.get(), 60) == (made.id, 1)
        frozen = cloud.host()  # its raylet was only frozen: the agent is there, its Ray node is dead for good
        frozen._task = asyncio.create_task(frozen._run())
        await frozen.ordered("fence")
        await frozen._task
        assert (await cloud.hosts.List(host_pb2.ListHostsRequest())).hosts[0].state == "down"
        awake = cloud.host(session="node-2")
        awake.guests, awake.deaf = guests, True
        async with awake:
            (order,) = await awake.ordered("end")
            assert order.end.force and not order.end.delete_disk


async def test_a_guest_that_nobody_asked_for_is_ended(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        await host.report("i-" + "9" * 17, 3, "running")
        (order,) = await host.ordered("end")
        assert (order.end.instance_id, order.end.generation, order.end.force) == ("i-" + "9" * 17, 3, True)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (InsufficientCapacity("Ray has no room"), "Server.InsufficientInstanceCapacity"),
        (Unavailable("host host-a has left the Ray cluster"), "Server.HostFailure"),
    ],
)
async def test_an_actor_that_ray_refuses_ends_the_launch_with_a_reason(
    tmp_path: Path, refusal: CloudError, code: str
) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        host.deaf = True
        cloud.actors.refuse = refusal
        (made,) = await cloud.launch()
        await host.ordered("end")
        one = await cloud.instances.Get(instance_pb2.GetInstanceRequest(instance_id=made.id))
        assert one.state == "shutting-down" and one.state_reason.code == code
        await host.report(made.id, 1, "ended")
        gone = await asyncio.wait_for(cloud.until(made.id, "terminated"), 60)
        assert gone.state_reason.code == code


async def test_without_hosts_nothing_fits_and_the_error_says_so(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, refused(InsufficientCapacity):
        await cloud.launch()


async def test_pages_and_filters(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        made = await cloud.launch(7, instance_type="t3.nano", tags={"n": "1"})
        other = await cloud.launch(2, instance_type="t3.micro")
        names: list[str] = []
        token = ""
        while True:
            page = await cloud.instances.List(
                instance_pb2.ListInstancesRequest(
                    page_size=3, page_token=token, filters=[{"name": "tag:n", "values": ["1"]}]
                )
            )
            assert len(page.instances) <= 3
            names += [one.id for one in page.instances]
            token = page.next_page_token
            if not token:
                break
        assert names == sorted(one.id for one in made)
        page = await cloud.instances.List(
            instance_pb2.ListInstancesRequest(filters=[{"name": "instance-type", "values": ["t3.mic*"]}])
        )
        assert {one.id for one in page.instances} == {one.id for one in other}
        first = await cloud.instances.List(instance_pb2.ListInstancesRequest(page_size=1))
        for wrong in ("nonsense", first.next_page_token[:-2], "AAAA"):
            async with refused(InvalidPageToken, "page_token"):
                await cloud.instances.List(instance_pb2.ListInstancesRequest(page_size=1, page_token=wrong))
        async with refused(InvalidPageToken, "page_token"):  # issued for another filter
            await cloud.instances.List(
                instance_pb2.ListInstancesRequest(
                    page_size=1, page_token=first.next_page_token, filters=[{"name": "tag:n", "values": ["1"]}]
                )
            )
        async with refused(InvalidParameterValue, "filters.name"):
            await cloud.instances.List(
                instance_pb2.ListInstancesRequest(filters=[{"name": "colour", "values": ["red"]}])
            )
        async with refused(InvalidParameterValue, "page_size"):
            await cloud.instances.List(instance_pb2.ListInstancesRequest(page_size=10_000))


async def test_dry_run_creates_nothing(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        assert await cloud.launch(dry_run=True) == []
        assert not (await cloud.instances.List(instance_pb2.ListInstancesRequest())).instances


async def test_registered_images_are_checked_and_launchable(tmp_path: Path) -> None:
    import io
    import tarfile

    def tar(name: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"hello"))
        return buffer.getvalue()

    def parts(name: str, data: bytes) -> list[catalog_pb2.RegisterImageRequest]:
        header = catalog_pb2.RegisterImageHeader(name=name)
        return [catalog_pb2.RegisterImageRequest(header=header), catalog_pb2.RegisterImageRequest(chunk=data)]

    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        image = await cloud.images.Register(iter(parts("mine", tar("etc/motd"))))
        assert image.state == "available" and (tmp_path / "images" / f"{image.id}.tar").exists()
        for name, data in (("evil", tar("../x")), ("junk", b"not a tar" * 100)):
            async with refused(InvalidParameterValue, "chunk"):
                await cloud.images.Register(iter(parts(name, data)))
        assert [path.name for path in (tmp_path / "images").iterdir()] == [f"{image.id}.tar"]
        (made,) = await cloud.launch(image_id="mine")
        (order,) = await host.ordered("start")
        assert order.start.spec.image_id == image.id and not order.start.spec.image_builtin
        await cloud.images.Deregister(catalog_pb2.GetImageRequest(image_id=image.id))
        assert not list((tmp_path / "images").iterdir())
        assert made.image_id == image.id


async def test_key_pairs(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        made = await cloud.keys.Create(catalog_pb2.CreateKeyPairRequest(name="mine"))
        assert made.private_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
        assert made.key_pair.public_key.startswith("ssh-ed25519 ")
        async with refused(InvalidParameterValue, "public_key"):
            await cloud.keys.Import(catalog_pb2.ImportKeyPairRequest(name="bad", public_key="ssh-rsa nonsense"))
        copy = await cloud.keys.Import(
            catalog_pb2.ImportKeyPairRequest(name="copy", public_key=made.key_pair.public_key)
        )
        assert copy.fingerprint == made.key_pair.fingerprint
        await cloud.launch(key_name="mine")
        (order,) = await host.ordered("start")
        assert order.start.spec.public_key == made.key_pair.public_key


async def test_types_are_listed_by_what_fits(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        everything = 0
        token = ""
        while True:
            page = await cloud.types.List(catalog_pb2.ListTypesRequest(page_size=1000, page_token=token))
            everything += len(page.types)
            token = page.next_page_token
            if not token:
                break
        assert everything == 1345
        fits = await cloud.types.List(catalog_pb2.ListTypesRequest(fits_now=True, page_size=1000))
        assert fits.types and all(
            one.memory_mib <= 16384 and one.architecture == "x86_64" and not one.gpus for one in fits.types
        )


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({"family": "memory"}, lambda one: one.family == "memory"),
        ({"min_vcpus": 8, "max_vcpus": 16}, lambda one: 8 <= one.vcpus <= 16),
        ({"min_memory_mib": 8192, "max_memory_mib": 16384}, lambda one: 8192 <= one.memory_mib <= 16384),
        ({"min_gpus": 1, "max_gpus": 4}, lambda one: 1 <= one.gpus <= 4),
        ({"architecture": "arm64"}, lambda one: one.architecture == "arm64"),
        ({"max_usd_per_hour": 0.1}, lambda one: one.usd_per_hour <= 0.1),
        ({"burstable": True}, lambda one: one.burstable),
        ({"name": "m5.*"}, lambda one: one.name.startswith("m5.")),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
async def test_types_are_filtered(tmp_path: Path, asked: dict[str, Any], fits: Callable[[Any], bool]) -> None:
    async with cloud_on(tmp_path) as cloud:
        everything = [one for page in (await _types(cloud), await _types(cloud, second=True)) for one in page]
        found = await _types(cloud, **asked)
        assert [one.name for one in found] == [one.name for one in everything if fits(one)]
        assert 0 < len(found) < len(everything)


async def _types(cloud: Cloud, second: bool = False, **asked: Any) -> list[Any]:
    page = await cloud.types.List(catalog_pb2.ListTypesRequest(page_size=1000, **asked))
    if second:
        again = catalog_pb2.ListTypesRequest(page_size=1000, page_token=page.next_page_token, **asked)
        page = await cloud.types.List(again)
    return list(page.types)


async def test_authentication_walls_accounts_off(tmp_path: Path) -> None:
    async with cloud_on(tmp_path, auth=True) as cloud, cloud.host():
        async with refused(Unauthenticated):
            await cloud.launch()
        admin = (tmp_path / "admin.json").read_text()
        assert (tmp_path / "admin.json").stat().st_mode & 0o777 == 0o600
        import json

        keys = json.loads(admin)
        mine = (("authorization", f"Bearer {keys['access_key_id']}:{keys['secret_access_key']}"),)
        request = instance_pb2.LaunchRequest(image_id="base", instance_type="t3.nano", max_count=1)
        made = (await cloud.instances.Launch(request, metadata=mine)).instances[0]
        from minicloud.base.arn import Caller
        from minicloud.cloud import IDENTITY_SLICE
        from minicloud.identity.commands import CreateAccessKey
        from minicloud.shell.union import To

        boss = Caller(Scope(), admin=True)
        await cloud.plane.shell.submit(To(IDENTITY_SLICE, CreateAccount(boss, "111111111111", "other")))
        other = await cloud.plane.shell.submit(To(IDENTITY_SLICE, CreateAccessKey(boss, "111111111111", False)))
        theirs = (("authorization", f"Bearer {other.key.id}:{other.secret}"),)
        texts = []
        for target in (made.id, "i-" + "0" * 17):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await cloud.instances.Get(instance_pb2.GetInstanceRequest(instance_id=target), metadata=theirs)
            assert isinstance(from_rpc_error(caught.value), NotFound)
            texts.append((caught.value.details() or "").replace(target, "ID"))
        assert texts[0] == texts[1]
        async with refused(Unauthenticated):
            await cloud.hosts.List(
                host_pb2.ListHostsRequest(), metadata=(("authorization", f"Bearer {other.key.id}:wrong"),)
            )


async def test_a_host_with_a_wrong_token_is_not_let_in(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud:
        async with refused(Unauthenticated):
            await FakeHost(cloud.address, b"x" * 32).knock()
        assert not (await cloud.hosts.List(host_pb2.ListHostsRequest())).hosts


async def test_reboot_and_options_reach_the_host(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (made,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(made.id, "running"), 60)
        async with refused(IncorrectState):
            host.deaf = True
            (stuck,) = await cloud.launch()
            await cloud.instances.Reboot(instance_pb2.InstanceIdsRequest(instance_ids=[stuck.id]))
        await cloud.instances.Reboot(instance_pb2.InstanceIdsRequest(instance_ids=[made.id]))
        (order,) = await host.ordered("reboot")
        assert order.reboot.instance_id == made.id
        await cloud.instances.Modify(
            instance_pb2.ModifyInstanceRequest(instance_id=made.id, metadata_options={"http_tokens": "required"})
        )
        (order,) = await host.ordered("update")
        assert order.update.metadata_options.http_tokens == "required"


async def test_many_launches_at_once_never_oversell(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        rand = random.Random(3)

        async def one() -> int:
            try:
                return len(await cloud.launch(rand.randint(1, 4), instance_type="t3.medium"))
            except grpc.aio.AioRpcError as error:
                assert isinstance(from_rpc_error(error), InsufficientCapacity)
                return 0

        made = sum(await asyncio.gather(*[one() for _ in range(12)]))
        assert made <= 4  # 16 GiB hold four of 4 GiB
        host = (await cloud.hosts.List(host_pb2.ListHostsRequest())).hosts[0]
        assert host.used.memory_mib == made * 4096 <= host.sellable.memory_mib
