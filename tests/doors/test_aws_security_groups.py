"""Security groups hold on a real cloud: what no rule lets in does not come in, from the host or from a neighbour."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from minicloud.client import Client
from tests.doors.test_aws_ec2 import PACE, boto
from tests.real_cloud import RealCloud, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="guests have no networks")]
WEB = "#!/bin/sh\ncd /tmp && echo hello > index.html && python3 -m http.server 80 &\n"
ASK = "import urllib.request; print(urllib.request.urlopen('http://{}/', timeout=2).read().decode())"
ANYWHERE = [{"CidrIp": "0.0.0.0/0"}]


@pytest.fixture(scope="module")
def ec2(cloud: RealCloud) -> Iterator[Any]:
    client = boto(cloud, "ec2")
    yield client
    client.close()


def reaches(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
            return bool(answer.read())
    except OSError:
        return False


def launch(ec2: Any, groups: list[str], user_data: str = "") -> dict[str, Any]:
    given = {"SecurityGroupIds": groups} if groups else {}
    made = ec2.run_instances(
        ImageId="ami-0abcdef1234567890", InstanceType="t3.micro", MinCount=1, MaxCount=1, UserData=user_data, **given
    )
    ids = [made["Instances"][0]["InstanceId"]]
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=PACE)
    return dict(ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0])


def test_what_no_rule_lets_in_stays_outside(client: Client, ec2: Any) -> None:
    group = ec2.create_security_group(GroupName="closed", Description="nothing comes in")["GroupId"]
    mates = ec2.create_security_group(GroupName="mates", Description="who may ask")["GroupId"]
    server, mate, stranger = launch(ec2, [group], WEB), launch(ec2, [mates]), launch(ec2, [])
    ids = [one["InstanceId"] for one in (server, mate, stranger)]
    address = server["PrivateIpAddress"]
    try:
        until(
            lambda: client.instances.exec(ids[0], ["curl", "-s", "http://127.0.0.1/"]).exit_code == 0, 20, "the server"
        )
        assert not reaches(address)

        def asks(one: dict[str, Any]) -> bool:
            script = ["python3", "-c", ASK.format(address)]
            return client.instances.exec(one["InstanceId"], script).exit_code == 0

        assert not asks(stranger)
        rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
        from_mates = [{**rule, "UserIdGroupPairs": [{"GroupId": mates}]}]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=from_mates)
        until(lambda: asks(mate), 10, "a member of the group that is let in")
        assert not asks(stranger)
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**rule, "IpRanges": ANYWHERE}])
        until(lambda: reaches(address), 10, "port 80 from anywhere")
        until(lambda: asks(stranger), 10, "a neighbour, too")
        ec2.revoke_security_group_egress(GroupId=mates, IpPermissions=[{"IpProtocol": "-1", "IpRanges": ANYWHERE}])
        until(lambda: not asks(mate), 10, "what may not go out")
        ec2.modify_instance_attribute(InstanceId=ids[1], Groups=[group])
        until(lambda: asks(mate), 10, "another group")
        with pytest.raises(ec2.exceptions.ClientError, match="DependencyViolation"):
            ec2.delete_security_group(GroupId=group)
    finally:
        ec2.terminate_instances(InstanceIds=ids)
        ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=PACE)
    ec2.delete_security_group(GroupId=group)
    ec2.delete_security_group(GroupId=mates)


def test_groups_by_the_command_line_and_the_sdk(cloud: RealCloud, client: Client) -> None:
    cloud.cli("security-group", "create", "by-hand")
    cloud.cli("security-group", "allow", "by-hand", "tcp:80", "--peer", "192.0.2.0/24", "--description", "nobody")
    shown = cloud.cli("security-group", "show", "by-hand").stdout
    assert "tcp:80" in shown and "192.0.2.0/24" in shown and "out" in shown
    (one,) = client.instances.launch("t3.micro", security_groups=["by-hand"], user_data=WEB, wait=True)
    assert one.security_groups == ("by-hand",)
    assert not reaches(one.private_ip)
    found = client.security_groups.allow("by-hand", "tcp", 80)
    assert [rule.peer for rule in found.ingress] == ["192.0.2.0/24", "0.0.0.0/0"] and found.instances == 1
    until(lambda: reaches(one.private_ip), 10, "port 80 from anywhere")
    changed = client.security_groups.revoke("by-hand", [rule.id for rule in found.ingress])
    assert not changed.ingress
    assert "default" in [group.name for group in client.security_groups.list()]
    assert client.instances.modify(one.id, security_groups=["default"]).security_groups == ("default",)
    until(lambda: reaches(one.private_ip), 10, "the default group")
    refused = cloud.cli("security-group", "allow", "by-hand", "tcp:http", check=False)
    assert refused.returncode == 2 and "tcp:80" in refused.stderr
    client.instances.terminate(one.id)
    client.security_groups.delete("by-hand")
