"""The elbv2 door, whole: its nouns, and what goes across them: attributes, tags, limits."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.aws.lists import tag_list
from minicloud.balancer import attributes, balancers, commands, errors, groups, limits, listeners
from minicloud.balancer.aws.balancers import BalancerDoor
from minicloud.balancer.aws.base import Params, Result, shown_attributes, to_attributes, to_tags
from minicloud.balancer.aws.groups import GroupDoor
from minicloud.balancer.aws.listeners import ListenerDoor, RuleDoor
from minicloud.balancer.model import Balancer, Group, Listener
from minicloud.balancer.tagging import find_any

_MAXIMA = {
    "application-load-balancers": limits.BALANCERS_MAX,
    "network-load-balancers": limits.BALANCERS_MAX,
    "target-groups": limits.GROUPS_MAX,
    "listeners-per-application-load-balancer": limits.LISTENERS_MAX,
    "listeners-per-network-load-balancer": limits.LISTENERS_MAX,
    "rules-per-application-load-balancer": limits.RULES_MAX,
    "certificates-per-application-load-balancer": limits.CERTIFICATES_MAX,
    "targets-per-application-load-balancer": limits.TARGETS_MAX,
    "targets-per-network-load-balancer": limits.TARGETS_MAX,
    "condition-values-per-alb-rule": limits.CONDITION_VALUES_MAX,
    "condition-wildcards-per-alb-rule": limits.WILDCARDS_MAX,
    "target-groups-per-action-on-application-load-balancer": limits.ACTION_GROUPS_MAX,
}


class Elbv2(BalancerDoor, ListenerDoor, RuleDoor, GroupDoor):
    """Load balancers that carry traffic. DNS names end in `.elb.localhost`; clients that cannot resolve them use the
    address in AvailabilityZones. Certificates are imported by gRPC (`minicloud balancer certificate import`).
    """

    # --- attributes

    async def DescribeLoadBalancerAttributes(self, params: Params, call: Call) -> Result:
        only(params, call, "LoadBalancerArn")
        scope, arn = call.caller.scope, params["LoadBalancerArn"]
        return await self._shown(lambda state: _all(balancers.find(state, scope, arn)))

    async def ModifyLoadBalancerAttributes(self, params: Params, call: Call) -> Result:
        return await self._set(params, call, "LoadBalancerArn")

    async def DescribeTargetGroupAttributes(self, params: Params, call: Call) -> Result:
        only(params, call, "TargetGroupArn")
        scope, arn = call.caller.scope, params["TargetGroupArn"]
        return await self._shown(lambda state: _all(groups.find(state, scope, arn)))

    async def ModifyTargetGroupAttributes(self, params: Params, call: Call) -> Result:
        return await self._set(params, call, "TargetGroupArn")

    async def DescribeListenerAttributes(self, params: Params, call: Call) -> Result:
        only(params, call, "ListenerArn")
        scope, arn = call.caller.scope, params["ListenerArn"]
        return await self._shown(lambda state: _all(listeners.find(state, scope, arn)))

    async def ModifyListenerAttributes(self, params: Params, call: Call) -> Result:
        return await self._set(params, call, "ListenerArn")

    async def _set(self, params: Params, call: Call, arn: str) -> Result:
        only(params, call, arn, "Attributes")
        command = commands.SetAttributes(call.caller.scope, params[arn], to_attributes(params["Attributes"]))
        return {"Attributes": shown_attributes(await self._service.served(command))}

    # --- tags

    async def DescribeTags(self, params: Params, call: Call) -> Result:
        only(params, call, "ResourceArns")
        found = await self._shown(
            lambda state: [find_any(state, call.caller.scope, arn) for arn in params["ResourceArns"]]
        )
        return {"TagDescriptions": [{"ResourceArn": one.arn, "Tags": tag_list(one.tags)} for one in found]}

    async def AddTags(self, params: Params, call: Call) -> Result:
        only(params, call, "ResourceArns", "Tags")
        tags = to_tags(params["Tags"])
        for arn in await self._all_there(params, call):
            await self._service.submit(commands.SetTags(call.caller.scope, arn, tags))
        return {}

    async def RemoveTags(self, params: Params, call: Call) -> Result:
        only(params, call, "ResourceArns", "TagKeys")
        for arn in await self._all_there(params, call):
            await self._service.submit(commands.SetTags(call.caller.scope, arn, remove=tuple(params["TagKeys"])))
        return {}

    async def _all_there(self, params: Params, call: Call) -> list[str]:
        """Every resource is looked for before the first is changed."""
        arns = list(params["ResourceArns"])
        await self._shown(lambda state: [find_any(state, call.caller.scope, arn) for arn in arns])
        return arns

    # --- what there is of each

    async def DescribeAccountLimits(self, params: Params, call: Call) -> Result:
        only(params, call, "Marker", "PageSize")
        some, marker = self._page(params, call, _MAXIMA_SHOWN)
        return {"Limits": some, **marker}

    async def DescribeCapacityReservation(self, params: Params, call: Call) -> Result:
        """Answers InvalidAction: there are no capacity reservations."""
        raise errors.no_reservations()

    async def DescribeTrustStores(self, params: Params, call: Call) -> Result:
        """There are none."""
        only(params, call, "TrustStoreArns", "Names", "Marker", "PageSize")
        if params.get("TrustStoreArns") or params.get("Names"):
            raise errors.no_trust_store()
        return {"TrustStores": []}


def _all(entity: Balancer | Listener | Group) -> Result:
    return {"Attributes": shown_attributes(attributes.all_of(entity))}


_MAXIMA_SHOWN = {name: {"Name": name, "Max": str(most)} for name, most in _MAXIMA.items()}
