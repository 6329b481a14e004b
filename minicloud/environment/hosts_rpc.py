"""FunctionHostService (protos/minicloud/wire/fleet.proto): function hosts of other nodes come and go by their streams.

A host that says nothing for SILENT_S is gone: it beats every second. Its caller is the host's id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from minicloud.base.errors import MissingParameter, NotFound, Unauthenticated
from minicloud.base.limits import STREAM_CHUNK_BYTES_MAX
from minicloud.environment.far import FarHost
from minicloud.environment.host import FunctionHost
from minicloud.environment.limits import SILENT_S
from minicloud.environment.outbox import Outbox
from minicloud.environment.sites import Site, SiteNow
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.environment")

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["FunctionHostService"]


class FunctionHostServicer:
    """For `rpc.door.door(FunctionHostServicer(...), DESCRIPTOR, entry)`. `package`: where a zip is, by its SHA-256."""

    def __init__(self, host: FunctionHost, package: Callable[[str], str]) -> None:
        self._host = host
        self._package = package

    async def Attach(
        self, requests: AsyncIterator[wire.FunctionHostNews], caller: str
    ) -> AsyncIterator[wire.FunctionHostOrders]:
        hello = _hello(await anext(requests, None))
        if hello.host_id != caller:
            raise Unauthenticated("This function host's token is for another host.")
        outbox: Outbox[wire.EnvironmentOrder] = Outbox()
        far = FarHost(hello, self._host.owner, outbox.put)
        site = Site(far.name, far, (hello.memory_mib, hello.cores), lost=far.lost)
        self._host.attach(site)
        log.info("function host %s: %d MiB, %g cores", far.name, hello.memory_mib, hello.cores)
        reading = asyncio.create_task(_read(requests, far, outbox))
        try:
            async for orders in outbox.batches():
                yield wire.FunctionHostOrders(orders=orders)
        finally:
            log.info("function host %s is gone", far.name)
            outbox.close()
            self._host.detach(site)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def ListFunctionHosts(self, _request: wire.FunctionHostsAsked, _caller: str) -> wire.FunctionHosts:
        return wire.FunctionHosts(hosts=[_host_out(one) for one in self._host.hosts()])

    async def FetchPackage(self, request: wire.PackageAsked, _caller: str) -> AsyncIterator[wire.PackageBytes]:
        path = Path(self._package(request.sha256))
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise NotFound(f"there is no package {request.sha256[:64]}", field="sha256") from None
        with file:
            while chunk := await asyncio.to_thread(file.read, STREAM_CHUNK_BYTES_MAX):
                yield wire.PackageBytes(data=chunk)


def _host_out(one: SiteNow) -> wire.FunctionHostNow:
    return wire.FunctionHostNow(
        name=one.name,
        state=one.state,
        busy=one.environments.busy,
        warm=one.environments.idle,
        starting=one.environments.starting,
        memory_mib=one.memory_mib,
        promised_mib=one.promised_mib,
    )


def _hello(first: wire.FunctionHostNews | None) -> wire.FunctionHostHello:
    if first is None or not first.news or first.news[0].WhichOneof("news") != "hello":
        raise MissingParameter("the first news must be a hello", field="hello")
    return first.news[0].hello


async def _read(
    requests: AsyncIterator[wire.FunctionHostNews], far: FarHost, outbox: Outbox[wire.EnvironmentOrder]
) -> None:
    """Until the stream ends, or is silent; then it is closed, and nothing more is heard on it."""
    silence = _Silence(outbox.close)
    try:
        async for batch in requests:
            silence.broken()
            for news in batch.news:
                far.heard(news)
    except Exception:
        log.exception("function host %s", far.name)
        raise
    finally:
        silence.stop()
        outbox.close()


class _Silence:
    """Timers ring before what came meanwhile is read, so nobody is given up at the first look."""

    def __init__(self, ends: Callable[[], None]) -> None:
        self._ends = ends
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(SILENT_S, self._look, 0.0)

    def broken(self) -> None:
        self._heard = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self, looked: float) -> None:
        """`looked`: what was heard last when it was found silent before."""
        if looked == self._heard:
            self._ends()
        elif self._loop.time() - self._heard >= SILENT_S:
            self._timer = self._loop.call_later(SILENT_S / 10, self._look, self._heard)
        else:
            self._timer = self._loop.call_at(self._heard + SILENT_S, self._look, 0.0)
