"""An instance as DescribeInstances shows it, and what it can be filtered by."""

from __future__ import annotations

import time
from typing import Any

from minicloud.aws.lists import tag_list
from minicloud.aws.xml import Lasting
from minicloud.base.arn import Scope
from minicloud.compute import security, vpc
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.model import Instance
from minicloud.compute.public_images import PUBLIC
from minicloud.compute.state import State
from minicloud.compute.tagging import volume_of

STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ROOT_GIB = 8  # what a root volume shows where no size was asked for
HOP_LIMIT = 1
REMEMBERED_MAX = 16_384  # ours: instances of all accounts; one takes some 4 KiB


def state_of(state: str) -> dict[str, Any]:
    return {"Code": STATE_CODES[state], "Name": state}


def root_device(image_id: str) -> str:
    known = PUBLIC.get(image_id)
    return known.root_device if known else "/dev/xvda"


def has_network(one: Instance) -> bool:
    return one.state not in ("terminated", "shutting-down")


def zone(one: Instance) -> str:
    return vpc.shown_zone(one.zone, one.region)


def subnet(one: Instance) -> str:
    return vpc.subnet_id(one.scope, zone(one))


def private_dns(one: Instance) -> str:
    return f"{one.id}.{one.region}.compute.internal" if one.private_ip else ""


def interface_of(one: Instance) -> str:
    return "eni-" + one.id.partition("-")[2]


def public_ip(one: Instance) -> str:
    """The address by which the machine that runs the cloud reaches the guest; there is no other network."""
    return one.private_ip if one.public and has_network(one) else ""


