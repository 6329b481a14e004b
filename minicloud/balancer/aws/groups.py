"""Target groups and targets by elbv2's wire."""

from __future__ import annotations

from minicloud.aws.call import Call, harmless, only
from minicloud.balancer import commands, errors, groups, targets
from minicloud.balancer.aws.base import DUALSTACK, Noun, Params, Result, named, to_tags
from minicloud.balancer.aws.shapes import HEALTH_PARTS, checked_port, shown_health, to_health, to_targets
from minicloud.balancer.balancers import find as find_balancer
from minicloud.balancer.model import ADDRESS, FUNCTION, INSTANCE, Group, Target
from minicloud.balancer.state import State

_ARN = "TargetGroupArn"


class GroupDoor(Noun):
    async def CreateTargetGroup(self, params: Params, call: Call) -> Result:
        parts = ("Name", "Protocol", "ProtocolVersion", "Port", "VpcId", "TargetType", "Tags", "IpAddressType")
        only(params, call, *parts, *HEALTH_PARTS)
        scope = call.caller.scope
        harmless(params, call, {"IpAddressType": DUALSTACK, "VpcId": self._network.vpc(scope)})
        version, target_type = params.get("ProtocolVersion", ""), params.get("TargetType", INSTANCE)
        if target_type == FUNCTION and "VpcId" in params:
            text = f"VPC ID cannot be specified for target groups with target type '{FUNCTION}'"
            raise errors.invalid(text, "VpcId")
        command = commands.CreateGroup(
            scope=scope,
            name=params["Name"],
            protocol=params.get("Protocol", ""),
            port=params.get("Port", 0),
            version=version,
            target_type=target_type,
            health=to_health(params, version),
            tags=to_tags(params.get("Tags", ())),
        )
        return {"TargetGroups": [self._group(await self._service.submit(command))]}

    async def DescribeTargetGroups(self, params: Params, call: Call) -> Result:
        only(params, call, "LoadBalancerArn", "TargetGroupArns", "Names", "Marker", "PageSize")
        scope = call.caller.scope
        if sum(name in params for name in ("LoadBalancerArn", "TargetGroupArns", "Names")) > 1:
            text = "Load balancer ARN, target group ARNs and names cannot be specified at the same time"
            raise errors.invalid(text, "TargetGroupArns")

        def look(state: State) -> Result:
            if "LoadBalancerArn" in params:
                owner = find_balancer(state, scope, params["LoadBalancerArn"])
                arns = [one.arn for one in state.groups_of(owner.arn)]
            else:
                arns = named(state, Group.kind, params, "TargetGroupArns", errors.no_group(), scope)
            some, marker = self._page(params, call, {arn: state.groups[arn] for arn in arns})
            return {"TargetGroups": [self._group(one) for one in some], **marker}

        return await self._shown(look)

    async def ModifyTargetGroup(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, *HEALTH_PARTS)
        scope = call.caller.scope
        before = await self._shown(lambda state: groups.find(state, scope, params[_ARN]))
        command = commands.ModifyGroup(scope, before.arn, to_health(params, before.version))
        return {"TargetGroups": [self._group(await self._service.served(command))]}

    async def DeleteTargetGroup(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN)
        await self._service.submit(commands.DeleteGroup(call.caller.scope, params[_ARN]))
        return {}

    def _group(self, one: Group) -> Result:
        shown: Result = {
            "TargetGroupArn": one.arn,
            "TargetGroupName": one.name,
            **shown_health(one.health, one.version),
            "LoadBalancerArns": [one.balancer] if one.balancer else [],
            "TargetType": one.target_type,
            "IpAddressType": DUALSTACK,
        }
        if not one.has_function:
            shown |= {"Protocol": one.protocol, "Port": one.port, "VpcId": self._network.vpc(one.scope)}
        if one.version:
            shown["ProtocolVersion"] = one.version
        return shown

    # --- targets

    async def RegisterTargets(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Targets")
        specs = to_targets(params["Targets"], call)
        await self._service.served(commands.RegisterTargets(call.caller.scope, params[_ARN], specs))
        return {}

    async def DeregisterTargets(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Targets")
        specs = to_targets(params["Targets"], call)
        await self._service.served(commands.DeregisterTargets(call.caller.scope, params[_ARN], specs))
        return {}

    async def DescribeTargetHealth(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Targets")
        wanted = to_targets(params.get("Targets", ()), call)

        def look(state: State) -> Result:
            group = groups.find(state, call.caller.scope, params[_ARN])
            found = targets.described(state, group, wanted)
            return {"TargetHealthDescriptions": [_target(group, one) for one in found]}

        return await self._shown(look)


def _target(group: Group, one: Target) -> Result:
    health: Result = {"State": one.state}
    if one.reason:
        health |= {"Reason": one.reason, "Description": one.description}
    if group.has_function:
        return {"Target": {"Id": one.id, "AvailabilityZone": "all"}, "TargetHealth": health}
    where: Result = {"Id": one.id, "Port": one.port}
    if group.target_type == ADDRESS and one.zone:
        where["AvailabilityZone"] = one.zone
    return {"Target": where, "HealthCheckPort": checked_port(one.port, group.health), "TargetHealth": health}
