"""Groups: made, changed, described, deleted; their target groups, processes, tags and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from minicloud.aws.call import Call, harmless, only, refused
from minicloud.scaling import commands, limits, queries
from minicloud.scaling.aws import settings, shown
from minicloud.scaling.aws.base import GROUP, Noun, Params, Result, filtered
from minicloud.scaling.errors import invalid
from minicloud.scaling.model import Group
from minicloud.scaling.state import State

_GROUP_FILTERS: dict[str, Callable[[Group, Sequence[str]], bool]] = {
    "tag-key": lambda one, values: any(key in values for key in one.tags),
    "tag-value": lambda one, values: any(value in values for value in one.tags.values()),
}
_TAG_FILTERS: dict[str, Callable[[tuple[Group, str], Sequence[str]], bool]] = {
    "auto-scaling-group": lambda pair, values: pair[0].name in values,
    "key": lambda pair, values: pair[1] in values,
    "value": lambda pair, values: pair[0].tags[pair[1]] in values,
    "propagate-at-launch": lambda pair, values: (
        str(pair[1] not in pair[0].local_tags).lower() in [value.lower() for value in values]
    ),
}


class GroupDoor(Noun):
    async def CreateAutoScalingGroup(self, params: Params, call: Call) -> Result:
        """One launch template; of a mixed instances policy the types, in order, all on demand. Subnets are those of
        the default VPC.
        """
        more = ("Tags", "TargetGroupARNs", "TrafficSources", "LifecycleHookSpecificationList")
        scope = call.caller.scope
        fixed = settings.harmless(scope)
        only(params, call, GROUP, *settings.PARTS, *fixed, *more)
        harmless(params, call, fixed)
        given = settings.to_settings(params, call, await self._places.shown_zones(scope))
        if not given.zones:
            raise invalid("At least one Availability Zone or VPC Subnet is required.", "AvailabilityZones")
        targets = [*params.get("TargetGroupARNs", ()), *_sources(params, call)]
        hooks = settings.to_hooks(params.get("LifecycleHookSpecificationList", ()))
        command = commands.CreateGroup(scope, params[GROUP], _with_targets(given, targets), hooks)
        await self._service.ask(command)
        return {}

    async def UpdateAutoScalingGroup(self, params: Params, call: Call) -> Result:
        """As CreateAutoScalingGroup; what runs stays as it is until a refresh."""
        scope = call.caller.scope
        fixed = settings.harmless(scope)
        only(params, call, GROUP, *settings.PARTS, *fixed)
        harmless(params, call, fixed)
        given = settings.to_settings(params, call, await self._places.shown_zones(scope))
        await self._service.ask(commands.UpdateGroup(scope, params[GROUP], given))
        return {}

    async def DescribeAutoScalingGroups(self, params: Params, call: Call) -> Result:
        """VPCZoneIdentifier: the default subnets of its zones, however they were named."""
        only(params, call, "AutoScalingGroupNames", "IncludeInstances", "NextToken", "MaxRecords", "Filters")
        zones = await self._places.shown_zones(call.caller.scope)
        test = filtered(params.get("Filters", ()), _with_keys(params))
        instances = params.get("IncludeInstances", True)

        def look(state: State) -> Result:
            named = params.get("AutoScalingGroupNames", ())
            found = {key: one for key, one in queries.groups(state, call.caller.scope, named).items() if test(one)}
            kept, token = self._page(params, call, found)
            groups = [shown.group(one, queries.roster(state, one), zones, instances) for one in kept]
            return {"AutoScalingGroups": groups, **token}

        return await self._service.shown(look)

    async def DeleteAutoScalingGroup(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "ForceDelete")
        await self._service.ask(
            commands.DeleteGroup(call.caller.scope, params[GROUP], params.get("ForceDelete", False))
        )
        return {}

    async def SetDesiredCapacity(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "DesiredCapacity", "HonorCooldown")
        command = commands.SetDesired(
            call.caller.scope, params[GROUP], params["DesiredCapacity"], params.get("HonorCooldown", False)
        )
        await self._service.ask(command)
        return {}

    async def DescribeAccountLimits(self, params: Params, call: Call) -> Result:
        """No launch configurations."""
        only(params, call)
        count = await self._service.shown(lambda state: len(state.of_scope(call.caller.scope)))
        return {
            "MaxNumberOfAutoScalingGroups": limits.GROUPS_MAX,
            "MaxNumberOfLaunchConfigurations": 0,
            "NumberOfAutoScalingGroups": count,
            "NumberOfLaunchConfigurations": 0,
        }

    # --- target groups

    async def AttachLoadBalancerTargetGroups(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "TargetGroupARNs")
        return await self._targets(params, call, params["TargetGroupARNs"], ())

    async def DetachLoadBalancerTargetGroups(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "TargetGroupARNs")
        return await self._targets(params, call, (), params["TargetGroupARNs"])

    async def AttachTrafficSources(self, params: Params, call: Call) -> Result:
        """Target groups (elbv2) alone."""
        only(params, call, GROUP, "TrafficSources", "SkipZonalShiftValidation")
        harmless(params, call, settings.harmless(call.caller.scope))
        return await self._targets(params, call, _sources(params, call), ())

    async def DetachTrafficSources(self, params: Params, call: Call) -> Result:
        """Target groups (elbv2) alone."""
        only(params, call, GROUP, "TrafficSources")
        return await self._targets(params, call, (), _sources(params, call))

    async def _targets(self, params: Params, call: Call, add: Sequence[str], remove: Sequence[str]) -> Result:
        await self._service.ask(commands.ChangeTargets(call.caller.scope, params[GROUP], tuple(add), tuple(remove)))
        return {}

    async def DescribeLoadBalancerTargetGroups(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "NextToken", "MaxRecords")
        states, token = await self._target_states(params, call)
        found = [{"LoadBalancerTargetGroupARN": arn, "State": state} for arn, state in states]
        return {"LoadBalancerTargetGroups": found, **token}

    async def DescribeTrafficSources(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "TrafficSourceType", "NextToken", "MaxRecords")
        states, token = await self._target_states(params, call)
        if params.get("TrafficSourceType", "elbv2") != "elbv2":
            states = []
        found = [{"Identifier": arn, "TrafficSource": arn, "Type": "elbv2", "State": state} for arn, state in states]
        return {"TrafficSources": found, **token}

    async def _target_states(self, params: Params, call: Call) -> tuple[list[tuple[str, str]], Result]:
        """Added: all instances that are in service are told of; Removing: some may still be in it."""

        def look(state: State) -> tuple[list[tuple[str, str]], Result]:
            group = state.group(call.caller.scope, params[GROUP])
            healthy = "InService" if "ELB" in group.health_types else "Added"
            found = {arn: (arn, healthy) for arn in group.target_groups}
            found |= {arn: (arn, "Removing") for arn in group.leaving}
            return self._page(params, call, dict(sorted(found.items())), 100)

        return await self._service.shown(look)

    async def DescribeLoadBalancers(self, params: Params, call: Call) -> Result:
        """Of classic load balancers, which a group here never has."""
        only(params, call, GROUP, "NextToken", "MaxRecords")
        await self._service.shown(lambda state: state.group(call.caller.scope, params[GROUP]))
        return {"LoadBalancers": []}

    # --- processes, metrics

    async def SuspendProcesses(self, params: Params, call: Call) -> Result:
        return await self._processes(params, call, resume=False)

    async def ResumeProcesses(self, params: Params, call: Call) -> Result:
        return await self._processes(params, call, resume=True)

    async def _processes(self, params: Params, call: Call, resume: bool) -> Result:
        only(params, call, GROUP, "ScalingProcesses")
        named = tuple(params.get("ScalingProcesses", ()))
        await self._service.ask(commands.SuspendProcesses(call.caller.scope, params[GROUP], named, resume))
        return {}

    async def EnableMetricsCollection(self, params: Params, call: Call) -> Result:
        """But for the metrics of weights, which are not there."""
        only(params, call, GROUP, "Metrics", "Granularity")
        if params["Granularity"] != shown.GRANULARITY:
            raise invalid(f"Granularity must be {shown.GRANULARITY}", "Granularity")
        return await self._collect(params, call, stop=False)

    async def DisableMetricsCollection(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "Metrics")
        return await self._collect(params, call, stop=True)

    async def _collect(self, params: Params, call: Call, stop: bool) -> Result:
        names = tuple(params.get("Metrics", ()))
        await self._service.ask(commands.CollectMetrics(call.caller.scope, params[GROUP], names, stop))
        return {}

    # --- notifications

    async def PutNotificationConfiguration(self, params: Params, call: Call) -> Result:
        """The topic gets a test notification first; one that cannot be told is refused."""
        only(params, call, GROUP, "TopicARN", "NotificationTypes")
        if not params["NotificationTypes"]:
            raise invalid("NotificationTypes must not be empty", "NotificationTypes")
        return await self._notify(params, call, tuple(params["NotificationTypes"]))

    async def DeleteNotificationConfiguration(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "TopicARN")
        return await self._notify(params, call, ())

    async def _notify(self, params: Params, call: Call, events: tuple[str, ...]) -> Result:
        await self._service.ask(commands.SetNotifications(call.caller.scope, params[GROUP], params["TopicARN"], events))
        return {}

    async def DescribeNotificationConfigurations(self, params: Params, call: Call) -> Result:
        only(params, call, "AutoScalingGroupNames", "NextToken", "MaxRecords")

        def look(state: State) -> Result:
            found = {
                f"{name}:{topic}:{event}": {GROUP: name, "TopicARN": topic, "NotificationType": event}
                for name, one in queries.groups(
                    state, call.caller.scope, params.get("AutoScalingGroupNames", ())
                ).items()
                for topic, events in one.notifications.items()
                for event in events
            }
            kept, token = self._page(params, call, dict(sorted(found.items())))
            return {"NotificationConfigurations": kept, **token}

        return await self._service.shown(look)

    # --- tags

    async def CreateOrUpdateTags(self, params: Params, call: Call) -> Result:
        """Instances that run keep what they have."""
        only(params, call, "Tags")
        for group, tags in _by_group(params).items():
            given = {one["Key"]: one.get("Value", "") for one in tags}
            local = tuple(settings.local_keys(tags))
            await self._service.ask(commands.TagGroup(call.caller.scope, group, given, local))
        return {}

    async def DeleteTags(self, params: Params, call: Call) -> Result:
        only(params, call, "Tags")
        for group, tags in _by_group(params).items():
            keys = tuple(one["Key"] for one in tags)
            await self._service.ask(commands.TagGroup(call.caller.scope, group, {}, (), keys))
        return {}

    async def DescribeTags(self, params: Params, call: Call) -> Result:
        only(params, call, "Filters", "NextToken", "MaxRecords")
        test = filtered(params.get("Filters", ()), _TAG_FILTERS)

        def look(state: State) -> Result:
            found = {
                f"{name}:{key}": (one, key)
                for name, one in queries.groups(state, call.caller.scope).items()
                for key in sorted(one.tags)
                if test((one, key))
            }
            kept, token = self._page(params, call, dict(sorted(found.items())))
            return {"Tags": [shown.tag(one, key) for one, key in kept], **token}

        return await self._service.shown(look)


def _with_targets(given: commands.GroupSettings, targets: list[str]) -> commands.GroupSettings:
    return replace(given, target_groups=list(dict.fromkeys(targets))) if targets else given


def _sources(params: Params, call: Call) -> list[str]:
    """Target groups among TrafficSources: the only kind that there is here."""
    found = []
    for one in params.get("TrafficSources", ()):
        if one.get("Type", "elbv2") != "elbv2":
            raise refused(f"TrafficSources.Type={one['Type'][:32]}", call)
        found.append(one["Identifier"])
    return found


def _with_keys(params: Params) -> Mapping[str, Callable[[Group, Sequence[str]], bool]]:
    """The filters of groups, and tag:<key> for the keys that the request names."""
    keys = [one["Name"][4:] for one in params.get("Filters", ()) if one.get("Name", "").startswith("tag:")]
    return {**_GROUP_FILTERS, **{f"tag:{key}": _tag_is(key) for key in keys}}


def _tag_is(key: str) -> Callable[[Group, Sequence[str]], bool]:
    return lambda one, values: one.tags.get(key) in values


def _by_group(params: Params) -> dict[str, list[Params]]:
    found: dict[str, list[Params]] = {}
    for one in params["Tags"]:
        if one.get("ResourceType", "auto-scaling-group") != "auto-scaling-group" or not one.get("ResourceId"):
            raise invalid("A tag needs ResourceId, and ResourceType auto-scaling-group", "Tags")
        found.setdefault(one["ResourceId"], []).append(one)
    return found
