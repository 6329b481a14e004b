"""Security groups through boto3, and what hosts are told of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicloud.sandbox.firewall import Firewall, Rule, ruleset
from minicloud.wire import common_pb2, fleet_pb2
from minicloud.wire import instance_pb2 as instances
from tests.contract.aws_world import refused
from tests.contract.ec2_world import Ec2World, ec2_world

SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
ANYWHERE = {"CidrIp": "0.0.0.0/0"}


async def made(ec2: Any, name: str = "web", **more: Any) -> str:
    answer = await ec2.create_security_group(GroupName=name, Description="of a test", **more)
    return str(answer["GroupId"])


async def test_groups_and_rules_as_terraform_reads_them(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        group = await made(ec2)
        with refused("InvalidGroup.Duplicate"):
            await made(ec2)
        (shown,) = (await ec2.describe_security_groups(GroupIds=[group]))["SecurityGroups"]
        assert shown["IpPermissions"] == [] and shown["IpPermissionsEgress"][0]["IpProtocol"] == "-1"
        ranges = [{**ANYWHERE, "Description": "all"}, {"CidrIp": "10.0.0.1/8"}]
        added = await ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=[{**SSH, "IpRanges": ranges, "UserIdGroupPairs": [{"GroupId": group}]}]
        )
        assert len(added["SecurityGroupRules"]) == 3
        with refused("InvalidPermission.Duplicate"):
            await ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**SSH, "IpRanges": [ANYWHERE]}])
        (shown,) = (await ec2.describe_security_groups(GroupIds=[group]))["SecurityGroups"]
        (permission,) = shown["IpPermissions"]
        assert {one["CidrIp"] for one in permission["IpRanges"]} == {"0.0.0.0/0", "10.0.0.0/8"}
        assert permission["UserIdGroupPairs"][0]["GroupId"] == group
        mine = [{"Name": "group-id", "Values": [group]}]
        rules = (await ec2.describe_security_group_rules(Filters=mine))["SecurityGroupRules"]
        assert len(rules) == 4 and sum(rule["IsEgress"] for rule in rules) == 1
        first = added["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        changed = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 81, "CidrIpv4": "192.0.2.0/24"}
        await ec2.modify_security_group_rules(
            GroupId=group, SecurityGroupRules=[{"SecurityGroupRuleId": first, "SecurityGroupRule": changed}]
        )
        (rule,) = (await ec2.describe_security_group_rules(SecurityGroupRuleIds=[first]))["SecurityGroupRules"]
        assert (rule["FromPort"], rule["CidrIpv4"]) == (80, "192.0.2.0/24")
        await ec2.create_tags(Resources=[first], Tags=[{"Key": "why", "Value": "test"}])
        tagged = [{"Name": "tag:why", "Values": ["test"]}]
        (rule,) = (await ec2.describe_security_group_rules(Filters=tagged))["SecurityGroupRules"]
        assert rule["SecurityGroupRuleId"] == first
        kinds = [{"Name": "resource-type", "Values": ["security-group-rule"]}]
        assert [one["Key"] for one in (await ec2.describe_tags(Filters=kinds))["Tags"]] == ["why"]
        await ec2.delete_tags(Resources=[first])
        await ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[first])
        with refused("InvalidPermission.NotFound"):
            await ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[{**SSH, "IpRanges": [ANYWHERE]}])
        await ec2.delete_security_group(GroupId=group)
        with refused("InvalidGroup.NotFound", f"The security group '{group}' does not exist"):
            await ec2.describe_security_groups(GroupIds=[group])


async def test_bad_rules_change_nothing(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        group = await made(ec2)
        for permission, code in (
            ({**SSH, "IpRanges": [{"CidrIp": "1.2.3.4/99"}]}, "InvalidParameterValue"),
            ({"IpProtocol": "tcp", "FromPort": 9, "ToPort": 8, "IpRanges": [ANYWHERE]}, "InvalidParameterValue"),
            ({"IpProtocol": "tcp", "IpRanges": [ANYWHERE]}, "InvalidParameterValue"),
            ({"IpProtocol": "carrier-pigeon", "IpRanges": [ANYWHERE]}, "InvalidPermission.Malformed"),
            ({**SSH, "UserIdGroupPairs": [{"GroupId": "sg-0123456789abcdef0"}]}, "InvalidGroup.NotFound"),
            ({**SSH, "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "UnsupportedOperation"),
            ({"IpProtocol": "icmp", "FromPort": 8, "ToPort": 999, "IpRanges": [ANYWHERE]}, "InvalidParameterValue"),
            ({**SSH, "UserIdGroupPairs": [{"GroupId": group, "UserId": "999999999999"}]}, "UnsupportedOperation"),
            ({**SSH, "UserIdGroupPairs": [{"GroupId": group, "VpcId": "vpc-1"}]}, "InvalidVpcID.NotFound"),
            (SSH, "MissingParameter"),
        ):
            with refused(code):
                await ec2.authorize_security_group_ingress(
                    GroupId=group, IpPermissions=[{**SSH, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}, permission]
                )
        with refused("UnsupportedOperation"):
            await ec2.authorize_security_group_ingress(
                GroupId=group, SourceSecurityGroupName="web", SourceSecurityGroupOwnerId="999999999999"
            )
        (shown,) = (await ec2.describe_security_groups(GroupIds=[group]))["SecurityGroups"]
        assert shown["IpPermissions"] == []
        with refused("CannotDelete"):
            await ec2.delete_security_group(GroupName="default")


async def told(world: Ec2World, instance_id: str, count: int) -> Any:
    """The firewall of the count-th update order for this instance."""
    while True:
        mine = [one.update for one in world.host.orders if one.WhichOneof("order") == "update"]
        mine = [one for one in mine if one.instance_id == instance_id]
        if len(mine) >= count:
            return mine[count - 1].firewall if mine[count - 1].HasField("firewall") else None
        world.host._changed.clear()
        await asyncio.wait_for(world.host._changed.wait(), 60)


async def test_hosts_are_told_what_groups_come_to(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (free,) = await world.launch(ec2)
        group = await made(ec2)
        (one,) = await world.launch(ec2, SecurityGroupIds=[group])
        assert one["SecurityGroups"] == [{"GroupId": group, "GroupName": "web"}]
        first, second = [order.start.spec for order in await world.host.ordered("start", 2)]
        assert list(second.security_groups) == ["web"]
        assert not first.HasField("firewall") and second.HasField("firewall") and not second.firewall.ingress
        await world.wait(ec2, "instance_running", InstanceIds=[one["InstanceId"]])
        assert not (await told(world, one["InstanceId"], 1)).ingress  # again, once it runs
        both = {"IpRanges": [ANYWHERE], "UserIdGroupPairs": [{"GroupId": group}]}
        await ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**SSH, **both}])
        anyone, mates = (await told(world, one["InstanceId"], 2)).ingress
        assert (anyone.protocol, anyone.from_port, anyone.to_port, *anyone.peers) == ("tcp", 22, 22, "0.0.0.0/0")
        assert mates.host and list(mates.peers) == ["10.64.0.9/32"]
        everything = [{"IpProtocol": "-1", "IpRanges": [ANYWHERE]}]
        await ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=everything)
        assert await told(world, one["InstanceId"], 3) is None
        with refused("DependencyViolation"):
            await ec2.delete_security_group(GroupId=group)
        assert not [o for o in world.host.orders if o.update.instance_id == free["InstanceId"]]


async def test_a_host_without_networks_takes_no_walled_guests(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        hello = world.host.hello

        def loopback() -> fleet_pb2.HostHello:
            said = hello()
            said.isolation.CopyFrom(instances.Isolation(network="loopback"))
            return said

        world.host.hello = loopback  # type: ignore[method-assign]
        await world.host.say(fleet_pb2.HostReport(hello=loopback()))
        async with world.cloud.host("host-b", "node-2") as other:
            assert other.name == "host-b"
            group = await made(ec2)
            (one,) = await world.launch(ec2, SecurityGroupIds=[group])  # host-b can
            assert one["SecurityGroups"]
        assert common_pb2.Shape


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None, reason="root")
def test_nft_takes_every_kind_of_rule() -> None:
    rules = (
        Rule("tcp", 22, 22, ("0.0.0.0/0", "10.0.0.0/8")),
        Rule("udp", 1, 65535, ("10.1.2.3/32",)),
        Rule("icmp", -1, -1, ("10.0.0.0/8",)),
        Rule("icmp", 8, -1, ("10.0.0.0/8",)),
        Rule("icmp", 3, 4, ("10.0.0.0/8",)),
        Rule("50", -1, -1, ("10.0.0.0/8",)),
        Rule("", -1, -1, ("192.0.2.0/24",)),
        Rule("tcp", 1, 2, ()),
    )
    text = ruleset(Firewall(rules, rules)) + ruleset(None)
    done = subprocess.run(
        ["unshare", "-n", "/usr/sbin/nft", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
