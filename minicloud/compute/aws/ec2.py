"""EC2 as one door: every noun's operations."""

from __future__ import annotations

from minicloud.compute.aws.absent import AbsentDoor
from minicloud.compute.aws.attributes import AttributeDoor
from minicloud.compute.aws.images import ImageDoor
from minicloud.compute.aws.instances import InstanceDoor
from minicloud.compute.aws.keypairs import KeyPairDoor, PlacementGroupDoor
from minicloud.compute.aws.network import NetworkDoor
from minicloud.compute.aws.places import PlaceDoor
from minicloud.compute.aws.security import RuleDoor
from minicloud.compute.aws.tags import TagDoor
from minicloud.compute.aws.templates import TemplateDoor
from minicloud.compute.aws.types import TypeDoor
from minicloud.compute.aws.volumes import VolumeDoor


class Ec2(
    TemplateDoor,
    InstanceDoor,
    AttributeDoor,
    ImageDoor,
    TypeDoor,
    KeyPairDoor,
    PlacementGroupDoor,
    TagDoor,
    PlaceDoor,
    NetworkDoor,
    RuleDoor,
    VolumeDoor,
    AbsentDoor,
):
    """For `Door("ec2", Ec2(service, ports))`. TemplateDoor has RunInstances too: they share words."""
