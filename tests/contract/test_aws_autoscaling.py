"""Auto Scaling by boto3, over a compute that is played and a virtual clock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from minicloud.aws.call import Door
from minicloud.base.arn import Scope
from minicloud.scaling.aws.autoscaling import AutoScaling
from minicloud.scaling.aws.base import Zone
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world
from tests.pure.scaling_world import ZONES
from tests.pure.test_scaling_service import Cloud, Compute, end

TARGETS = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/0123456789abcdef"
SOURCE = {"LaunchTemplate": {"LaunchTemplateName": "web", "Version": "$Latest"}}


class Places:
    async def shown_zones(self, scope: Scope) -> dict[str, Zone]:
        return {scope.region + zone[-1]: Zone(zone, f"subnet-{zone[-1]}") for zone in ZONES}


@dataclass
class World:
    cloud: Cloud
    aws: AwsWorld
    asg: AsyncBoto

    async def create(self, name: str = "web", **given: Any) -> None:
        zones = {} if "VPCZoneIdentifier" in given else {"AvailabilityZones": [ZONES[0], ZONES[1]]}
        source = {} if "MixedInstancesPolicy" in given or "LaunchTemplate" in given else SOURCE
        await self.asg.create_auto_scaling_group(
            **{"AutoScalingGroupName": name, "MinSize": 0, "MaxSize": 6, **zones, **source, **given}
        )

    async def group(self, name: str = "web") -> Any:
        (found,) = (await self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name]))["AutoScalingGroups"]
        return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = VirtualClock(1_764_000_000.0)
    cloud = await Cloud(clock, MemoryDisk(), Compute(clock)).start()
    async with aws_world(Door("autoscaling", AutoScaling(cloud.service, Places(), b"pages"))) as aws:
        yield World(cloud, aws, aws.client("autoscaling"))
    await end(cloud)


@contextlib.contextmanager
def refused(code: str, text: str | None = None) -> Any:
    with pytest.raises(ClientError, match=text) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code


async def test_a_group_from_its_making_to_its_end(world: World) -> None:
    tags = [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d", "PropagateAtLaunch": False}]
    await world.create(
        DesiredCapacity=2, Tags=tags, TargetGroupARNs=[TARGETS], HealthCheckType="ELB", HealthCheckGracePeriod=30,
        DefaultInstanceWarmup=0, MaxInstanceLifetime=86_400, NewInstancesProtectedFromScaleIn=False,
        CapacityRebalance=False, TerminationPolicies=["OldestInstance"],
    )  # fmt: skip
    await world.cloud.run(40)
    found = await world.group()
    assert (found["DesiredCapacity"], found["HealthCheckType"], found["DefaultInstanceWarmup"]) == (2, "ELB", 0)
    assert found["LaunchTemplate"] == {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web", "Version": "$Latest"}
    assert found["AvailabilityZones"] == [ZONES[0], ZONES[1]] and found["VPCZoneIdentifier"] == "subnet-a,subnet-b"
    assert [one["LifecycleState"] for one in found["Instances"]] == ["InService"] * 2
    assert found["TrafficSources"] == [{"Identifier": TARGETS, "Type": "elbv2"}]
    assert [(one["Key"], one["PropagateAtLaunch"]) for one in found["Tags"]] == [("a", True), ("c", False)]
    await world.asg.update_auto_scaling_group(AutoScalingGroupName="web", MaxSize=9, DefaultInstanceWarmup=-1)
    assert (await world.group())["MaxSize"] == 9 and "DefaultInstanceWarmup" not in await world.group()
    await world.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    await world.cloud.run(40)
    newest = (await world.asg.describe_scaling_activities(AutoScalingGroupName="web", MaxRecords=1))["Activities"][0]
    assert "from 2 to 3" in newest["Cause"] and newest["StatusCode"] == "Successful" and newest["Progress"] == 100
    assert json.loads(newest["Details"])["InstanceId"].startswith("i-")
    with refused("ResourceInUse"):
        await world.asg.delete_auto_scaling_group(AutoScalingGroupName="web")
    await world.asg.delete_auto_scaling_group(AutoScalingGroupName="web", ForceDelete=True)
    assert (await world.group())["Status"] == "Delete in progress"
    await world.cloud.run(20)
    assert (await world.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["web"]))["AutoScalingGroups"] == []


async def test_subnets_mixed_instances_and_pages(world: World) -> None:
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-9", "Version": "2"},
            "Overrides": [{"InstanceType": "t3.small"}, {"InstanceType": "t3.micro"}],
        },
        "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 100, "OnDemandBaseCapacity": 0},
    }
    await world.create("mixed", VPCZoneIdentifier="subnet-c, subnet-a", MixedInstancesPolicy=policy)
    found = await world.group("mixed")
    assert found["AvailabilityZones"] == [ZONES[2], ZONES[0]] and set(found["VPCZoneIdentifier"].split(",")) == {
        "subnet-a", "subnet-c"
    }  # fmt: skip
    shown = found["MixedInstancesPolicy"]["LaunchTemplate"]
    assert [one["InstanceType"] for one in shown["Overrides"]] == [
        "t3.small",
        "t3.micro",
    ] and "LaunchTemplate" not in found
    for number in range(4):
        await world.create(f"g{number}", Tags=[{"Key": "team", "Value": str(number % 2)}])
    pages = await world.aws.run(
        lambda: [
            [one["AutoScalingGroupName"] for one in page["AutoScalingGroups"]]
            for page in world.asg.boto.get_paginator("describe_auto_scaling_groups").paginate(
                PaginationConfig={"PageSize": 2}
            )
        ]
    )
    assert pages == [["g0", "g1"], ["g2", "g3"], ["mixed"]]
    filters = [{"Name": "tag:team", "Values": ["1"]}]
    some = await world.asg.describe_auto_scaling_groups(Filters=filters)
    assert [one["AutoScalingGroupName"] for one in some["AutoScalingGroups"]] == ["g1", "g3"]
    with refused("InvalidNextToken"):
        await world.asg.describe_auto_scaling_groups(NextToken="nonsense")
    other = world.aws.client("autoscaling", account="111122223333", region="eu-west-1")
    assert (await other.describe_auto_scaling_groups())["AutoScalingGroups"] == []
    await other.create_auto_scaling_group(
        AutoScalingGroupName="far", MinSize=0, MaxSize=1, AvailabilityZones=["eu-west-1b"], **SOURCE
    )
    (far,) = (await other.describe_auto_scaling_groups())["AutoScalingGroups"]
    assert far["AvailabilityZones"] == ["eu-west-1b"] and ":eu-west-1:111122223333:" in far["AutoScalingGroupARN"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"MinSize": 7}, "greater than"),
        ({"AvailabilityZones": []}, "At least one Availability Zone or VPC Subnet is required"),
        ({"ServiceLinkedRoleARN": "arn:aws:iam::000000000000:role/mine"}, "ServiceLinkedRoleARN"),
        ({"DesiredCapacity": 9}, "max"),
        ({"AvailabilityZones": ["us-east-1z"]}, "us-east-1z"),
        ({"VPCZoneIdentifier": "subnet-z"}, "subnet-z"),
        ({"LaunchTemplate": {"LaunchTemplateName": "nothing"}}, "valid fully-formed launch template"),
        ({"LaunchTemplate": {"LaunchTemplateName": "web", "Version": "99"}}, "specified version 99"),
        ({"TargetGroupARNs": ["nothing"]}, "Target Groups may not be valid"),
        ({"CapacityRebalance": True}, "CapacityRebalance"),
        ({"LaunchConfigurationName": "old"}, "LaunchConfigurationName"),
        ({"PlacementGroup": "near"}, "PlacementGroup"),
        ({"InstanceMaintenancePolicy": {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 110}}, "Maintenance"),
        ({"HealthCheckType": "EBS"}, "EBS"),
        ({"MixedInstancesPolicy": {"LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": "web"},
            "Overrides": [{"InstanceType": "t3.micro", "WeightedCapacity": "2"}]}}}, "WeightedCapacity"),
        ({"MixedInstancesPolicy": {"LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": "web"},
            "Overrides": [{"InstanceRequirements": {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}}]}}},
         "InstanceRequirements"),
        ({"MixedInstancesPolicy": {"LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": "web"}},
            "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 50}}}, "OnDemandPercentage"),
        ({"MixedInstancesPolicy": {"LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": "web"}},
            "InstancesDistribution": {"SpotMaxPrice": "1"}}}, "SpotMaxPrice"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_by_name_and_nothing_is_made(
    world: World, given: dict[str, Any], text: str
) -> None:
    with refused("ValidationError", text):
        await world.create(**given)
    assert (await world.asg.describe_auto_scaling_groups())["AutoScalingGroups"] == []


async def test_a_name_that_is_taken_and_a_group_that_is_not_there(world: World) -> None:
    await world.create()
    with refused("AlreadyExists"):
        await world.create()
    with refused("ValidationError", "not found"):
        await world.asg.update_auto_scaling_group(AutoScalingGroupName="nothing", MaxSize=1)
    with refused("ValidationError", "above max value 6"):
        await world.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=7)


async def test_instances_move(world: World) -> None:
    await world.create(DesiredCapacity=3)
    await world.cloud.run(40)
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    rows = (await asg.describe_auto_scaling_instances())["AutoScalingInstances"]
    assert [one["HealthStatus"] for one in rows] == ["HEALTHY"] * 3
    first, second, third = [one["InstanceId"] for one in rows]
    await asg.set_instance_protection(**named, InstanceIds=[first], ProtectedFromScaleIn=True)
    (one,) = (await asg.describe_auto_scaling_instances(InstanceIds=[first]))["AutoScalingInstances"]
    assert one["ProtectedFromScaleIn"]
    gone = await asg.enter_standby(**named, InstanceIds=[second], ShouldDecrementDesiredCapacity=True)
    assert "Moving EC2 instance to Standby" in gone["Activities"][0]["Description"]
    await world.cloud.run(3)
    back = await asg.exit_standby(**named, InstanceIds=[second])
    assert "out of Standby" in back["Activities"][0]["Description"]
    await asg.set_instance_health(InstanceId=third, HealthStatus="Unhealthy")
    ended = await asg.terminate_instance_in_auto_scaling_group(InstanceId=second, ShouldDecrementDesiredCapacity=True)
    assert "Terminating EC2 instance" in ended["Activity"]["Description"]
    await world.cloud.run(40)
    left = await asg.detach_instances(**named, InstanceIds=[first], ShouldDecrementDesiredCapacity=True)
    assert "Detaching EC2 instance" in left["Activities"][0]["Description"]
    await world.cloud.run(3)
    await asg.attach_instances(**named, InstanceIds=[first])
    await world.cloud.run(3)
    assert first in [one["InstanceId"] for one in (await world.group())["Instances"]]
    with refused("ValidationError", "No managed instance"):
        await asg.set_instance_health(InstanceId="i-0123456789abcdef0", HealthStatus="Unhealthy")


async def test_target_groups_tags_metrics_and_processes(world: World) -> None:
    await world.create(DesiredCapacity=1)
    await world.cloud.run(40)
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    await asg.attach_load_balancer_target_groups(**named, TargetGroupARNs=[TARGETS])
    (state,) = (await asg.describe_load_balancer_target_groups(**named))["LoadBalancerTargetGroups"]
    assert state == {"LoadBalancerTargetGroupARN": TARGETS, "State": "Added"}
    await world.cloud.run(2)
    await asg.detach_traffic_sources(**named, TrafficSources=[{"Identifier": TARGETS, "Type": "elbv2"}])
    (state,) = (await asg.describe_traffic_sources(**named))["TrafficSources"]
    assert state["State"] == "Removing"
    await asg.attach_traffic_sources(**named, TrafficSources=[{"Identifier": TARGETS}])
    await asg.detach_load_balancer_target_groups(**named, TargetGroupARNs=[TARGETS])
    assert (await asg.describe_load_balancers(**named))["LoadBalancers"] == []
    tag = {
        "ResourceId": "web",
        "ResourceType": "auto-scaling-group",
        "Key": "a",
        "Value": "b",
        "PropagateAtLaunch": True,
    }
    await asg.create_or_update_tags(Tags=[tag])
    filters = [{"Name": "auto-scaling-group", "Values": ["web"]}, {"Name": "propagate-at-launch", "Values": ["true"]}]
    assert (await asg.describe_tags(Filters=filters))["Tags"] == [tag]
    await asg.delete_tags(Tags=[{"ResourceId": "web", "ResourceType": "auto-scaling-group", "Key": "a"}])
    assert (await asg.describe_tags())["Tags"] == []
    await asg.enable_metrics_collection(**named, Granularity="1Minute", Metrics=["GroupMinSize"])
    assert (await world.group())["EnabledMetrics"] == [{"Metric": "GroupMinSize", "Granularity": "1Minute"}]
    await asg.disable_metrics_collection(**named)
    assert (await world.group())["EnabledMetrics"] == []
    await asg.suspend_processes(**named, ScalingProcesses=["Launch"])
    assert [one["ProcessName"] for one in (await world.group())["SuspendedProcesses"]] == ["Launch"]
    await asg.resume_processes(**named)
    assert (await world.group())["SuspendedProcesses"] == []


async def test_hooks_and_warm_pools(world: World) -> None:
    hook = {"LifecycleHookName": "boot", "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
            "HeartbeatTimeout": 60, "RoleARN": "arn:aws:iam::000000000000:role/asg"}  # fmt: skip
    await world.create(DesiredCapacity=1, LifecycleHookSpecificationList=[hook])
    await world.cloud.run(30)
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    (one,) = (await world.group())["Instances"]
    assert one["LifecycleState"] == "Pending:Wait"
    told = {**named, "LifecycleHookName": "boot", "InstanceId": one["InstanceId"]}
    await asg.record_lifecycle_action_heartbeat(**told)
    await asg.complete_lifecycle_action(**told, LifecycleActionResult="CONTINUE")
    await world.cloud.run(1)
    assert (await world.group())["Instances"][0]["LifecycleState"] == "InService"
    await asg.put_lifecycle_hook(**named, LifecycleHookName="boot", HeartbeatTimeout=90)
    (shown,) = (await asg.describe_lifecycle_hooks(**named))["LifecycleHooks"]
    assert (shown["HeartbeatTimeout"], shown["GlobalTimeout"], shown["RoleARN"]) == (90, 9_000, hook["RoleARN"])
    await asg.delete_lifecycle_hook(**named, LifecycleHookName="boot")
    await asg.put_warm_pool(**named, MinSize=1, MaxGroupPreparedCapacity=2, PoolState="Running")
    await world.cloud.run(40)
    pool = await asg.describe_warm_pool(**named)
    assert pool["WarmPoolConfiguration"]["PoolState"] == "Running" and len(pool["Instances"]) == 1
    assert (await world.group())["WarmPoolSize"] == 1
    await asg.put_warm_pool(**named, InstanceReusePolicy={"ReuseOnScaleIn": True})
    pool = await asg.describe_warm_pool(**named)
    assert pool["WarmPoolConfiguration"]["InstanceReusePolicy"] == {"ReuseOnScaleIn": True}
    await asg.delete_warm_pool(**named)
    assert "WarmPoolConfiguration" not in await asg.describe_warm_pool(**named)


async def _policies(world: World) -> str:
    """One of every kind; answers with the ARN of the simple one."""
    await world.create(DesiredCapacity=1, DefaultInstanceWarmup=0)
    await world.cloud.run(40)
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    tracking = {
        "TargetValue": 50.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
    }
    made = await asg.put_scaling_policy(
        **named, PolicyName="cpu", PolicyType="TargetTrackingScaling", TargetTrackingConfiguration=tracking
    )
    assert made["PolicyARN"].endswith(":policyName/cpu") and made["Alarms"] == []
    metric = {
        "MetricName": "Load",
        "Namespace": "My/App",
        "Statistic": "Average",
        "Dimensions": [{"Name": "a", "Value": "b"}],
    }
    own = {"TargetValue": 5.0, "CustomizedMetricSpecification": metric, "DisableScaleIn": True}
    await asg.put_scaling_policy(
        **named, PolicyName="own", PolicyType="TargetTrackingScaling", TargetTrackingConfiguration=own, Enabled=False
    )
    steps = [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}]
    await asg.put_scaling_policy(
        **named, PolicyName="steps", PolicyType="StepScaling", AdjustmentType="ChangeInCapacity", StepAdjustments=steps,
        EstimatedInstanceWarmup=10,
    )  # fmt: skip
    simple = await asg.put_scaling_policy(
        **named, PolicyName="one", AdjustmentType="ChangeInCapacity", ScalingAdjustment=1, Cooldown=60
    )
    ahead = {"MetricSpecifications": [{"TargetValue": 100.0, "PredefinedMetricPairSpecification": {
        "PredefinedMetricType": "ASGCPUUtilization"}}], "Mode": "ForecastOnly"}  # fmt: skip
    await asg.put_scaling_policy(
        **named, PolicyName="ahead", PolicyType="PredictiveScaling", PredictiveScalingConfiguration=ahead
    )
    shown = {one["PolicyName"]: one for one in (await asg.describe_policies(**named))["ScalingPolicies"]}
    assert list(shown) == ["ahead", "cpu", "one", "own", "steps"]
    assert shown["own"]["TargetTrackingConfiguration"] == own and not shown["own"]["Enabled"]
    assert shown["steps"]["StepAdjustments"] == steps and shown["steps"]["EstimatedInstanceWarmup"] == 10
    assert (shown["one"]["Cooldown"], shown["one"]["PolicyType"]) == (60, "SimpleScaling")
    assert shown["ahead"]["PredictiveScalingConfiguration"]["SchedulingBufferTime"] == 300
    return str(simple["PolicyARN"])


async def test_policies_and_forecasts(world: World) -> None:
    simple = await _policies(world)
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    await asg.execute_policy(PolicyName=simple)
    assert (await world.group())["DesiredCapacity"] == 2
    with refused("ScalingActivityInProgress"):
        await asg.execute_policy(**named, PolicyName="one", HonorCooldown=True)
    await world.cloud.run(40)
    await asg.execute_policy(**named, PolicyName="steps", MetricValue=95.0, BreachThreshold=80.0)
    assert (await world.group())["DesiredCapacity"] == 3
    now = world.cloud.clock.wall()
    forecast = await asg.get_predictive_scaling_forecast(
        **named, PolicyName="ahead", StartTime=now - 3_600, EndTime=now + 7_200
    )
    assert len(forecast["CapacityForecast"]["Values"]) == len(forecast["LoadForecast"][0]["Timestamps"]) >= 8
    await asg.delete_policy(**named, PolicyName="cpu")
    with refused("ValidationError", "policy"):
        await asg.delete_policy(**named, PolicyName="cpu")


async def test_a_policy_that_makes_no_sense_is_told_so(world: World) -> None:
    await world.create()
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    steps = [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}]
    with refused("ValidationError", "TargetTrackingConfiguration"):
        await asg.put_scaling_policy(**named, PolicyName="x", PolicyType="TargetTrackingScaling")
    tracking = {
        "TargetValue": 50.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
    }
    await asg.put_scaling_policy(
        **named, PolicyName="zero", PolicyType="TargetTrackingScaling", TargetTrackingConfiguration=tracking, Cooldown=0
    )
    await asg.delete_policy(**named, PolicyName="zero")
    with refused("ValidationError", "Cooldown"):
        await asg.put_scaling_policy(
            **named, PolicyName="x", PolicyType="StepScaling", AdjustmentType="ChangeInCapacity",
            StepAdjustments=steps, Cooldown=5,
        )  # fmt: skip


async def test_scheduled_actions_one_and_many(world: World) -> None:
    await world.create()
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    await asg.put_scheduled_update_group_action(
        **named, ScheduledActionName="nine", Recurrence="0 9 * * *", TimeZone="Europe/Berlin", DesiredCapacity=2
    )
    at = world.cloud.clock.wall() + 100
    actions = [{"ScheduledActionName": "soon", "StartTime": at, "MinSize": 1},
               {"ScheduledActionName": "bad", "Recurrence": "61 * * * *", "MinSize": 1}]  # fmt: skip
    reply = await asg.batch_put_scheduled_update_group_action(**named, ScheduledUpdateGroupActions=actions)
    (failed,) = reply["FailedScheduledUpdateGroupActions"]
    assert (failed["ScheduledActionName"], failed["ErrorCode"]) == ("bad", "ValidationError")
    found = (await asg.describe_scheduled_actions(**named))["ScheduledUpdateGroupActions"]
    assert [(one["ScheduledActionName"], one.get("TimeZone")) for one in found] == [
        ("nine", "Europe/Berlin"), ("soon", None)
    ]  # fmt: skip
    assert found[1]["StartTime"].timestamp() == at
    gone = await asg.batch_delete_scheduled_action(**named, ScheduledActionNames=["soon", "nothing"])
    assert [one["ScheduledActionName"] for one in gone["FailedScheduledActions"]] == ["nothing"]
    await asg.delete_scheduled_action(**named, ScheduledActionName="nine")
    assert (await asg.describe_scheduled_actions())["ScheduledUpdateGroupActions"] == []
    with refused("ValidationError", "recurrence string"):
        await asg.put_scheduled_update_group_action(
            **named, ScheduledActionName="bad", Recurrence="61 * * * *", MinSize=1
        )


async def test_instance_refreshes(world: World) -> None:
    fixed = {"LaunchTemplate": {"LaunchTemplateName": "web", "Version": "1"}}
    await world.create(DesiredCapacity=2, DefaultInstanceWarmup=0, **fixed)
    await world.cloud.run(40)
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    wanted = {"LaunchTemplate": {"LaunchTemplateName": "web", "Version": "2"}}
    preferences = {"MinHealthyPercentage": 50, "SkipMatching": True, "AutoRollback": True}
    begun = await asg.start_instance_refresh(**named, DesiredConfiguration=wanted, Preferences=preferences)
    with refused("InstanceRefreshInProgress"):
        await asg.start_instance_refresh(**named)
    await world.cloud.run(200)
    (one,) = (await asg.describe_instance_refreshes(**named))["InstanceRefreshes"]
    assert (one["InstanceRefreshId"], one["Status"], one["PercentageComplete"]) == (
        begun["InstanceRefreshId"], "Successful", 100
    )  # fmt: skip
    assert one["DesiredConfiguration"]["LaunchTemplate"]["Version"] == "2" and one["Preferences"]["SkipMatching"]
    assert (await world.group())["LaunchTemplate"]["Version"] == "2"
    with refused("ActiveInstanceRefreshNotFound"):
        await asg.cancel_instance_refresh(**named)
    await asg.start_instance_refresh(**named)
    with refused("IrreversibleInstanceRefresh"):
        await asg.rollback_instance_refresh(**named)
    assert (await asg.cancel_instance_refresh(**named))["InstanceRefreshId"]
    with refused("ValidationError", "Strategy"):
        await asg.start_instance_refresh(**named, Strategy="ReplaceRootVolume")
    with refused("ValidationError", "alarm a does not exist"):
        await asg.start_instance_refresh(**named, Preferences={"AlarmSpecification": {"Alarms": ["a"]}})
    await asg.start_instance_refresh(**named, Preferences={"AlarmSpecification": {"Alarms": ["errors"]}})
    (one, *_) = (await asg.describe_instance_refreshes(**named))["InstanceRefreshes"]
    assert one["Preferences"]["AlarmSpecification"] == {"Alarms": ["errors"]}


async def test_what_there_is_to_choose_from(world: World) -> None:
    asg = world.asg
    assert len((await asg.describe_adjustment_types())["AdjustmentTypes"]) == 3
    assert len((await asg.describe_lifecycle_hook_types())["LifecycleHookTypes"]) == 2
    assert len((await asg.describe_scaling_process_types())["Processes"]) == 9
    assert "Default" in (await asg.describe_termination_policy_types())["TerminationPolicyTypes"]
    assert (await asg.describe_metric_collection_types())["Granularities"] == [{"Granularity": "1Minute"}]
    assert (await asg.describe_account_limits())["NumberOfAutoScalingGroups"] == 0
    assert len((await asg.describe_auto_scaling_notification_types())["AutoScalingNotificationTypes"]) == 5
    with refused("UnsupportedOperation", "Use launch templates"):
        await asg.create_launch_configuration(LaunchConfigurationName="old")
    assert (await asg.describe_launch_configurations())["LaunchConfigurations"] == []
    with refused("ValidationError", "Launch configuration old not found"):
        await asg.delete_launch_configuration(LaunchConfigurationName="old")
    with refused("InvalidAction"):
        await asg.attach_load_balancers(AutoScalingGroupName="web", LoadBalancerNames=["classic"])


async def test_topics_are_told(world: World) -> None:
    topic = "arn:aws:sns:us-east-1:000000000000:ops"
    await world.create()
    asg, named = world.asg, {"AutoScalingGroupName": "web"}
    both = ["autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_TERMINATE"]
    await asg.put_notification_configuration(**named, TopicARN=topic, NotificationTypes=both)
    rows = (await asg.describe_notification_configurations())["NotificationConfigurations"]
    assert rows == [{**named, "TopicARN": topic, "NotificationType": one} for one in both]
    await asg.set_desired_capacity(**named, DesiredCapacity=1)
    await world.cloud.run(40)
    told = [json.loads(text) for target, text in world.cloud.told.told if target == topic]
    assert [one["Event"] for one in told] == ["autoscaling:TEST_NOTIFICATION", both[0]]
    assert told[1]["EC2InstanceId"].startswith("i-") and told[1]["Origin"] == "EC2"
    await asg.delete_notification_configuration(**named, TopicARN=topic)
    assert (await asg.describe_notification_configurations(AutoScalingGroupNames=["web"]))[
        "NotificationConfigurations"
    ] == []
    with refused("ValidationError", "notification configuration"):
        await asg.delete_notification_configuration(**named, TopicARN=topic)
    with refused("ValidationError", "not a valid notification type"):
        await asg.put_notification_configuration(**named, TopicARN=topic, NotificationTypes=["launch"])
