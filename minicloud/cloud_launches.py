"""Instances of auto scaling groups: scaling.ports.InstanceLauncher and InstanceCatalog over the control plane.

A launch carries the member's token, so asking again is harmless; so is asking for an end again. What the control plane
refuses is a definite no; what it does not answer leaves the outcome open (the class of the error says which).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound, OperationNotPermitted, Unavailable
from minicloud.cloud_calls import Calls
from minicloud.cloud_network import host_zones
from minicloud.compute import vpc
from minicloud.scaling.aws.base import Zone
from minicloud.scaling.commands import Found
from minicloud.scaling.orders import Launch
from minicloud.scaling.ports import Answer, FoundTemplate
from minicloud.wire import catalog_pb2, common_pb2, instance_pb2

GROUP_TAG = "aws:autoscaling:groupName"  # EC2 Auto Scaling User Guide, "Tag Auto Scaling groups and instances"
TEMPLATE_TAG, VERSION_TAG = "aws:ec2launchtemplate:id", "aws:ec2launchtemplate:version"
PAGE = 1_000


class Launches:
    """`scope_of`: whose a member's instance is. Raises NotFound."""

    def __init__(self, calls: Calls, scope_of: Callable[[str], Scope]) -> None:
        self._calls = calls
        self._scope_of = scope_of
        self._zones: list[str] = []

    # --- InstanceLauncher

    async def launch(self, order: Launch) -> Answer:
        account, region, name = order.group.split("/", 2)
        request = instance_pb2.LaunchRequest(
            max_count=1,
            client_token=order.token,
            instance_type=order.type,
            launch_template=instance_pb2.LaunchTemplateRef(id=order.template, version=order.version),
            placement=instance_pb2.Placement(zone=order.zone),
            tags={**order.tags, GROUP_TAG: name},
        )
        scope = Scope(account, region)
        made = await self._calls.control(scope, "InstanceService/Launch", request, instance_pb2.LaunchResponse)
        if not made.instances:
            raise NotFound("The instance that was launched is gone already.", code="InvalidInstanceID.NotFound")
        one = made.instances[0]
        return Answer(one.id, one.zone, one.tags.get(VERSION_TAG, ""), one.type)

    async def terminate(self, instance_id: str, scope: Scope | None = None) -> None:
        """Its own protection from termination does not keep an instance in a group: that of the group does."""
        scope = scope or self._scope_of(instance_id)
        try:
            await self._change("Terminate", instance_id, scope)
        except OperationNotPermitted:
            request = instance_pb2.ModifyInstanceRequest(instance_id=instance_id, termination_protection=False)
            await self._calls.control(scope, "InstanceService/Modify", request, instance_pb2.Instance)
            await self._change("Terminate", instance_id, scope)

    async def start(self, instance_id: str) -> None:
        await self._change("Start", instance_id, self._scope_of(instance_id))

    async def stop(self, instance_id: str) -> None:
        request = instance_pb2.StopInstancesRequest(instance_ids=[instance_id])
        scope = self._scope_of(instance_id)
        await self._calls.control(scope, "InstanceService/Stop", request, instance_pb2.StateChanges)

    async def claim(self, instance_id: str, group: str) -> None:
        """It carries the name of its group from now on."""
        request = instance_pb2.TagRequest(resource_id=instance_id, tags={GROUP_TAG: group})
        scope = self._scope_of(instance_id)
        await self._calls.control(scope, "InstanceService/Tag", request, instance_pb2.TagResponse)

    async def release(self, instance_id: str) -> None:
        """It goes on without the group. Raises NotFound."""
        request = instance_pb2.UntagRequest(resource_id=instance_id, keys=[GROUP_TAG])
        scope = self._scope_of(instance_id)
        await self._calls.control(scope, "InstanceService/Untag", request, instance_pb2.TagResponse)

    async def _change(self, verb: str, instance_id: str, scope: Scope) -> None:
        request = instance_pb2.InstanceIdsRequest(instance_ids=[instance_id])
        await self._calls.control(scope, f"InstanceService/{verb}", request, instance_pb2.StateChanges)

    # --- InstanceCatalog

    async def template(self, scope: Scope, reference: str, version: str) -> FoundTemplate:
        request = catalog_pb2.GetLaunchTemplateRequest(template=reference, version=version)
        reply = catalog_pb2.LaunchTemplateVersion
        found = await self._calls.control(scope, "LaunchTemplateService/Get", request, reply)
        return FoundTemplate(found.template.id, str(found.version), found.template.name)

    async def zones(self, scope: Scope) -> list[str]:
        return await host_zones(self._calls, scope)

    async def shown_zones(self, scope: Scope) -> dict[str, Zone]:
        """As the scope's region calls them (scaling.aws.base.Places); with the control plane away, as it said last."""
        try:
            self._zones = await self.zones(scope)
        except Unavailable:
            if not self._zones:
                raise
        names = vpc.zones_of(self._zones, scope.region)
        return {name: Zone(real, vpc.subnet_id(scope, name)) for name, real in names.items()}

    async def check_types(self, scope: Scope, types: Sequence[str]) -> None:
        for name in types:
            request = catalog_pb2.GetTypeRequest(name=name)
            await self._calls.control(scope, "TypeService/Get", request, catalog_pb2.InstanceType)

    async def instances(self, scope: Scope, ids: Sequence[str]) -> list[Found]:
        request = instance_pb2.ListInstancesRequest(instance_ids=ids, page_size=PAGE)
        reply = instance_pb2.ListInstancesResponse
        found = await self._calls.control(scope, "InstanceService/List", request, reply)
        return [_found(one) for one in found.instances]

    # --- the sweep

    async def of_groups(self, scope: Scope) -> AsyncIterator[tuple[str, str]]:
        """(instance, group) of every instance that carries the name of one and has not ended."""
        tagged = common_pb2.Filter(name="tag-key", values=[GROUP_TAG])
        alive = common_pb2.Filter(name="instance-state-name", values=["pending", "running", "stopping", "stopped"])
        token, reply = "", instance_pb2.ListInstancesResponse
        while True:
            request = instance_pb2.ListInstancesRequest(filters=[tagged, alive], page_size=PAGE, page_token=token)
            page = await self._calls.control(scope, "InstanceService/List", request, reply)
            for one in page.instances:
                yield one.id, one.tags[GROUP_TAG]
            token = page.next_page_token
            if not token:
                return


def _found(one: instance_pb2.Instance) -> Found:
    tags = one.tags
    return Found(one.id, one.zone, one.state, one.type, tags.get(TEMPLATE_TAG, ""), tags.get(VERSION_TAG, ""))
