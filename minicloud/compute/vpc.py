"""The default network as AWS would describe it: what an account has in a region without making anything.

One default VPC over the addresses that guests get (sandbox/subnets.py), one subnet for each zone that has hosts, one
internet gateway, route table, network ACL and DHCP option set. None of them is a record: ids follow from account,
region and zone, so they are the same for ever. A host draws its guests' subnet itself, out of the same block; that is
why every subnet here shows the whole block.

Zones: hosts have the zones of the cloud's own region. In another region the same zones show under that region's name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue, NotFound

CIDR = "10.64.0.0/10"
ADDRESSES_PER_SUBNET = 4091
_ZONE = re.compile(r"^[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}([a-z])\Z")
_REGION = re.compile(r"^([a-z]{2,4})((?:-[a-z]+)+)-([0-9]{1,2})\Z")
_DIRECTIONS = {"northeast": "ne", "southeast": "se", "northwest": "nw", "southwest": "sw", "central": "c"}


def made_id(prefix: str, scope: Scope, *parts: str) -> str:
    digest = hashlib.sha256("/".join((prefix, scope.account, scope.region, *parts)).encode()).hexdigest()
    return f"{prefix}-{digest[:17]}"


def vpc_id(scope: Scope) -> str:
    return made_id("vpc", scope)


def default_group_id(scope: Scope) -> str:
    return made_id("sg", scope, "default")


def subnet_id(scope: Scope, zone: str) -> str:
    """`zone`: as it shows in the scope's region."""
    return made_id("subnet", scope, zone)


def shown_zone(zone: str, region: str) -> str:
    """A host's zone as this region calls it. Zones of another form than AWS's keep their name."""
    match = _ZONE.match(zone)
    return region + match[1] if match else zone


def zones_of(host_zones: Iterable[str], region: str) -> dict[str, str]:
    """Zone as it shows in the region -> the hosts' own name of it, by name."""
    return dict(sorted((shown_zone(one, region), one) for one in host_zones))


def real_zone(zone: str, host_zones: Iterable[str], region: str) -> str:
    """The hosts' own name of a zone. An unknown one is given back: the launch refuses it with its own words."""
    return zones_of(host_zones, region).get(zone, zone)


def zone_of_subnet(subnet: str, host_zones: Iterable[str], scope: Scope) -> str:
    """The zone (as it shows) of a subnet. Raises NotFound (InvalidSubnetID.NotFound)."""
    for zone in zones_of(host_zones, scope.region):
        if subnet_id(scope, zone) == subnet:
            return zone
    raise NotFound(f"The subnet ID '{subnet[:64]}' does not exist", code="InvalidSubnetID.NotFound", field="SubnetId")


def zone_id(zone: str) -> str:
    """us-east-1a is use1-az1; a zone of another form is its own id."""
    match = _ZONE.match(zone)
    region = _REGION.match(zone[:-1])
    if match is None or region is None:
        return zone
    words = region[2].strip("-").split("-")
    short = "".join(_DIRECTIONS.get(word, word[0]) for word in words)
    return f"{region[1]}{short}{region[3]}-az{ord(match[1]) - ord('a') + 1}"


def check_vpc(scope: Scope, vpc: str) -> None:
    """Raises NotFound for another VPC than the default one."""
    if vpc != vpc_id(scope):
        raise NotFound(f"The vpc ID '{vpc[:64]}' does not exist", code="InvalidVpcID.NotFound", field="VpcId")


def only_default(what: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"minicloud has the default VPC alone: {what}", code="UnsupportedOperation")
