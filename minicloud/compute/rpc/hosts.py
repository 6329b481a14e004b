"""HostService and TypeService (protos/minicloud/wire/host.proto, catalog.proto)."""

from __future__ import annotations

from minicloud.base.arn import Caller
from minicloud.base.errors import AccessDenied
from minicloud.compute import commands
from minicloud.compute.catalog import Catalog, InstanceType, TypeFilter
from minicloud.compute.errors import host_not_found
from minicloud.compute.model import Host
from minicloud.compute.placement import PlacementRequest, Rejection, place
from minicloud.compute.queries import Page, Pager
from minicloud.compute.rpc import translate
from minicloud.compute.service import ComputeService
from minicloud.wire import catalog_pb2, host_pb2


class HostServicer:
    """Hosts are the operator's: everybody may look, administrators may cordon and drain."""

    def __init__(self, service: ComputeService, pager: Pager) -> None:
        self._service = service
        self._state = service.state
        self._pager = pager

    async def Get(self, request: host_pb2.GetHostRequest, caller: Caller) -> host_pb2.Host:
        return await self._service.shown(lambda: self._message(self._find(request.host_id)))

    def _find(self, host_id: str) -> Host:
        host = self._state.host_named(host_id)
        if host is None:
            raise host_not_found(host_id)
        return host

    async def List(self, request: host_pb2.ListHostsRequest, caller: Caller) -> host_pb2.ListHostsResponse:
        return await self._service.shown(lambda: self._list(request))

    def _list(self, request: host_pb2.ListHostsRequest) -> host_pb2.ListHostsResponse:
        by_name = {host.name: host for host in self._state.hosts.values()}
        page = Page(request.page_size, request.page_token)
        names, token = self._pager.cut("hosts", page, sorted(by_name))
        return host_pb2.ListHostsResponse(hosts=[self._message(by_name[name]) for name in names], next_page_token=token)

    async def Cordon(self, request: host_pb2.GetHostRequest, caller: Caller) -> host_pb2.Host:
        return await self._cordon(commands.CordonHost(request.host_id, cordoned=True), caller)

    async def Uncordon(self, request: host_pb2.GetHostRequest, caller: Caller) -> host_pb2.Host:
        return await self._cordon(commands.CordonHost(request.host_id, cordoned=False), caller)

    async def Drain(self, request: host_pb2.GetHostRequest, caller: Caller) -> host_pb2.Host:
        return await self._cordon(commands.CordonHost(request.host_id, cordoned=True, drain=True), caller)

    async def _cordon(self, command: commands.CordonHost, caller: Caller) -> host_pb2.Host:
        if not caller.admin:
            raise AccessDenied("Only administrators may cordon and drain hosts.")
        return self._message(await self._service.submit(command))

    def _message(self, host: Host) -> host_pb2.Host:
        return translate.host(self._state, host, self._service.links.get(host.id))


class TypeServicer:
    def __init__(self, service: ComputeService, pager: Pager) -> None:
        self._state = service.state
        self._pager = pager

    async def Get(self, request: catalog_pb2.GetTypeRequest, caller: Caller) -> catalog_pb2.InstanceType:
        return translate.instance_type(Catalog.load().described(request.name))

    async def List(self, request: catalog_pb2.ListTypesRequest, caller: Caller) -> catalog_pb2.ListTypesResponse:
        found = {one.name: one for one in Catalog.load().find(type_filter(request))}
        if request.fits_now:
            found = {name: one for name, one in found.items() if self._fits(one)}
        page = Page(request.page_size, request.page_token)
        context = f"types {type_filter(request)} {request.fits_now}"
        names, token = self._pager.cut(context, page, sorted(found))
        return catalog_pb2.ListTypesResponse(
            types=[translate.instance_type(found[name]) for name in names], next_page_token=token
        )

    def _fits(self, one: InstanceType) -> bool:
        request = PlacementRequest(label=one.name, shape=one.shape, arch=one.arch)
        return not isinstance(place(self._state.fleet, request), Rejection)


def type_filter(request: catalog_pb2.ListTypesRequest) -> TypeFilter:
    """Zero means no bound, as the proto says."""
    return TypeFilter(
        family=request.family or None,
        vcpus_min=request.min_vcpus or None,
        vcpus_max=request.max_vcpus or None,
        memory_mib_min=request.min_memory_mib or None,
        memory_mib_max=request.max_memory_mib or None,
        gpus_min=request.min_gpus or None,
        gpus_max=request.max_gpus or None,
        arch=request.architecture or None,
        usd_per_hour_max=request.max_usd_per_hour or None,
        name=request.name or None,
        burstable=request.burstable if request.HasField("burstable") else None,
        current_generation=request.current_generation if request.HasField("current_generation") else None,
    )