class Remembered:
    """Instances as DescribeInstances shows them, made once for each record: a change of one makes a new record."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Instance, Lasting]] = {}

    def __call__(self, state: State, one: Instance) -> Lasting:
        known = self._known.get(one.id)
        if known is not None and known[0] is one:
            return known[1].let_go()
        if len(self._known) > min(2 * len(state.instances) + 1_000, REMEMBERED_MAX):  # most of them may be gone
            self._known.clear()
        made = Lasting(instance(state, one))
        self._known[one.id] = (one, made)
        return made


def instance(state: State, one: Instance) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "InstanceId": one.id,
        "ImageId": one.image_id,
        "State": state_of(one.state),
        "InstanceType": one.type,
        "LaunchTime": one.launched,
        "AmiLaunchIndex": one.launch_index,
        "Placement": placement(one),
        "Monitoring": {"State": "enabled" if one.monitoring else "disabled"},
        "Architecture": one.arch,
        "Hypervisor": "xen",
        "VirtualizationType": "hvm",
        "RootDeviceType": "ebs",
        "RootDeviceName": root_device(one.image_id),
        "EbsOptimized": bool(one.echo.get("EbsOptimized")),
        "EnaSupport": True,
        "ProductCodes": [],
        "SourceDestCheck": one.echo.get("SourceDestCheck", True),
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "CpuOptions": cpu_options(one.vcpus, one.arch),
        "MetadataOptions": metadata_options(one),
        "CapacityReservationSpecification": {"CapacityReservationPreference": "open"},
        "HibernationOptions": {"Configured": False},
        "EnclaveOptions": {"Enabled": False},
        "MaintenanceOptions": {"AutoRecovery": "default"},
        "PrivateDnsName": private_dns(one) if has_network(one) else "",
        "PublicDnsName": public_ip(one),
        "StateTransitionReason": transition_reason(one),
        "BlockDeviceMappings": devices(one),
        "NetworkInterfaces": [],
        "SecurityGroups": [],
    }
    if has_network(one):
        shown |= _network(state, one)
    if one.key_name:
        shown["KeyName"] = one.key_name
    if one.profile:
        shown["IamInstanceProfile"] = {"Arn": one.profile}
    if one.reason_code:
        shown["StateReason"] = {"Code": one.reason_code, "Message": one.reason_message}
    if one.tags:
        shown["Tags"] = tag_list(one.tags)
    return shown


def placement(one: Instance) -> dict[str, Any]:
    name = zone(one)
    shown: dict[str, Any] = {
        "AvailabilityZone": name,
        "AvailabilityZoneId": vpc.zone_id(name),
        "GroupName": one.group_name,
        "Tenancy": "default",
    }
    if one.partition:
        shown["PartitionNumber"] = one.partition
    if one.affinity:
        shown["HostId"] = one.host_id
    return shown


def _network(state: State, one: Instance) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "VpcId": vpc.vpc_id(one.scope),
        "SubnetId": subnet(one),
        "SecurityGroups": security.named(state, one),
        "NetworkInterfaces": [interface_in(state, one)],
    }
    if one.private_ip:
        shown["PrivateIpAddress"] = one.private_ip
    if address := public_ip(one):
        shown["PublicIpAddress"] = address
    return shown


def interface_in(state: State, one: Instance) -> dict[str, Any]:
    address: dict[str, Any] = {"Primary": True, "PrivateDnsName": private_dns(one)}
    if one.private_ip:
        address["PrivateIpAddress"] = one.private_ip
    association = _association(one)
    return {
        "NetworkInterfaceId": interface_of(one),
        "InterfaceType": "interface",
        "OwnerId": one.account,
        "Status": "in-use",
        "Description": "",
        "SourceDestCheck": one.echo.get("SourceDestCheck", True),
        "VpcId": vpc.vpc_id(one.scope),
        "SubnetId": subnet(one),
        "Groups": security.named(state, one),
        "Ipv6Addresses": [],
        "PrivateIpAddresses": [address | association],
        **{name: value for name, value in address.items() if name != "Primary"},
        **association,
        "Attachment": {
            "AttachmentId": "eni-attach-" + one.id.partition("-")[2],
            "AttachTime": one.created,
            "DeleteOnTermination": True,
            "DeviceIndex": 0,
            "NetworkCardIndex": 0,
            "Status": "attached",
        },
    }


def _association(one: Instance) -> dict[str, Any]:
    address = public_ip(one)
    if not address:
        return {}
    return {"Association": {"IpOwnerId": "amazon", "PublicDnsName": address, "PublicIp": address}}


def devices(one: Instance) -> list[dict[str, Any]]:
    if one.state == "terminated":
        return []
    volume = {"VolumeId": volume_of(one.id), "Status": "attached", "AttachTime": one.created}
    return [{"DeviceName": root_device(one.image_id), "Ebs": {**volume, "DeleteOnTermination": True}}]


def cpu_options(vcpus: float, arch: str) -> dict[str, int]:
    threads = 2 if arch == "x86_64" and vcpus >= 2 else 1
    return {"CoreCount": max(int(vcpus) // threads, 1), "ThreadsPerCore": threads}


def metadata_options(one: Instance) -> dict[str, Any]:
    return {
        "State": "applied",
        "HttpTokens": one.http_tokens,
        "HttpEndpoint": one.http_endpoint,
        "HttpPutResponseHopLimit": one.echo.get("HttpPutResponseHopLimit", HOP_LIMIT),
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "enabled",
    }


def transition_reason(one: Instance) -> str:
    if one.state not in ("stopping", "stopped", "shutting-down", "terminated") or not one.reason_code:
        return ""
    if one.reason_code != "Client.UserInitiatedShutdown":
        return one.reason_message
    when = one.terminated or one.ended
    stamp = time.strftime(" (%Y-%m-%d %H:%M:%S GMT)", time.gmtime(when)) if when else ""
    return f"User initiated{stamp}"


def fields(state: State, scope: Scope) -> Fields[Instance]:
    """EC2 API, DescribeInstances: what a filter may name."""
    return {
        TAGS: lambda one: one.tags,
        "architecture": lambda one: one.arch,
        "availability-zone": zone,
        "availability-zone-id": lambda one: vpc.zone_id(zone(one)),
        "block-device-mapping.device-name": lambda one: root_device(one.image_id),
        "block-device-mapping.volume-id": lambda one: volume_of(one.id),
        "block-device-mapping.delete-on-termination": lambda one: True,
        "dns-name": public_ip,
        "group-id": lambda one: security.ids(one),
        "group-name": lambda one: [group["GroupName"] for group in security.named(state, one)],
        "host-id": lambda one: one.host_id,
        "hypervisor": lambda one: "xen",
        "iam-instance-profile.arn": lambda one: one.profile,
        "iam-instance-profile.name": lambda one: one.profile.rpartition("/")[2],
        "image-id": lambda one: one.image_id,
        "instance-id": lambda one: one.id,
        "instance-state-code": lambda one: str(STATE_CODES[one.state]),
        "instance-state-name": lambda one: one.state,
        "instance-type": lambda one: one.type,
        "instance.group-id": lambda one: security.ids(one),
        "instance.group-name": lambda one: [group["GroupName"] for group in security.named(state, one)],
        "ip-address": public_ip,
        "key-name": lambda one: one.key_name,
        "launch-index": lambda one: str(one.launch_index),
        "launch-time": lambda one: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(one.launched)),
        "metadata-options.http-endpoint": lambda one: one.http_endpoint,
        "metadata-options.http-tokens": lambda one: one.http_tokens,
        "monitoring-state": lambda one: "enabled" if one.monitoring else "disabled",
        "network-interface.network-interface-id": interface_of,
        "network-interface.subnet-id": subnet,
        "network-interface.vpc-id": lambda one: vpc.vpc_id(scope),
        "network-interface.addresses.private-ip-address": lambda one: one.private_ip,
        "network-interface.private-ip-address": lambda one: one.private_ip,
        "owner-id": lambda one: one.account,
        "placement-group-name": lambda one: one.group_name,
        "placement-partition-number": lambda one: str(one.partition),
        "platform-details": lambda one: "Linux/UNIX",
        "private-dns-name": private_dns,
        "private-ip-address": lambda one: one.private_ip,
        "reason": transition_reason,
        "reservation-id": lambda one: one.reservation_id,
        "root-device-name": lambda one: root_device(one.image_id),
        "root-device-type": lambda one: "ebs",
        "source-dest-check": lambda one: one.echo.get("SourceDestCheck", True),
        "state-reason-code": lambda one: one.reason_code,
        "state-reason-message": lambda one: one.reason_message,
        "subnet-id": subnet,
        "tenancy": lambda one: "default",
        "virtualization-type": lambda one: "hvm",
        "vpc-id": lambda one: vpc.vpc_id(scope),
        **dict.fromkeys(_NOTHING, lambda one: ""),
    }


# What no instance here has: a filter by it finds nothing.
_NOTHING = (
    "affinity",
    "client-token",
    "instance-lifecycle",
    "kernel-id",
    "platform",
    "product-code",
    "ramdisk-id",
    "spot-instance-request-id",
)
