"""Images and their tars stay together: through crashes, callers that leave, and full disks."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.errors import InsufficientStorage, LimitExceeded, NotFound
from minicloud.base.limits import IMAGE_BYTES_MAX
from minicloud.wire import catalog_pb2, fleet_pb2
from tests.contract.test_control_plane import cloud_on, refused


def parts(name: str) -> list[catalog_pb2.RegisterImageRequest]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("etc/motd"))
    header = catalog_pb2.RegisterImageHeader(name=name)
    chunk = buffer.getvalue()
    return [catalog_pb2.RegisterImageRequest(header=header), catalog_pb2.RegisterImageRequest(chunk=chunk)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "images").iterdir())


async def test_a_start_deletes_what_no_record_knows(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        image = await cloud.images.Register(iter(parts("mine")))
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        host.deaf = True
        making = await cloud.images.Create(catalog_pb2.CreateImageRequest(instance_id=one.id, name="making"))
        await host.ordered("snapshot")
    for name in ("ami-11111111111111111.tar", "ami-22222222222222222.packing", f"{making.id}.packing"):
        (tmp_path / "images" / name).write_bytes(b"x")
    async with cloud_on(tmp_path):
        assert files(tmp_path) == sorted([f"{image.id}.tar", f"{making.id}.packing"])


async def test_an_image_is_watched_until_it_is_deregistered(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        (one,) = await cloud.launch()
        await asyncio.wait_for(cloud.until(one.id, "running"), 60)
        host.deaf = True
        image = await cloud.images.Create(catalog_pb2.CreateImageRequest(instance_id=one.id, name="mine"))
        request = catalog_pb2.GetImageRequest(image_id=image.id)
        watch = cloud.images.Watch(request, timeout=20)
        assert (await watch.read()).state == "pending"
        (order,) = await host.ordered("snapshot")
        result = fleet_pb2.OrderResult(order_id=order.order_id, ok=True, size_bytes=7)
        await host.say(fleet_pb2.HostReport(result=result))
        done = await watch.read()
        assert (done.state, done.size_bytes) == ("available", 7)
        await cloud.images.Deregister(request)
        async with refused(NotFound):
            await watch.read()
        async with refused(NotFound):
            await cloud.images.Watch(request, timeout=20).read()


async def test_a_caller_that_leaves_while_its_image_is_recorded_takes_no_tar_along(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        entered, go_on, real = asyncio.Event(), asyncio.Event(), cloud.plane.journal.commit

        async def slow(records: Any) -> None:
            entered.set()
            await go_on.wait()
            await real(records)

        cloud.plane.journal.commit = slow  # type: ignore[method-assign]
        call = cloud.images.Register(iter(parts("mine")))
        waiting = asyncio.ensure_future(_read(call))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await cloud.types.Get(catalog_pb2.GetTypeRequest(name="t3.micro"))  # the server has seen the cancellation too
        go_on.set()
        await cloud.plane.shell.barrier()
        listed = await cloud.images.List(catalog_pb2.ListImagesRequest())
        assert [f"{image.id}.tar" for image in listed.images] == files(tmp_path) and len(listed.images) == 1


async def _read(call: Any) -> Any:
    return await call


async def test_an_image_that_cannot_be_recorded_leaves_no_tar(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():

        async def full(records: Any) -> None:
            raise InsufficientStorage()

        cloud.plane.journal.commit = full  # type: ignore[method-assign]
        async with refused(InsufficientStorage):
            await cloud.images.Register(iter(parts("mine")))
        assert files(tmp_path) == []


async def test_an_image_that_would_unpack_to_more_than_an_image_may_be_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        hole = tarfile.TarInfo("bomb")
        hole.size = IMAGE_BYTES_MAX + 1
        archive.fileobj.write(hole.tobuf())  # type: ignore[union-attr]  # its data would take long to make
    header = catalog_pb2.RegisterImageHeader(name="bomb")
    request = [
        catalog_pb2.RegisterImageRequest(header=header),
        catalog_pb2.RegisterImageRequest(chunk=buffer.getvalue()),
    ]
    async with cloud_on(tmp_path) as cloud:
        async with refused(LimitExceeded, "chunk"):
            await cloud.images.Register(iter(request))
        assert files(tmp_path) == []
