"""Dry runs of EC2: whatever is asked, none succeeds and none changes anything; what would have worked is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minicloud.base.machine import Entity
from minicloud.cloud_aws import control_doors
from minicloud.compute.model import KINDS, Host, Image, Instance, Transition
from minicloud.wire import fleet_pb2
from tests.contract.aws_door_fuzz import DoorFuzz
from tests.contract.aws_world import AsyncBoto
from tests.contract.ec2_world import IMAGE, Ec2World, ec2_world
from tests.contract.test_aws_ec2_things import PUBLIC_KEY
from tests.contract.test_control_plane import Cloud, cloud_on

ROUNDS = 10
WOULD_HAVE = b"<Code>DryRunOperation</Code><Message>Request would have succeeded, but DryRun flag is set.</Message>"


def recorded(cloud: Cloud, *but: type[Entity]) -> dict[str, Any]:
    kinds = KINDS.keys() - {one.kind for one in but}
    return {kind: dict(cloud.plane.service.state._tables[kind]) for kind in kinds}


async def test_a_dry_run_never_succeeds_and_changes_nothing(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        fuzz = DoorFuzz(control_doors(cloud.plane), 5)
        start = {"ImageId": "ami-0abcdef1234567890", "InstanceType": "t3.micro", "MinCount": 2, "MaxCount": 2}
        await fuzz.ask("ec2", "RunInstances", start)
        for _ in range(300):
            await fuzz.one()
        moving = (Instance, Host, Image, Transition)  # as they were told to before
        before, wrong = recorded(cloud, *moving), {}
        for name in fuzz.with_member("ec2", "DryRun"):
            for _ in range(ROUNDS):
                answer = await fuzz.ask("ec2", name, {**fuzz.params("ec2", name), "DryRun": True})
                body = answer.whole()
                if answer.status < 400 or (b"DryRun" in body and b"DryRunOperation" not in body):
                    wrong[name] = body[:300]
        assert not wrong
        assert recorded(cloud, *moving) == before


WEB = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
OTHER = [{**WEB[0], "FromPort": 81, "ToPort": 81}]
TOLD = [{**WEB[0], "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "new"}]}]
NANO = {"InstanceType": "t3.nano"}
CHANGED = {"IpProtocol": "tcp", "FromPort": 82, "ToPort": 82, "CidrIpv4": "10.0.0.0/8"}
ONE, IDS, TEMPLATE = {"InstanceId": "$running"}, {"InstanceIds": ["$running"]}, {"LaunchTemplateName": "web"}
WITHIN = {"GroupId": "$group"}
# For each operation, what would work, with names of what `things` makes. Those that are not here need nothing.
WORKS: dict[str, dict[str, Any]] = {
    "AuthorizeSecurityGroupEgress": {**WITHIN, "IpPermissions": OTHER},
    "AuthorizeSecurityGroupIngress": {**WITHIN, "IpPermissions": OTHER},
    "CreateImage": {"InstanceId": "$stopped", "Name": "another"},
    "CreateKeyPair": {"KeyName": "another"},
    "CreateLaunchTemplate": {"LaunchTemplateName": "another", "LaunchTemplateData": NANO},
    "CreateLaunchTemplateVersion": {**TEMPLATE, "LaunchTemplateData": NANO},
    "CreatePlacementGroup": {"GroupName": "another", "Strategy": "cluster"},
    "CreateSecurityGroup": {"GroupName": "another", "Description": "d"},
    "CreateTags": {"Resources": ["$running"], "Tags": [{"Key": "a", "Value": "b"}]},
    "DeleteKeyPair": {"KeyName": "k"},
    "DeleteLaunchTemplate": TEMPLATE,
    "DeleteLaunchTemplateVersions": {**TEMPLATE, "Versions": ["2"]},
    "DeletePlacementGroup": {"GroupName": "p"},
    "DeleteSecurityGroup": WITHIN,
    "DeleteTags": {"Resources": ["$running"], "Tags": [{"Key": "Name"}]},
    "DeregisterImage": {"ImageId": "$image"},
    "DescribeImageAttribute": {"Attribute": "description", "ImageId": IMAGE},
    "DescribeInstanceAttribute": {**ONE, "Attribute": "userData"},
    "DescribeLaunchTemplateVersions": TEMPLATE,
    "DescribeSecurityGroupReferences": {"GroupId": ["$group"]},
    "DescribeVpcAttribute": {"VpcId": "$vpc", "Attribute": "enableDnsSupport"},
    "GetConsoleOutput": ONE,
    "GetLaunchTemplateData": ONE,
    "GetPasswordData": ONE,
    "ImportKeyPair": {"KeyName": "another", "PublicKeyMaterial": PUBLIC_KEY},
    "ModifyInstanceAttribute": {**ONE, "DisableApiStop": {"Value": True}},
    "ModifyInstanceCreditSpecification": {"InstanceCreditSpecifications": [{**ONE, "CpuCredits": "unlimited"}]},
    "ModifyInstanceMaintenanceOptions": {**ONE, "AutoRecovery": "default"},
    "ModifyInstanceMetadataOptions": {**ONE, "HttpTokens": "required"},
    "ModifyLaunchTemplate": {**TEMPLATE, "DefaultVersion": "2"},
    "ModifySecurityGroupRules": {
        **WITHIN,
        "SecurityGroupRules": [{"SecurityGroupRuleId": "$rule", "SecurityGroupRule": CHANGED}],
    },
    "ModifyVolume": {"VolumeId": "$volume", "Size": 20},
    "MonitorInstances": IDS,
    "RebootInstances": IDS,
    "ResetInstanceAttribute": {**ONE, "Attribute": "sourceDestCheck"},
    "RevokeSecurityGroupEgress": {**WITHIN, "IpPermissions": WEB},
    "RevokeSecurityGroupIngress": {**WITHIN, "IpPermissions": WEB},
    "RunInstances": {"ImageId": IMAGE, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1},
    "StartInstances": {"InstanceIds": ["$stopped"]},
    "StopInstances": IDS,
    "TerminateInstances": IDS,
    "UnmonitorInstances": IDS,
    "UpdateSecurityGroupRuleDescriptionsEgress": {**WITHIN, "IpPermissions": TOLD},
    "UpdateSecurityGroupRuleDescriptionsIngress": {**WITHIN, "IpPermissions": TOLD},
}

# What they ask about is never there.
NEVER = {"DescribeFleetInstances": {"FleetId": "fleet-0123456789abcdef0"}, "DescribeSpotDatafeedSubscription": {}}


async def things(world: Ec2World, ec2: AsyncBoto, running: str, stopped: str) -> dict[str, str]:
    """What there is to work with, by the names that WORKS has."""
    await ec2.create_key_pair(KeyName="k")
    await ec2.create_placement_group(GroupName="p", Strategy="cluster")
    image = (await ec2.create_image(InstanceId=stopped, Name="mine"))["ImageId"]
    (order,) = await world.host.ordered("snapshot")
    done = fleet_pb2.OrderResult(order_id=order.order_id, ok=True, size_bytes=10)
    await world.host.say(fleet_pb2.HostReport(result=done))
    await world.wait(ec2, "image_available", ImageIds=[image])
    group = (await ec2.create_security_group(GroupName="g", Description="d"))["GroupId"]
    await ec2.authorize_security_group_egress(GroupId=group, IpPermissions=WEB)
    (rule,) = (await ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=WEB))["SecurityGroupRules"]
    await ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=NANO)
    await ec2.create_launch_template_version(LaunchTemplateName="web", LaunchTemplateData=NANO)
    (vpc,) = (await ec2.describe_vpcs())["Vpcs"]
    only = [{"Name": "attachment.instance-id", "Values": [running]}]
    (volume,) = (await ec2.describe_volumes(Filters=only))["Volumes"]
    return {
        "$running": running,
        "$stopped": stopped,
        "$image": image,
        "$group": group,
        "$rule": rule["SecurityGroupRuleId"],
        "$vpc": vpc["VpcId"],
        "$volume": volume["VolumeId"],
    }


def filled(value: Any, made: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(one, made) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, made) for one in value]
    return made.get(value, value) if isinstance(value, str) else value


async def test_every_operation_tells_what_would_have_worked(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        named = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "x"}]}]
        running, stopped = (one["InstanceId"] for one in await world.launch(ec2, 2, TagSpecifications=named))
        await world.wait(ec2, "instance_running", InstanceIds=[running, stopped])
        await ec2.stop_instances(InstanceIds=[stopped])
        await world.wait(ec2, "instance_stopped", InstanceIds=[stopped])
        made = await things(world, ec2, running, stopped)
        before, fuzz = recorded(world.cloud), DoorFuzz(control_doors(world.cloud.plane), 0)
        for name in fuzz.with_member("ec2", "DryRun"):
            await world.host.say(fleet_pb2.HostReport(beat=fleet_pb2.HostBeat()))  # it lives, however long this takes
            given = NEVER[name] if name in NEVER else filled(WORKS.get(name, {}), made)
            answer = await fuzz.ask("ec2", name, {**given, "DryRun": True})
            if name in NEVER:
                assert answer.status == 400, (name, answer.whole())
                continue
            assert (answer.status, WOULD_HAVE in answer.whole()) == (412, True), (name, answer.whole())
        assert recorded(world.cloud) == before
