"""FleetService (protos/minicloud/wire/fleet.proto): the streams of host agents. Their caller is the host's id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.json_format import MessageToDict

from minicloud.base import limits
from minicloud.base.errors import MissingParameter, NotFound, Unauthenticated
from minicloud.compute import commands
from minicloud.compute.links import HostLink
from minicloud.compute.ports import ImageStore
from minicloud.compute.service import ComputeService
from minicloud.wire import fleet_pb2 as pb
from minicloud.wire import instance_pb2

log = logging.getLogger(__name__)

REPORTS_WAITING_MAX = 10_000  # ours: reports of one host that wait for the disk


class FleetServicer:
    def __init__(self, service: ComputeService, store: ImageStore, cloud_id: str, epoch: int) -> None:
        self._service = service
        self._store = store
        self._cloud_id = cloud_id
        self._epoch = epoch

    async def Sync(self, requests: AsyncIterator[pb.HostReport], caller: str) -> AsyncIterator[pb.HostOrder]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("report") != "hello":
            raise MissingParameter("the first report must be a hello", field="hello")
        if first.hello.host_id != caller:
            raise Unauthenticated("This host agent's token is for another host.")
        if self._service.is_dead(first.hello.ray_node_id):
            yield pb.HostOrder(order_id="fence", fence=pb.Fence(reason="the Ray node of this host is dead"))
            return
        link = await self._service.hello(host_seen(first.hello))
        reports: asyncio.Queue[pb.HostReport] = asyncio.Queue(REPORTS_WAITING_MAX)
        tasks = [
            asyncio.create_task(self._read(requests, link, reports)),
            asyncio.create_task(self._take(reports, link)),
        ]
        try:
            yield pb.HostOrder(order_id="welcome", welcome=pb.Welcome(cloud_id=self._cloud_id, epoch=self._epoch))
            async for order in link.orders():
                yield order
        finally:
            for task in tasks:
                task.cancel()
            self._service.stream_ended(link)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(
        self, requests: AsyncIterator[pb.HostReport], link: HostLink, reports: asyncio.Queue[pb.HostReport]
    ) -> None:
        """Beats at once: they are signs of life, also where the disk takes no reports. The end of the stream, or too
        many reports that wait, end the link; the next hello says all that was on it."""
        try:
            async for report in requests:
                kind = report.WhichOneof("report")
                if kind == "beat":
                    self._service.beat(link, report.beat)
                elif kind == "begun":
                    self._service.guest_begun(report.begun.instance_id, report.begun.generation)
                else:
                    reports.put_nowait(report)
        except asyncio.QueueFull:
            log.warning("host %s: %d reports wait for the disk", link.host_id, REPORTS_WAITING_MAX)
        finally:
            link.close()

    async def _take(self, reports: asyncio.Queue[pb.HostReport], link: HostLink) -> None:
        """Each report in its turn."""
        try:
            while True:
                report = await reports.get()
                kind = report.WhichOneof("report")
                if kind == "guest":
                    await self._service.guest_report(link, guest_seen(report.guest))
                elif kind == "result":
                    await self._service.order_result(link, report.result)
        except Exception:
            log.exception("a report of host %s", link.host_id)
            raise
        finally:
            link.close()

    async def FetchImage(self, request: pb.FetchImageRequest, caller: str) -> AsyncIterator[pb.ImageChunk]:
        path = self._store.path(request.image_id)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise NotFound(f"image {request.image_id} has no data here", field="image_id") from None
        with file:
            while chunk := await asyncio.to_thread(file.read, limits.STREAM_CHUNK_BYTES_MAX):
                yield pb.ImageChunk(data=chunk)

    async def StoreImage(self, requests: AsyncIterator[pb.ImageChunk], caller: str) -> pb.StoreImageResult:
        first = await anext(requests, None)
        if first is None or not first.image_id:
            raise MissingParameter("the first chunk must name the image", field="image_id")
        if first.image_id not in self._service.state.images:
            raise NotFound(f"image {first.image_id[:64]} is not being made", field="image_id")

        async def chunks() -> AsyncIterator[bytes]:
            yield first.data
            async for request in requests:
                yield request.data

        return pb.StoreImageResult(size_bytes=await self._store.store(first.image_id, chunks()))


def host_seen(hello: pb.HostHello) -> commands.HostSeen:
    return commands.HostSeen(
        id=hello.host_id,
        name=hello.name,
        zone=hello.zone,
        session=hello.ray_node_id,
        agent_address=hello.agent_address,
        arch=hello.architecture,
        cores=hello.capacity.vcpus,
        memory_mib=hello.capacity.memory_mib,
        gpus=hello.capacity.gpus,
        disk_gib=hello.capacity.disk_gib,
        overcommit_cpu=hello.overcommit_cpu,
        overcommit_memory=hello.overcommit_memory,
        overcommit_gpu=hello.overcommit_gpu,
        isolation=_isolation(hello.isolation),
        guests=tuple(guest_seen(guest) for guest in hello.guests),
    )


def guest_seen(report: pb.GuestReport) -> commands.GuestSeen:
    return commands.GuestSeen(
        instance_id=report.instance_id,
        generation=report.generation,
        state=report.state,
        private_ip=report.private_ip,
        reason_code=report.reason.code,
        reason_message=report.reason.message,
        exit_code=report.exit_code if report.HasField("exit_code") else None,
        isolation=_isolation(report.isolation) if report.HasField("isolation") else {},
        gpu_ids=tuple(report.gpu_ids),
        user_data_status=report.user_data_status,
        user_data_exit=report.user_data_exit,
    )


def _isolation(message: instance_pb2.Isolation) -> dict[str, Any]:
    body: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return body
