"""Load balancers by elbv2's wire."""

from __future__ import annotations

from collections.abc import Mapping

from minicloud.aws.call import Call, harmless, only, refused
from minicloud.balancer import commands, errors
from minicloud.balancer.aws.base import DUALSTACK, Noun, Params, Result, named, to_tags
from minicloud.balancer.balancers import SCHEMES, find
from minicloud.balancer.model import APPLICATION, Balancer
from minicloud.balancer.state import State
from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound

_ARN = "LoadBalancerArn"


class BalancerDoor(Noun):
    async def CreateLoadBalancer(self, params: Params, call: Call) -> Result:
        """Active at once. Its listeners have an address of its own, LoadBalancerAddresses of its zones."""
        more = ("Subnets", "SubnetMappings", "SecurityGroups", "Scheme", "Tags", "Type", "IpAddressType")
        only(params, call, "Name", *more)
        harmless(params, call, {"IpAddressType": DUALSTACK, "EnablePrefixForIpv6SourceNat": "off"})
        scope, kind = call.caller.scope, params.get("Type", APPLICATION)
        self._check_groups(params, call, scope)
        subnets = await self._network.subnets(scope)
        command = commands.CreateBalancer(
            scope,
            params["Name"],
            kind,
            params.get("Scheme", SCHEMES[0]),
            _zones(params, call, subnets),
            to_tags(params.get("Tags", ())),
        )
        made = await self._service.submit(command)
        return {"LoadBalancers": [self._balancer(made, subnets)]}

    async def DescribeLoadBalancers(self, params: Params, call: Call) -> Result:
        only(params, call, "LoadBalancerArns", "Names", "Marker", "PageSize")
        scope = call.caller.scope
        subnets = await self._network.subnets(scope)

        def look(state: State) -> Result:
            arns = named(state, Balancer.kind, params, "LoadBalancerArns", errors.no_balancer(), scope)
            some, marker = self._page(params, call, {arn: state.balancers[arn] for arn in arns})
            return {"LoadBalancers": [self._balancer(one, subnets) for one in some], **marker}

        return await self._shown(look)

    async def DeleteLoadBalancer(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN)
        await self._service.served(commands.DeleteBalancer(call.caller.scope, params[_ARN]))
        return {}

    async def SetSecurityGroups(self, params: Params, call: Call) -> Result:
        """A load balancer has the default security group, and no other."""
        only(params, call, _ARN, "SecurityGroups")
        scope = call.caller.scope
        await self._shown(lambda state: find(state, scope, params[_ARN]))
        self._check_groups(params, call, scope)
        return {"SecurityGroupIds": params["SecurityGroups"]}

    async def SetIpAddressType(self, params: Params, call: Call) -> Result:
        """IPv4 is the one type."""
        only(params, call, _ARN, "IpAddressType")
        await self._shown(lambda state: find(state, call.caller.scope, params[_ARN]))
        harmless(params, call, {"IpAddressType": DUALSTACK})
        return {"IpAddressType": DUALSTACK}

    async def SetSubnets(self, params: Params, call: Call) -> Result:
        """The subnets that it has; others are refused: a load balancer's zones are chosen when it is made."""
        only(params, call, _ARN, "Subnets", "SubnetMappings", "IpAddressType")
        harmless(params, call, {"IpAddressType": DUALSTACK})
        scope = call.caller.scope
        one = await self._shown(lambda state: find(state, scope, params[_ARN]))
        subnets = await self._network.subnets(scope)
        if set(_zones(params, call, subnets)) != set(one.zones or subnets):
            raise refused("Subnets", call, "The zones of a load balancer are chosen when it is made.")
        return {"AvailabilityZones": _shown_zones(one, subnets), "IpAddressType": DUALSTACK}

    def _check_groups(self, params: Params, call: Call, scope: Scope) -> None:
        default = self._network.security_group(scope)
        if any(group != default for group in params.get("SecurityGroups", ())):
            raise refused("SecurityGroups", call, f"Load balancers have the default group {default} alone.")

    def _balancer(self, one: Balancer, subnets: Mapping[str, str]) -> Result:
        scope = one.scope
        shown: Result = {
            "LoadBalancerArn": one.arn,
            "DNSName": one.dns_name,
            "CanonicalHostedZoneId": "ZMINICLOUD",
            "CreatedTime": one.created,
            "LoadBalancerName": one.name,
            "Scheme": one.scheme,
            "VpcId": self._network.vpc(scope),
            "State": {"Code": "active"},
            "Type": one.type,
            "AvailabilityZones": _shown_zones(one, subnets),
            "IpAddressType": DUALSTACK,
        }
        if one.type == APPLICATION:
            shown["SecurityGroups"] = [self._network.security_group(scope)]
        return shown


def _shown_zones(one: Balancer, subnets: Mapping[str, str]) -> list[Result]:
    where = [{"IpAddress": one.address}]
    return [
        {"ZoneName": zone, "SubnetId": subnets[zone], "LoadBalancerAddresses": where}
        for zone in one.zones or subnets
        if zone in subnets
    ]


def _zones(params: Params, call: Call, subnets: Mapping[str, str]) -> tuple[str, ...]:
    """Of the subnets that were given. Raises SubnetNotFound."""
    given = list(params.get("Subnets", ()))
    for one in params.get("SubnetMappings", ()):
        for name in one:
            if name != "SubnetId":
                raise refused(f"SubnetMappings.{name}", call)
        given.append(one.get("SubnetId", ""))
    zones = {subnet: zone for zone, subnet in subnets.items()}
    for subnet in given:
        if subnet not in zones:
            raise NotFound(f"The subnet ID '{subnet[:64]}' does not exist", code="SubnetNotFound", field="Subnets")
    return tuple(zones[subnet] for subnet in given)
