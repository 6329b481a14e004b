"""What CreateAutoScalingGroup and UpdateAutoScalingGroup say of a group. What is not supported is refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minicloud.aws.call import Call, refused
from minicloud.base.arn import Scope
from minicloud.scaling.aws.base import Params, Zone
from minicloud.scaling.commands import GroupSettings, HookSpec
from minicloud.scaling.errors import invalid, no_such_zone

_PLAIN = {
    "MinSize": "min_size",
    "MaxSize": "max_size",
    "DesiredCapacity": "desired",
    "DefaultCooldown": "cooldown_s",
    "HealthCheckGracePeriod": "grace_s",
    "TerminationPolicies": "termination_policies",
    "NewInstancesProtectedFromScaleIn": "protect_new",
    "MaxInstanceLifetime": "max_lifetime_s",
    "DefaultInstanceWarmup": "warmup_s",
}
PARTS = (*_PLAIN, "AvailabilityZones", "VPCZoneIdentifier", "HealthCheckType", "LaunchTemplate", "MixedInstancesPolicy")
_HARMLESS: dict[str, Any] = {
    "CapacityRebalance": False,
    "DesiredCapacityType": "units",
    "DeletionProtection": "none",
    "SkipZonalShiftValidation": False,
    "LoadBalancerNames": [],
    "InstanceMaintenancePolicy": {"MinHealthyPercentage": -1, "MaxHealthyPercentage": -1},
    "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"},
    "AvailabilityZoneImpairmentPolicy": {"ZonalShiftEnabled": False},
    "CapacityReservationSpecification": {"CapacityReservationPreference": "default"},
}
_DISTRIBUTION: dict[str, tuple[Any, ...]] = {
    "OnDemandAllocationStrategy": ("prioritized", "lowest-price"),
    "OnDemandPercentageAboveBaseCapacity": (100,),
}


def harmless(scope: Scope) -> dict[str, Any]:
    """Values that say what is so anyway: tools send them."""
    return {**_HARMLESS, "ServiceLinkedRoleARN": service_role(scope)}


def service_role(scope: Scope) -> str:
    """The role that AWS makes for Auto Scaling in every account; here nobody takes it on."""
    path = "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    return f"arn:aws:iam::{scope.account}:{path}"


def to_settings(params: Params, call: Call, zones: Mapping[str, Zone]) -> GroupSettings:
    given: dict[str, Any] = {ours: params[name] for name, ours in _PLAIN.items() if name in params}
    if "HealthCheckType" in params:
        given["health_types"] = [part.strip() for part in params["HealthCheckType"].split(",")]
    given["zones"] = _zones(params, zones)
    given |= to_source(params, call)
    if "Tags" in params:
        given["tags"] = {one["Key"]: one.get("Value", "") for one in params["Tags"]}
        given["local_tags"] = local_keys(params["Tags"])
    return GroupSettings(**given)


def local_keys(tags: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of tags that instances do not get."""
    return [one["Key"] for one in tags if not one.get("PropagateAtLaunch", True)]


def _zones(params: Params, zones: Mapping[str, Zone]) -> list[str] | None:
    """The hosts' names of the zones that are named, or that the subnets are in."""
    named: list[str] = params.get("AvailabilityZones", [])
    for name in named:
        if name not in zones:
            raise no_such_zone(name)
    if not params.get("VPCZoneIdentifier"):
        return [zones[name].host_zone for name in named] if named else None
    by_subnet = {zone.subnet: zone.host_zone for zone in zones.values()}
    found = []
    for subnet in (part.strip() for part in params["VPCZoneIdentifier"].split(",")):
        if subnet not in by_subnet:
            raise invalid(f"The subnet ID '{subnet[:64]}' does not exist", "VPCZoneIdentifier")
        found.append(by_subnet[subnet])
    if named and {zones[name].host_zone for name in named} != set(found):
        raise invalid(
            "The availability zones of the specified subnets and the Auto Scaling group do not match",
            "VPCZoneIdentifier",
        )
    return list(dict.fromkeys(found))


def to_source(params: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """template and types, of LaunchTemplate or MixedInstancesPolicy; empty where neither is given."""
    if "LaunchTemplate" in params and "MixedInstancesPolicy" in params:
        raise invalid(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter.",
            "LaunchTemplate",
        )
    if "LaunchTemplate" in params:
        return {"template": to_template(params["LaunchTemplate"]), "types": []}
    if "MixedInstancesPolicy" in params:
        return _mixed(params["MixedInstancesPolicy"], call)
    return {}


def to_template(given: Mapping[str, Any]) -> dict[str, str]:
    by_id, by_name = given.get("LaunchTemplateId"), given.get("LaunchTemplateName")
    if bool(by_id) == bool(by_name):
        raise invalid("Valid requests must contain either launchTemplateId or LaunchTemplateName", "LaunchTemplate")
    found = {"id": by_id or by_name or ""}
    return found | ({"version": given["Version"]} if given.get("Version") else {})


def _mixed(policy: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Types in order of preference; no Spot, no weights, no requirements, one template for all."""
    launch = policy.get("LaunchTemplate", {})
    if "LaunchTemplateSpecification" not in launch:
        raise invalid("MixedInstancesPolicy needs LaunchTemplate.LaunchTemplateSpecification", "MixedInstancesPolicy")
    types = []
    for override in launch.get("Overrides", ()):
        for name in override:
            if name != "InstanceType":
                raise refused(f"MixedInstancesPolicy.LaunchTemplate.Overrides.{name}", call)
        types += [override["InstanceType"]] if "InstanceType" in override else []
    _check_distribution(policy.get("InstancesDistribution", {}), call)
    return {"template": to_template(launch["LaunchTemplateSpecification"]), "types": types}


def _check_distribution(given: Mapping[str, Any], call: Call) -> None:
    """All on demand is what there is: a base of any size says the same, a price for Spot says nothing then."""
    if given and given.get("OnDemandPercentageAboveBaseCapacity", 100) != 100:
        raise refused(
            "MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity", call, "No Spot."
        )
    for name, value in given.items():
        if name in _DISTRIBUTION and value in _DISTRIBUTION[name]:
            continue
        if name not in ("OnDemandBaseCapacity", "SpotAllocationStrategy", "OnDemandPercentageAboveBaseCapacity"):
            raise refused(f"MixedInstancesPolicy.InstancesDistribution.{name}", call)


def to_hooks(given: Iterable[Mapping[str, Any]]) -> dict[str, HookSpec]:
    names = {
        "HeartbeatTimeout": "timeout_s",
        "DefaultResult": "default",
        "NotificationTargetARN": "target",
        "NotificationMetadata": "metadata",
        "RoleARN": "role",
    }
    found = {}
    for one in given:
        more = {ours: one[name] for name, ours in names.items() if name in one}
        found[one["LifecycleHookName"]] = HookSpec(one["LifecycleTransition"], **more)
    return found
