"""Auto Scaling by boto3 on a real cloud: a launch template of EC2, a group in its subnets, a refresh, the end."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from minicloud.client import Client
from tests.doors.test_aws_ec2 import boto
from tests.group_site import PORT, SERVE, ask
from tests.real_cloud import RealCloud, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def asg(cloud: RealCloud) -> Iterator[Any]:
    client = boto(cloud, "autoscaling")
    yield client
    client.close()


@pytest.fixture
def ec2(cloud: RealCloud) -> Iterator[Any]:
    client = boto(cloud, "ec2")
    yield client
    client.close()


def group(asg: Any, name: str) -> Any:
    found = asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return found[0] if found else None


def serving(asg: Any, name: str) -> list[Any]:
    return [one for one in group(asg, name)["Instances"] if one["LifecycleState"] == "InService"]


def test_a_group_of_a_launch_template_in_the_default_subnets(asg: Any, ec2: Any) -> None:
    name = f"aws{time.time_ns() % 10**10}"
    data = {"ImageId": "base", "InstanceType": "t3.nano"}
    made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    asg.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=1, MaxSize=4, DesiredCapacity=2, VPCZoneIdentifier=",".join(subnets),
        LaunchTemplate={"LaunchTemplateId": made["LaunchTemplateId"], "Version": "1"}, DefaultInstanceWarmup=0,
        Tags=[{"Key": "team", "Value": "a"}],
    )  # fmt: skip
    try:
        rows = until(lambda: (found := serving(asg, name)) and len(found) == 2 and found, 30, "two in service")
        assert {one["AvailabilityZone"] for one in rows} == set(group(asg, name)["AvailabilityZones"])
        assert {one["InstanceType"] for one in rows} == {"t3.nano"}
        filters = [{"Name": "tag:aws:autoscaling:groupName", "Values": [name]}, {"Name": "tag:team", "Values": ["a"]}]
        found = ec2.describe_instances(Filters=filters)["Reservations"]
        assert {one["InstanceId"] for each in found for one in each["Instances"]} == {one["InstanceId"] for one in rows}
        ec2.create_launch_template_version(
            LaunchTemplateName=name, SourceVersion="1", LaunchTemplateData={"InstanceType": "t3.micro"}
        )
        asg.start_instance_refresh(
            AutoScalingGroupName=name, Preferences={"MinHealthyPercentage": 50},
            DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateName": name, "Version": "$Latest"}},
        )  # fmt: skip

        def refreshed() -> bool:
            (one,) = asg.describe_instance_refreshes(AutoScalingGroupName=name)["InstanceRefreshes"]
            return bool(one["Status"] == "Successful")

        until(refreshed, 60, "the refresh")
        assert {one["InstanceType"] for one in serving(asg, name)} == {"t3.micro"}
        assert group(asg, name)["LaunchTemplate"]["Version"] == "2"
        with pytest.raises(ClientError, match="not found"):
            asg.set_desired_capacity(AutoScalingGroupName="nothing", DesiredCapacity=1)
    finally:
        asg.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        until(lambda: group(asg, name) is None, 30, "its end")
        ec2.delete_launch_template(LaunchTemplateName=name)


def test_a_group_needs_a_template_that_is_there(asg: Any) -> None:
    with pytest.raises(ClientError, match="valid fully-formed launch template") as caught:
        asg.create_auto_scaling_group(
            AutoScalingGroupName="none", MinSize=0, MaxSize=1, AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateName": "none"},
        )  # fmt: skip
    assert caught.value.response["Error"]["Code"] == "ValidationError" and group(asg, "none") is None


def test_a_web_tier_of_balancer_and_group(cloud: RealCloud, client: Client, asg: Any, ec2: Any) -> None:
    """What every tutorial builds: a launch template with a web server, a balancer before a group of them."""
    name = f"tier{time.time_ns() % 10**10}"
    elb = boto(cloud, "elbv2")
    data = {"ImageId": "base", "InstanceType": "t3.nano", "UserData": base64.b64encode(SERVE.encode()).decode()}
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    (targets,) = elb.create_target_group(
        Name=name, Protocol="HTTP", Port=PORT, HealthCheckPath="/health", HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2, VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
    )["TargetGroups"]  # fmt: skip
    arn = targets["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "2"}]
    )
    (balancer,) = elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )  # fmt: skip
    asg.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=2, MaxSize=2, VPCZoneIdentifier=",".join(subnets),
        LaunchTemplate={"LaunchTemplateName": name}, TargetGroupARNs=[arn], HealthCheckType="ELB",
        HealthCheckGracePeriod=30,
    )  # fmt: skip
    try:
        until(lambda: len(serving(asg, name)) == 2, 30, "two in service")
        elb.get_waiter("target_in_service").wait(TargetGroupArn=arn, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        url = f"http://{client.balancers.get(name).address}"
        until(lambda: len({ask(url) for _ in range(8)}) == 2, 20, "both answer")
        states = asg.describe_load_balancer_target_groups(AutoScalingGroupName=name)["LoadBalancerTargetGroups"]
        assert [one["LoadBalancerTargetGroupARN"] for one in states] == [arn]
    finally:
        asg.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        until(lambda: group(asg, name) is None, 30, "its end")
        assert not elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
        elb.delete_target_group(TargetGroupArn=arn)
        ec2.delete_launch_template(LaunchTemplateName=name)
        elb.close()
