"""RunInstances, and what it shares with launch templates: EC2's words for a launch, turned into a LaunchSpec.

What minicloud does not have is refused by name; a value that only says what is so anyway (Tenancy "default", an
enclave that is not enabled) is taken. Options that change nothing here and are said back are the `echo` of an instance.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.base.errors import (
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    NotFound,
)
from minicloud.compute import commands, security, templates, vpc
from minicloud.compute.aws import shown
from minicloud.compute.aws.base import Noun, Params, Result, tags_for, would_have
from minicloud.compute.aws.images import resolved
from minicloud.compute.commands import LaunchSpec

DEFAULT_TYPE = "m1.small"  # EC2 API, RunInstances: "Default: m1.small"
ROOT_GIB_MAX = 16_384  # EBS: 16 TiB a gp3 volume
SHARED = (
    "BlockDeviceMappings",
    "ImageId",
    "InstanceType",
    "KeyName",
    "Monitoring",
    "Placement",
    "SecurityGroupIds",
    "SecurityGroups",
    "UserData",
    "TagSpecifications",
    "CreditSpecification",
    "CapacityReservationSpecification",
    "HibernationOptions",
    "MetadataOptions",
    "EnclaveOptions",
    "MaintenanceOptions",
    "PrivateDnsNameOptions",
    "DisableApiStop",
    "DisableApiTermination",
    "InstanceInitiatedShutdownBehavior",
    "NetworkInterfaces",
    "IamInstanceProfile",
    "EbsOptimized",
)
_RUN = (*SHARED, "MinCount", "MaxCount", "SubnetId", "LaunchTemplate", "DryRun", "ClientToken", "Ipv6AddressCount")
# What may be said because it is so: member -> the values that are taken (None: any).
_PLACEMENT = ("AvailabilityZone", "AvailabilityZoneId", "GroupName", "GroupId", "PartitionNumber", "HostId", "Tenancy")
_INTERFACE = ("DeviceIndex", "SubnetId", "Groups", "AssociatePublicIpAddress", "DeleteOnTermination", "Description")
_GP3 = {"Iops": 3000, "Throughput": 125}


class LaunchDoor(Noun):
    async def RunInstances(self, params: Params, call: Call) -> Result:
        """Public AMI ids and SSM aliases run the built-in `base`; one network interface; the root disk alone."""
        only(params, call, *_RUN)
        scope, quotas = call.caller.scope, self._ports.quotas
        template, version = template_of(params.get("LaunchTemplate"))
        spec = self.spec(params, call)
        command = commands.Launch(
            scope=scope,
            spec=self._with_defaults(spec, template, version, call),
            min_count=params["MinCount"],
            max_count=params["MaxCount"],
            client_token=params.get("ClientToken", ""),
            template=template,
            template_version=version,
            dry_run=bool(params.get("DryRun")),
            quota_instances=quotas.limit(scope.account, "instances"),
            quota_vcpus=quotas.limit(scope.account, "vcpus"),
        )
        if command.min_count < 1:
            raise InvalidParameterValue(
                f"Value ({command.min_count}) for parameter minCount is invalid. Must be at least 1.", field="MinCount"
            )
        made = await self._service.submit(command)
        if command.dry_run:
            would_have()
        return {
            "ReservationId": made.id,
            "OwnerId": scope.account,
            "Groups": [],
            "Instances": [shown.instance(self._state, one) for one in made.instances],
        }

    def _with_defaults(self, spec: LaunchSpec, template: str, version: str, call: Call) -> LaunchSpec:
        preset: Mapping[str, Any] = {}
        if template:
            preset = templates.find(self._state, call.caller.scope, template, version).data
        if not (spec.image_id or preset.get("image_id")):
            raise MissingParameter("The request must contain the parameter ImageId", field="ImageId")
        if spec.instance_type or preset.get("instance_type"):
            return spec
        return replace(spec, instance_type=DEFAULT_TYPE)

    def spec(self, params: Mapping[str, Any], call: Call) -> LaunchSpec:
        """Of a request or of a template's data. Raises for whatever is not supported or does not exist."""
        tags = tags_for(params, "instance", "volume", "network-interface", "spot-instances-request")
        for kind in ("network-interface", "spot-instances-request"):
            if tags[kind]:
                raise refused(f"TagSpecifications of {kind}", call)
        _check_said(params, call)
        place = self._placement(params, call)
        network = self._network(params, call)
        disk = _root_disk(params.get("BlockDeviceMappings", ()), call)
        metadata = _metadata(params.get("MetadataOptions", {}), call)
        zone = self._zone(place, network.pop("zone"), call)
        return LaunchSpec(
            image_id=resolved(params.get("ImageId", "")),
            instance_type=params.get("InstanceType", ""),
            key_name=params.get("KeyName", ""),
            user_data=user_data(params.get("UserData", "")),
            zone=zone,
            host_id=place.get("HostId", ""),
            group_name=place.get("GroupName", ""),
            partition=place.get("PartitionNumber", 0),
            tags=tags["instance"],
            volume_tags=tags["volume"],
            termination_protection=params.get("DisableApiTermination"),
            stop_protection=params.get("DisableApiStop"),
            shutdown_behavior=params.get("InstanceInitiatedShutdownBehavior", ""),
            cpu_credits=params.get("CreditSpecification", {}).get("CpuCredits", ""),
            profile=self._profile(params.get("IamInstanceProfile", {}), call),
            http_tokens=metadata.get("HttpTokens", ""),
            http_endpoint=metadata.get("HttpEndpoint", ""),
            root_gib=disk.get("VolumeSize", 0),
            monitoring=params.get("Monitoring", {}).get("Enabled"),
            echo=_echo(params, metadata, disk),
            **network,
        )

    def _placement(self, params: Mapping[str, Any], call: Call) -> dict[str, Any]:
        place = dict(params.get("Placement", {}))
        for name in place:
            if name not in _PLACEMENT:
                raise refused(f"Placement.{name}", call)
        tenancy = place.get("Tenancy", "default")
        if tenancy not in ("default", "") and not (tenancy == "host" and place.get("HostId")):
            raise refused("Placement.Tenancy", call, "Hosts are shared; name one by HostId.")
        if group_id := place.get("GroupId"):
            group = self._state.groups.get(group_id)
            if group is None or (group.account, group.region) != (call.caller.scope.account, call.caller.scope.region):
                raise NotFound(
                    f"The placement group ID '{group_id[:64]}' is not valid.", code="InvalidPlacementGroupId.Unknown"
                )
            place["GroupName"] = group.name
        return place

    def _zone(self, place: Mapping[str, Any], of_subnet: str, call: Call) -> str:
        """The hosts' own name of the zone that Placement and subnet mean."""
        region, zones = call.caller.scope.region, self._state.zones()
        zone = place.get("AvailabilityZone", "")
        if wanted := place.get("AvailabilityZoneId"):
            zone = next((one for one in vpc.zones_of(zones, region) if vpc.zone_id(one) == wanted), "")
            if not zone:
                raise InvalidParameterValue(f"Invalid availability zone: [{wanted[:64]}]", field="Placement")
        if zone and of_subnet and zone != of_subnet:
            raise InvalidParameterValue(
                f"The availability zone {zone} is not the one of the subnet ({of_subnet})", field="SubnetId"
            )
        zone = zone or of_subnet
        return vpc.real_zone(zone, zones, region) if zone else ""

    def _network(self, params: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Zone of the subnet, groups, and whether a public address is wanted."""
        scope = call.caller.scope
        subnet, groups = params.get("SubnetId", ""), list(params.get("SecurityGroupIds", ()))
        groups += [security.find_named(self._state, scope, name).id for name in params.get("SecurityGroups", ())]
        public = None
        if interfaces := params.get("NetworkInterfaces", ()):
            if subnet or groups:
                raise InvalidParameterCombination(
                    "Network interfaces and an instance-level "
                    f"{'subnet ID' if subnet else 'security groups'} may not be specified on the same request",
                    field="NetworkInterfaces",
                )
            one = _interface(interfaces, call)
            subnet, groups = one.get("SubnetId", ""), list(one.get("Groups", ()))
            public = one.get("AssociatePublicIpAddress")
        security.check_all(self._state, scope, groups)
        zone = vpc.zone_of_subnet(subnet, self._state.zones(), scope) if subnet else ""
        return {"zone": zone, "security_groups": tuple(dict.fromkeys(groups)), "public": public}

    def _profile(self, given: Mapping[str, str], call: Call) -> str:
        text = given.get("Arn") or given.get("Name") or ""
        if not text:
            return ""
        try:
            return self._ports.profile_of(call.caller.scope.account, text)[0]
        except NotFound:
            name = "arn" if given.get("Arn") else "name"
            raise InvalidParameterValue(
                f"Value ({text[:128]}) for parameter iamInstanceProfile.{name} is invalid. "
                f"Invalid IAM Instance Profile {name if name == 'name' else 'ARN'}",
                field="IamInstanceProfile",
            ) from None


def template_of(given: Mapping[str, str] | None) -> tuple[str, str]:
    """Id or name, and version, of a LaunchTemplate member."""
    if not given:
        return "", ""
    if given.get("LaunchTemplateId") and given.get("LaunchTemplateName"):
        raise InvalidParameterCombination(
            "The request cannot have both, a launch template's id and its name", field="LaunchTemplate"
        )
    text = given.get("LaunchTemplateId") or given.get("LaunchTemplateName") or ""
    if not text:
        raise MissingParameter(
            "Either a launch template id or a launch template name is needed", field="LaunchTemplate"
        )
    return text, given.get("Version", "")


def user_data(text: str) -> str:
    """From base64. Raises InvalidParameterValue (InvalidUserData.Malformed)."""
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except UnicodeDecodeError:
        raise InvalidParameterValue(
            "user data must be text (UTF-8) once decoded; archives are not unpacked here",
            code="InvalidUserData.Malformed",
            field="UserData",
        ) from None
    except (binascii.Error, ValueError):
        raise InvalidParameterValue(
            "Invalid BASE64 encoding of user data.", code="InvalidUserData.Malformed", field="UserData"
        ) from None


def _check_said(params: Mapping[str, Any], call: Call) -> None:
    """Structures of which one state alone is there."""
    so: dict[str, dict[str, tuple[Any, ...]]] = {
        "HibernationOptions": {"Configured": (False,)},
        "EnclaveOptions": {"Enabled": (False,)},
        "MaintenanceOptions": {"AutoRecovery": ("default",)},
        "CapacityReservationSpecification": {"CapacityReservationPreference": ("open", "none")},
        "PrivateDnsNameOptions": {
            "HostnameType": ("ip-name",),
            "EnableResourceNameDnsARecord": (False,),
            "EnableResourceNameDnsAAAARecord": (False,),
        },
    }
    for name, members in so.items():
        for member, value in params.get(name, {}).items():
            if value not in members.get(member, ()):
                raise refused(f"{name}.{member}", call)
    if params.get("Ipv6AddressCount"):
        raise refused("Ipv6AddressCount", call)


def _interface(interfaces: Any, call: Call) -> Mapping[str, Any]:
    if len(interfaces) > 1:
        raise refused("NetworkInterfaces", call, "An instance has one network interface.")
    one: Mapping[str, Any] = interfaces[0]
    for name, value in one.items():
        if name not in _INTERFACE and not (name == "InterfaceType" and value == "interface"):
            if name in ("NetworkCardIndex", "Ipv6AddressCount", "SecondaryPrivateIpAddressCount") and not value:
                continue
            raise refused(f"NetworkInterfaces.{name}", call)
    if one.get("DeviceIndex", 0) != 0 or one.get("DeleteOnTermination") is False:
        raise refused("NetworkInterfaces", call, "The one interface has device index 0 and ends with its instance.")
    return one


def _root_disk(mappings: Any, call: Call) -> dict[str, Any]:
    if not mappings:
        return {}
    if len(mappings) > 1 or mappings[0].get("DeviceName") not in ("/dev/xvda", "/dev/sda1") or "Ebs" not in mappings[0]:
        raise refused("BlockDeviceMappings", call, "An instance has its root disk (/dev/xvda, /dev/sda1) alone.")
    disk: dict[str, Any] = dict(mappings[0]["Ebs"])
    if disk.get("DeleteOnTermination", True) is not True:
        raise refused("BlockDeviceMappings.Ebs.DeleteOnTermination", call, "A root disk ends with its instance.")
    for name, value in disk.items():
        said: dict[str, tuple[Any, ...]] = {
            "VolumeType": ("gp2", "gp3"),
            "Encrypted": (False,),
            "DeleteOnTermination": (True,),
        }
        if name in _GP3:
            said[name] = (_GP3[name],)
        if name != "VolumeSize" and value not in said.get(name, ()):
            raise refused(f"BlockDeviceMappings.Ebs.{name}", call)
    if "VolumeSize" in disk and not 1 <= disk["VolumeSize"] <= ROOT_GIB_MAX:
        raise InvalidParameterValue(
            f"Volume of {disk['VolumeSize']}GiB is not valid: 1 to {ROOT_GIB_MAX}", code="InvalidBlockDeviceMapping"
        )
    return disk


def _metadata(options: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
    said = {"HttpProtocolIpv6": ("disabled",), "InstanceMetadataTags": ("enabled",)}
    for name, value in options.items():
        if name in said and value not in said[name]:
            raise refused(f"MetadataOptions.{name}", call, f"It is always '{said[name][0]}'.")
    hops = options.get("HttpPutResponseHopLimit", 1)
    if not 1 <= hops <= 64:
        raise InvalidParameterValue("HttpPutResponseHopLimit must be between 1 and 64", field="MetadataOptions")
    return options


def _echo(params: Mapping[str, Any], metadata: Mapping[str, Any], disk: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "EbsOptimized": params.get("EbsOptimized"),
        "HttpPutResponseHopLimit": metadata.get("HttpPutResponseHopLimit"),
        "VolumeType": disk.get("VolumeType"),
    }
    return {name: value for name, value in found.items() if value is not None}
