"""The default network, described: VPC, subnets, interfaces, route table, gateway, ACL. Nothing of it can be changed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from minicloud.aws.call import Call, only
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue, NotFound
from minicloud.compute import security, vpc
from minicloud.compute.aws import shown
from minicloud.compute.aws.base import Noun, Params, Result
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.model import Instance

_LIST = ("Filters", "NextToken", "MaxResults", "DryRun")
_NO_TAGS: dict[str, str] = {}


class NetworkDoor(Noun):
    async def DescribeVpcs(self, params: Params, call: Call) -> Result:
        """The default VPC alone."""
        only(params, call, "VpcIds", *_LIST)
        return await self._shown(params, lambda: self._one(params, call, "VpcIds", "Vpcs", _vpc(call.caller.scope)))

    def _one(self, params: Params, call: Call, ids: str, result: str, item: Result) -> Result:
        """A describe of what there is one of. Its filters: members of the answer by EC2's names for them."""
        fields = _SINGLE[result]
        key = str(item[fields.id])
        for wanted in params.get(ids, ()):
            if wanted != key:
                raise NotFound(f"The {fields.noun} ID '{wanted[:64]}' does not exist", code=f"{fields.code}.NotFound")
        some, page = self._page(call, params, [(key, item)], fields.filters)
        return {**page, result: some}

    async def DescribeVpcAttribute(self, params: Params, call: Call) -> Result:
        only(params, call, "VpcId", "Attribute", "DryRun")
        vpc.check_vpc(call.caller.scope, params["VpcId"])
        name = params["Attribute"]
        values = {"enableDnsSupport": True, "enableDnsHostnames": True, "enableNetworkAddressUsageMetrics": False}
        if name not in values:
            raise InvalidParameterValue(f"Value ({name[:64]}) for parameter attribute is invalid.", field="Attribute")
        answer = {"VpcId": params["VpcId"], name[0].upper() + name[1:]: {"Value": values[name]}}
        return await self._shown(params, lambda: answer)

    async def DescribeSubnets(self, params: Params, call: Call) -> Result:
        """One for each zone that has hosts; each shows the whole block that guests get their addresses from."""
        only(params, call, "SubnetIds", *_LIST)
        return await self._shown(params, lambda: self._subnets(params, call))

    def _subnets(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        every = (self._state.instances[key] for key in self._state.page(Instance.kind, scope))
        used = Counter(shown.zone(one) for one in every if shown.has_network(one))
        zones = vpc.zones_of(self._state.zones(), scope.region)
        wanted = {vpc.zone_of_subnet(one, self._state.zones(), scope) for one in params.get("SubnetIds", ())}
        items = [_subnet(scope, one, used[one]) for one in zones if not wanted or one in wanted]
        some, page = self._page(call, params, ((one["SubnetId"], one) for one in items), _SUBNET_FIELDS)
        return {**page, "Subnets": some}

    async def DescribeInternetGateways(self, params: Params, call: Call) -> Result:
        only(params, call, "InternetGatewayIds", *_LIST)
        item = _gateway(call.caller.scope)
        return await self._shown(
            params, lambda: self._one(params, call, "InternetGatewayIds", "InternetGateways", item)
        )

    async def DescribeRouteTables(self, params: Params, call: Call) -> Result:
        only(params, call, "RouteTableIds", *_LIST)
        item = _route_table(call.caller.scope)
        return await self._shown(params, lambda: self._one(params, call, "RouteTableIds", "RouteTables", item))

    async def DescribeNetworkAcls(self, params: Params, call: Call) -> Result:
        only(params, call, "NetworkAclIds", *_LIST)
        return await self._shown(
            params, lambda: self._one(params, call, "NetworkAclIds", "NetworkAcls", self._acl(call.caller.scope))
        )

    def _acl(self, scope: Scope) -> Result:
        acl = vpc.made_id("acl", scope)
        zones = vpc.zones_of(self._state.zones(), scope.region)
        subnets = [vpc.subnet_id(scope, one) for one in zones]
        entries = [
            {"CidrBlock": "0.0.0.0/0", "Egress": out, "Protocol": "-1", "RuleAction": action, "RuleNumber": number}
            for out in (True, False)
            for number, action in ((100, "allow"), (32767, "deny"))
        ]
        joined = [
            {"NetworkAclAssociationId": f"aclassoc-{one[-17:]}", "NetworkAclId": acl, "SubnetId": one}
            for one in subnets
        ]
        return {
            "NetworkAclId": acl,
            "VpcId": vpc.vpc_id(scope),
            "OwnerId": scope.account,
            "IsDefault": True,
            "Entries": entries,
            "Associations": joined,
            "Tags": [],
        }

    async def DescribeDhcpOptions(self, params: Params, call: Call) -> Result:
        only(params, call, "DhcpOptionsIds", *_LIST)
        scope = call.caller.scope
        settings = {"domain-name": f"{scope.region}.compute.internal", "domain-name-servers": "AmazonProvidedDNS"}
        item = {
            "DhcpOptionsId": vpc.made_id("dopt", scope),
            "OwnerId": scope.account,
            "DhcpConfigurations": [{"Key": key, "Values": [{"Value": value}]} for key, value in settings.items()],
            "Tags": [],
        }
        return await self._shown(params, lambda: self._one(params, call, "DhcpOptionsIds", "DhcpOptions", item))

    async def DescribeNetworkInterfaces(self, params: Params, call: Call) -> Result:
        """Instances' own."""
        only(params, call, "NetworkInterfaceIds", "IncludeManagedResources", *_LIST)
        return await self._shown(params, lambda: self._interfaces(params, call))

    def _interfaces(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        every = (self._state.instances[key] for key in self._state.page(Instance.kind, scope))
        found = {shown.interface_of(one): one for one in every if shown.has_network(one)}
        if wanted := params.get("NetworkInterfaceIds", ()):
            for one in wanted:
                if one not in found:
                    raise NotFound(
                        f"The networkInterface ID '{one[:64]}' does not exist",
                        code="InvalidNetworkInterfaceID.NotFound",
                    )
            found = {key: found[key] for key in wanted}
        some, page = self._page(call, params, found.items(), _interface_fields(scope))
        return {**page, "NetworkInterfaces": [self._interface(one) for one in some]}

    def _interface(self, one: Instance) -> Result:
        item = shown.interface_in(self._state, one)
        item["Attachment"] |= {"InstanceId": one.id, "InstanceOwnerId": one.account}
        zone = shown.zone(one)
        return {**item, "AvailabilityZone": zone, "RequesterManaged": False, "TagSet": []}


class _Single:
    """How the one item of its kind is asked for: the member with its id, EC2's word and code for it, its filters."""

    def __init__(self, member: str, noun: str, code: str, filters: Fields[Result]) -> None:
        self.id = member
        self.noun = noun
        self.code = code
        self.filters: Fields[Result] = {TAGS: lambda one: _NO_TAGS, **filters}


def _of(member: str) -> Any:
    return lambda one: one[member]


_SINGLE = {
    "Vpcs": _Single(
        "VpcId",
        "vpc",
        "InvalidVpcID",
        {
            "cidr": _of("CidrBlock"),
            "cidr-block-association.cidr-block": _of("CidrBlock"),
            "dhcp-options-id": _of("DhcpOptionsId"),
            "is-default": _of("IsDefault"),
            "isDefault": _of("IsDefault"),
            "owner-id": _of("OwnerId"),
            "state": _of("State"),
            "vpc-id": _of("VpcId"),
        },
    ),
    "InternetGateways": _Single(
        "InternetGatewayId",
        "internetGateway",
        "InvalidInternetGatewayID",
        {
            "attachment.state": lambda one: "available",
            "attachment.vpc-id": lambda one: one["Attachments"][0]["VpcId"],
            "internet-gateway-id": _of("InternetGatewayId"),
            "owner-id": _of("OwnerId"),
        },
    ),
    "RouteTables": _Single(
        "RouteTableId",
        "routeTable",
        "InvalidRouteTableID",
        {
            "association.main": lambda one: True,
            "association.route-table-association-id": lambda one: one["Associations"][0]["RouteTableAssociationId"],
            "association.subnet-id": lambda one: "",
            "owner-id": _of("OwnerId"),
            "route-table-id": _of("RouteTableId"),
            "vpc-id": _of("VpcId"),
        },
    ),
    "NetworkAcls": _Single(
        "NetworkAclId",
        "networkAcl",
        "InvalidNetworkAclID",
        {
            "association.subnet-id": lambda one: [item["SubnetId"] for item in one["Associations"]],
            "default": _of("IsDefault"),
            "network-acl-id": _of("NetworkAclId"),
            "owner-id": _of("OwnerId"),
            "vpc-id": _of("VpcId"),
        },
    ),
    "DhcpOptions": _Single(
        "DhcpOptionsId",
        "dhcpOption",
        "InvalidDhcpOptionID",
        {"dhcp-options-id": _of("DhcpOptionsId"), "owner-id": _of("OwnerId")},
    ),
}
_SUBNET_FIELDS: Fields[Result] = {
    TAGS: lambda one: _NO_TAGS,
    "availability-zone": _of("AvailabilityZone"),
    "availability-zone-id": _of("AvailabilityZoneId"),
    "availabilityZone": _of("AvailabilityZone"),
    "cidr-block": _of("CidrBlock"),
    "cidrBlock": _of("CidrBlock"),
    "default-for-az": _of("DefaultForAz"),
    "defaultForAz": _of("DefaultForAz"),
    "map-public-ip-on-launch": _of("MapPublicIpOnLaunch"),
    "owner-id": _of("OwnerId"),
    "state": _of("State"),
    "subnet-arn": _of("SubnetArn"),
    "subnet-id": _of("SubnetId"),
    "vpc-id": _of("VpcId"),
}


def _interface_fields(scope: Scope) -> Fields[Instance]:
    return {
        TAGS: lambda one: _NO_TAGS,
        "addresses.private-ip-address": lambda one: one.private_ip,
        "association.public-ip": shown.public_ip,
        "attachment.instance-id": lambda one: one.id,
        "attachment.status": lambda one: "attached",
        "availability-zone": shown.zone,
        "description": lambda one: "",
        "group-id": security.ids,
        "interface-type": lambda one: "interface",
        "network-interface-id": shown.interface_of,
        "owner-id": lambda one: one.account,
        "private-ip-address": lambda one: one.private_ip,
        "requester-id": lambda one: "",
        "status": lambda one: "in-use",
        "subnet-id": shown.subnet,
        "vpc-id": lambda one: vpc.vpc_id(scope),
    }


def _vpc(scope: Scope) -> Result:
    block = {"State": "associated"}
    return {
        "VpcId": vpc.vpc_id(scope),
        "CidrBlock": vpc.CIDR,
        "CidrBlockAssociationSet": [
            {
                "AssociationId": vpc.made_id("vpc-cidr-assoc", scope),
                "CidrBlock": vpc.CIDR,
                "CidrBlockState": block,
            }
        ],
        "DhcpOptionsId": vpc.made_id("dopt", scope),
        "InstanceTenancy": "default",
        "IsDefault": True,
        "OwnerId": scope.account,
        "State": "available",
        "Tags": [],
    }


def _subnet(scope: Scope, zone: str, used: int) -> Result:
    subnet = vpc.subnet_id(scope, zone)
    return {
        "SubnetId": subnet,
        "SubnetArn": scope.arn("ec2", f"subnet/{subnet}"),
        "VpcId": vpc.vpc_id(scope),
        "AvailabilityZone": zone,
        "AvailabilityZoneId": vpc.zone_id(zone),
        "CidrBlock": vpc.CIDR,
        "AvailableIpAddressCount": max(vpc.ADDRESSES_PER_SUBNET - used, 0),
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": True,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": False,
        "EnableDns64": False,
        "Ipv6Native": False,
        "Ipv6CidrBlockAssociationSet": [],
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": False,
            "EnableResourceNameDnsAAAARecord": False,
        },
        "OwnerId": scope.account,
        "State": "available",
        "Tags": [],
    }


def _gateway(scope: Scope) -> Result:
    return {
        "InternetGatewayId": vpc.made_id("igw", scope),
        "OwnerId": scope.account,
        "Attachments": [{"State": "available", "VpcId": vpc.vpc_id(scope)}],
        "Tags": [],
    }


def _route_table(scope: Scope) -> Result:
    table = vpc.made_id("rtb", scope)
    local = {"DestinationCidrBlock": vpc.CIDR, "GatewayId": "local", "Origin": "CreateRouteTable", "State": "active"}
    outside = {
        "DestinationCidrBlock": "0.0.0.0/0",
        "GatewayId": vpc.made_id("igw", scope),
        "Origin": "CreateRoute",
        "State": "active",
    }
    return {
        "RouteTableId": table,
        "VpcId": vpc.vpc_id(scope),
        "OwnerId": scope.account,
        "Associations": [
            {
                "Main": True,
                "RouteTableAssociationId": vpc.made_id("rtbassoc", scope),
                "RouteTableId": table,
                "AssociationState": {"State": "associated"},
            }
        ],
        "PropagatingVgws": [],
        "Routes": [local, outside],
        "Tags": [],
    }
