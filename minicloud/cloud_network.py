"""The default network for a balancer's AWS door: the zones that hosts have, as the control plane says."""

from __future__ import annotations

from minicloud.base.arn import Scope
from minicloud.base.errors import Unavailable
from minicloud.cloud_calls import Calls
from minicloud.compute import vpc
from minicloud.wire import host_pb2

PAGE = 500


async def host_zones(calls: Calls, scope: Scope) -> list[str]:
    """Of every host, sorted."""
    zones: set[str] = set()
    request = host_pb2.ListHostsRequest(page_size=PAGE)
    while True:
        page = await calls.control(scope, "HostService/List", request, host_pb2.ListHostsResponse)
        zones |= {host.zone for host in page.hosts}
        if not page.next_page_token:
            return sorted(zones)
        request = host_pb2.ListHostsRequest(page_size=PAGE, page_token=page.next_page_token)


class DefaultNetwork:
    """Implements balancer.aws.base.Network."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._zones: list[str] = []

    async def subnets(self, scope: Scope) -> dict[str, str]:
        """With the control plane away, as it said last."""
        try:
            self._zones = await host_zones(self._calls, scope)
        except Unavailable:
            if not self._zones:
                raise
        return {name: vpc.subnet_id(scope, name) for name in vpc.zones_of(self._zones, scope.region)}

    def vpc(self, scope: Scope) -> str:
        return vpc.vpc_id(scope)

    def security_group(self, scope: Scope) -> str:
        return vpc.default_group_id(scope)
