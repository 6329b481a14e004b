"""EC2, IAM, STS and SSM by boto3 on a real cloud: servers that really run."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from minicloud.client import Client
from minicloud.identity import session
from tests.real_cloud import RealCloud, until

pytestmark = pytest.mark.timeout(300)
WEB = """#!/bin/sh
mkdir -p /srv/www && echo hello from $(hostname) > /srv/www/index.html
cd /srv/www && python3 -m http.server 80 &
echo the server is up
"""
PACE = {"Delay": 0.2, "MaxAttempts": 600}


def boto(cloud: RealCloud, service: str, **options: Any) -> Any:
    return boto3.Session().client(
        service,
        endpoint_url=cloud.http,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key="x",
        **options,
    )


@pytest.fixture(scope="module")
def ec2(cloud: RealCloud) -> Iterator[Any]:
    client = boto(cloud, "ec2")
    yield client
    client.close()


@pytest.fixture(scope="module")
def web(ec2: Any) -> Iterator[dict[str, Any]]:
    """A web server from user data, on an image that is asked for by its public parameter."""
    made = ec2.run_instances(
        ImageId="resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        UserData=WEB,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}],
    )
    ids = [made["Instances"][0]["InstanceId"]]
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=PACE)
    yield ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=PACE)


def fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_a_web_server_from_user_data_answers(ec2: Any, web: dict[str, Any]) -> None:
    text = until(lambda: fetched(f"http://{web['PublicIpAddress']}/"), 30, "the web server")
    assert text == f"hello from {web['InstanceId']}\n".encode()
    ids = [web["InstanceId"]]
    for name in ("instance_status_ok", "system_status_ok"):
        ec2.get_waiter(name).wait(InstanceIds=ids, WaiterConfig=PACE)
    assert "the server is up" in until(
        lambda: ec2.get_console_output(InstanceId=ids[0]).get("Output", ""), 20, "console output"
    )


def test_the_sdk_sees_what_boto3_launched(client: Client, web: dict[str, Any]) -> None:
    one = client.instances.get(web["InstanceId"])
    assert (one.tags, one.private_ip) == ({"Name": "web"}, web["PrivateIpAddress"])
    assert client.instances.exec(one.id, ["cat", "/srv/www/index.html"]).stdout.startswith(b"hello")


def test_zones_are_the_hosts(ec2: Any) -> None:
    zones = [zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]]
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}
    assert zones and set(zones) == set(subnets)
    made = ec2.run_instances(
        ImageId="ami-0abcdef1234567890", InstanceType="t3.nano", MinCount=1, MaxCount=1, SubnetId=subnets[zones[-1]]
    )["Instances"][0]
    assert made["Placement"]["AvailabilityZone"] == zones[-1]
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])


def test_who_am_i(cloud: RealCloud) -> None:
    sts = boto(cloud, "sts")
    assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:root"
    sts.close()


def test_a_command_runs_in_the_guest(cloud: RealCloud, web: dict[str, Any]) -> None:
    ssm, instance_id = boto(cloud, "ssm"), web["InstanceId"]
    sent = ssm.send_command(
        InstanceIds=[instance_id],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": ["hostname; pwd", "echo oops >&2; exit 4"], "workingDirectory": ["/srv"]},
    )
    given = {"CommandId": sent["Command"]["CommandId"], "InstanceId": instance_id}
    done = until(lambda: _ended(ssm, given), 20, "the command's end")
    assert (done["Status"], done["ResponseCode"]) == ("Failed", 4)
    assert done["StandardOutputContent"] == f"{instance_id}\n/srv\n" and done["StandardErrorContent"] == "oops\n"
    ssm.close()


def _ended(ssm: Any, given: dict[str, str]) -> dict[str, Any]:
    answer = dict(ssm.get_command_invocation(**given))
    return answer if answer["Status"] not in ("Pending", "InProgress") else {}


def test_a_guest_gets_the_credentials_of_its_role(cloud: RealCloud, client: Client, ec2: Any) -> None:
    iam = boto(cloud, "iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    iam.create_instance_profile(InstanceProfileName="app")
    iam.add_role_to_instance_profile(InstanceProfileName="app", RoleName="app")
    made = ec2.run_instances(
        ImageId="ami-0abcdef1234567890",
        InstanceType="t3.nano",
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Name": "app"},
    )
    instance_id = made["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig=PACE)
    script = (
        'base="$AWS_EC2_METADATA_SERVICE_ENDPOINT/latest"; '
        'token=$(curl -s -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" $base/api/token); '
        'ask() { curl -s -H "X-aws-ec2-metadata-token: $token" $base/meta-data/iam/security-credentials/$1; }; '
        'ask $(ask "")'
    )
    given = json.loads(client.instances.exec(instance_id, ["sh", "-c", script]).stdout)
    secret = (cloud.data / "secret.key").read_bytes()
    caller = session.opened(secret, given["Token"], given["AccessKeyId"], time.time())
    assert caller.arn == f"arn:aws:sts::000000000000:assumed-role/app/{instance_id}"
    assert given["SecretAccessKey"] == session.secret_of(secret, given["AccessKeyId"])
    ec2.terminate_instances(InstanceIds=[instance_id])
    iam.close()
