"""Elastic Load Balancing by boto3 on a real cloud: a web tier, as the guides build it, that answers and heals."""

from __future__ import annotations

import base64
import time
import urllib.request
from typing import Any

import pytest

from tests.doors.test_aws_ec2 import boto
from tests.real_cloud import RealCloud, until

pytestmark = pytest.mark.timeout(150)

SERVE = "#!/bin/sh\npython3 -m minicloud_workers.http_server --port 8080 &\n"


def states(elb: Any, arn: str) -> list[str]:
    return [
        one["TargetHealth"]["State"]
        for one in elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    ]


def test_a_group_behind_a_balancer_answers_and_replaces_what_ends(cloud: RealCloud) -> None:
    elb, asg, ec2 = (boto(cloud, name) for name in ("elbv2", "autoscaling", "ec2"))
    name = f"web{time.time_ns() % 10**10}"
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    (balancer,) = elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"]
    (group,) = elb.create_target_group(
        Name=name, Protocol="HTTP", Port=8080, VpcId=balancer["VpcId"], HealthCheckPath="/health",
        HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2,
    )["TargetGroups"]  # fmt: skip
    arn = group["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}]
    )
    action = {"Type": "forward", "TargetGroupArn": arn}
    elb.create_listener(LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=[action])
    data = {"ImageId": "base", "InstanceType": "t3.nano", "UserData": _base64(SERVE)}
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    asg.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=2, MaxSize=3, VPCZoneIdentifier=",".join(subnets),
        LaunchTemplate={"LaunchTemplateName": name}, TargetGroupARNs=[arn], HealthCheckType="ELB",
        HealthCheckGracePeriod=30,
    )  # fmt: skip
    try:
        until(lambda: states(elb, arn) == ["healthy", "healthy"], 40, "two healthy targets")
        elb.get_waiter("target_in_service").wait(TargetGroupArn=arn, WaiterConfig={"Delay": 1})
        address = balancer["AvailabilityZones"][0]["LoadBalancerAddresses"][0]["IpAddress"]
        with urllib.request.urlopen(f"http://{address}/info", timeout=5) as answer:
            assert answer.status == 200
        (found,) = asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        victim = found["Instances"][0]["InstanceId"]
        ec2.terminate_instances(InstanceIds=[victim])
        healed = lambda: states(elb, arn) == ["healthy", "healthy"] and victim not in _ids(elb, arn)  # noqa: E731
        until(healed, 40, "another in its place")
    finally:
        asg.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        gone = lambda: not asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]  # noqa: E731
        until(gone, 40, "its end")
        elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
        elb.delete_target_group(TargetGroupArn=arn)
        ec2.delete_launch_template(LaunchTemplateName=name)
        for client in (elb, asg, ec2):
            client.close()


def _ids(elb: Any, arn: str) -> set[str]:
    return {one["Target"]["Id"] for one in elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
