"""Elastic Load Balancing by boto3 on a real cloud: a web tier, as the guides build it, that answers and heals."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doors.test_aws_ec2 import boto
from tests.doors.test_functions import package
from tests.real_cloud import RealCloud, kill, until

pytestmark = pytest.mark.timeout(300)

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
        with urllib.request.urlopen(f"http://{address}/info", timeout=20) as answer:
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


APP = """
import base64, json
def handler(event, context):
    if event["path"] == "/fail":
        raise ValueError("no")
    answer = {"statusCode": 200, "body": json.dumps(event), "isBase64Encoded": False}
    if "multiValueHeaders" in event:
        return answer | {"multiValueHeaders": {"Content-Type": ["application/json"], "Set-Cookie": ["a=1", "b=2"]}}
    return answer | {"headers": {"Content-Type": "application/json"}}
"""


def test_a_function_is_a_target(cloud: RealCloud) -> None:
    elb, functions, ec2 = (boto(cloud, name) for name in ("elbv2", "lambda", "ec2"))
    name = f"fn{time.time_ns() % 10**10}"
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    (balancer,) = elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"]
    (group,) = elb.create_target_group(Name=name, TargetType="lambda")["TargetGroups"]
    arn = group["TargetGroupArn"]
    made = functions.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Code={"ZipFile": package(APP)},
        Role="arn:aws:iam::000000000000:role/r", Timeout=20,
    )  # fmt: skip
    function = made["FunctionArn"]
    address = balancer["AvailabilityZones"][0]["LoadBalancerAddresses"][0]["IpAddress"]
    try:
        for target, code in ((function, "AccessDenied"), (function + "x", "InvalidTarget")):
            with pytest.raises(ClientError) as caught:
                elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": target}])
            assert caught.value.response["Error"]["Code"] == code
        functions.add_permission(
            FunctionName=name, StatementId="elb", Action="lambda:InvokeFunction", SourceArn=arn,
            Principal="elasticloadbalancing.amazonaws.com",
        )  # fmt: skip
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": function}])
        action = {"Type": "forward", "TargetGroupArn": arn}
        whole = balancer["LoadBalancerArn"]
        elb.create_listener(LoadBalancerArn=whole, Protocol="HTTP", Port=80, DefaultActions=[action])
        assert states(elb, arn) == ["unavailable"]
        status, event, _ = fetch(address, "/a?x=1&x=2")
        assert (status, event["path"], event["queryStringParameters"]) == (200, "/a", {"x": "2"})
        assert event["headers"]["host"] == "app.example"
        many = [{"Key": "lambda.multi_value_headers.enabled", "Value": "true"}]
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=many)
        status, event, cookies = fetch(address, "/a?x=1&x=2")
        assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]} and cookies == ["a=1", "b=2"]
        assert fetch(address, "/fail")[0] == 502
        (pid,) = cloud.actor_pids("Functions")
        kill(pid)
        until(lambda: fetch(address, "/back")[0] == 200, 30, "the function, with the process that runs it")
        functions.delete_function(FunctionName=name)
        assert fetch(address, "/gone")[0] == 502
        elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": function}])
        assert fetch(address, "/none")[0] == 503
    finally:
        elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
        elb.delete_target_group(TargetGroupArn=arn)
        for client in (elb, functions, ec2):
            client.close()


def fetch(address: str, path: str) -> tuple[int, Any, list[str]]:
    """Status, the event that was answered with (None where none was), cookies."""
    connection = http.client.HTTPConnection(address, 80, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": "app.example"})
        answer = connection.getresponse()
        body = answer.read()
        event = json.loads(body) if answer.status == 200 else None
        return answer.status, event, answer.headers.get_all("Set-Cookie") or []
    finally:
        connection.close()


def _ids(elb: Any, arn: str) -> set[str]:
    return {one["Target"]["Id"] for one in elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
