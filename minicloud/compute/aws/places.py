"""Regions, zones, and what an account is told about itself."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.base import limits
from minicloud.base.arn import REGION
from minicloud.base.errors import InvalidParameterValue
from minicloud.compute import vpc
from minicloud.compute.aws.base import Noun, Params, Result
from minicloud.compute.aws.filters import Fields

# The regions that every AWS account has without asking; any other name of their form is a region here too.
REGIONS = (
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
)
_REGION_FIELDS: Fields[str] = {
    "endpoint": lambda one: _endpoint(one),
    "opt-in-status": lambda one: "opt-in-not-required",
    "region-name": lambda one: one,
}


class PlaceDoor(Noun):
    async def DescribeRegions(self, params: Params, call: Call) -> Result:
        """The regions of every AWS account; any other name of their form is a region here too."""
        only(params, call, "RegionNames", "AllRegions", "Filters", "DryRun")
        wanted = params.get("RegionNames", ())
        for name in wanted:
            if not REGION.match(name):
                raise InvalidParameterValue(f"Invalid region: [{name[:64]}]", field="RegionNames")
        names = dict.fromkeys(wanted or [*REGIONS, call.caller.scope.region])
        some, _ = self._page(call, params, ((one, one) for one in names), _REGION_FIELDS)
        shown = [{"RegionName": one, "Endpoint": _endpoint(one), "OptInStatus": "opt-in-not-required"} for one in some]
        return await self._shown(params, lambda: {"Regions": shown})

    async def DescribeAvailabilityZones(self, params: Params, call: Call) -> Result:
        """The hosts' zones, under the region's name."""
        only(params, call, "ZoneNames", "ZoneIds", "AllAvailabilityZones", "Filters", "DryRun")
        return await self._shown(params, lambda: self._zones(params, call))

    def _zones(self, params: Params, call: Call) -> Result:
        region = call.caller.scope.region
        every = list(vpc.zones_of(self._state.zones(), region))
        ids = {vpc.zone_id(one): one for one in every}
        for name, known in (("ZoneNames", every), ("ZoneIds", ids)):
            for one in params.get(name, ()):
                if one not in known:
                    raise InvalidParameterValue(f"Invalid availability zone: [{one[:64]}]", field=name)
        wanted = {*params.get("ZoneNames", ()), *(ids[one] for one in params.get("ZoneIds", ()))}
        fields: Fields[str] = {
            "group-name": lambda one: region,
            "message": lambda one: "",
            "opt-in-status": lambda one: "opt-in-not-required",
            "region-name": lambda one: region,
            "state": lambda one: "available",
            "zone-id": vpc.zone_id,
            "zone-name": lambda one: one,
            "zone-type": lambda one: "availability-zone",
        }
        some, _ = self._page(call, params, ((one, one) for one in every if not wanted or one in wanted), fields)
        return {"AvailabilityZones": [_zone(one, region) for one in some]}

    async def DescribeAccountAttributes(self, params: Params, call: Call) -> Result:
        only(params, call, "AttributeNames", "DryRun")
        scope = call.caller.scope
        values = {
            "supported-platforms": "VPC",
            "default-vpc": vpc.vpc_id(scope),
            "max-instances": f"{self._ports.quotas.limit(scope.account, 'instances'):g}",
            "vpc-max-security-groups-per-interface": str(limits.SECURITY_GROUPS_PER_INSTANCE_MAX),
            "max-elastic-ips": "0",
            "vpc-max-elastic-ips": "0",
        }
        names = params.get("AttributeNames", values)
        for name in names:
            if name not in values:
                raise InvalidParameterValue(f"Value ({name[:64]}) for parameter attributeName is invalid.")
        shown = [{"AttributeName": one, "AttributeValues": [{"AttributeValue": values[one]}]} for one in names]
        return await self._shown(params, lambda: {"AccountAttributes": shown})


def _endpoint(region: str) -> str:
    return f"ec2.{region}.amazonaws.com"


def _zone(name: str, region: str) -> Result:
    return {
        "ZoneName": name,
        "ZoneId": vpc.zone_id(name),
        "RegionName": region,
        "State": "available",
        "OptInStatus": "opt-in-not-required",
        "GroupName": region,
        "NetworkBorderGroup": region,
        "ZoneType": "availability-zone",
        "Messages": [],
    }
