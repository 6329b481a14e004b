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


async def things(world: Ec2World, ec2: AsyncBoto, running: str, stopped: str) -> dict[str, dict[str, Any]]:
    """For each operation, what would work. Those that are not here need nothing."""
    await ec2.create_key_pair(KeyName="k")
    await ec2.create_placement_group(GroupName="p", Strategy="cluster")
    image = (await ec2.create_image(InstanceId=stopped, Name="mine"))["ImageId"]
    (order,) = await world.host.ordered("snapshot")
    done = fleet_pb2.OrderResult(order_id=order.order_id, ok=True, size_bytes=10)
    await world.host.say(fleet_pb2.HostReport(result=done))
    await world.wait(ec2, "image_available", ImageIds=[image])
    group = (await ec2.create_security_group(GroupName="g", Description="d"))["GroupId"]
    web = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    other = [{**web[0], "FromPort": 81, "ToPort": 81}]
    told = [{**web[0], "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "new"}]}]
    rules = {}
    for way in ("ingress", "egress"):
        allow = getattr(ec2, f"authorize_security_group_{way}")
        rules[way] = (await allow(GroupId=group, IpPermissions=web))["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    data = {"InstanceType": "t3.nano"}
    await ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
    await ec2.create_launch_template_version(LaunchTemplateName="web", LaunchTemplateData={"InstanceType": "t3.micro"})
    (vpc,) = (await ec2.describe_vpcs())["Vpcs"]
    only = [{"Name": "attachment.instance-id", "Values": [running]}]
    (volume,) = (await ec2.describe_volumes(Filters=only))["Volumes"]
    ids, ended = {"InstanceIds": [running]}, {"InstanceIds": [stopped]}
    one, template = {"InstanceId": running}, {"LaunchTemplateName": "web"}
    within, credit = {"GroupId": group}, [{**one, "CpuCredits": "unlimited"}]
    changed = [
        {
            "SecurityGroupRuleId": rules["ingress"],
            "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 82, "ToPort": 82, "CidrIpv4": "10.0.0.0/8"},
        }
    ]
    return {
        "AuthorizeSecurityGroupEgress": {**within, "IpPermissions": other},
        "AuthorizeSecurityGroupIngress": {**within, "IpPermissions": other},
        "CreateImage": {"InstanceId": stopped, "Name": "another"},
        "CreateKeyPair": {"KeyName": "another"},
        "CreateLaunchTemplate": {"LaunchTemplateName": "another", "LaunchTemplateData": data},
        "CreateLaunchTemplateVersion": {**template, "LaunchTemplateData": data},
        "CreatePlacementGroup": {"GroupName": "another", "Strategy": "cluster"},
        "CreateSecurityGroup": {"GroupName": "another", "Description": "d"},
        "CreateTags": {"Resources": [running], "Tags": [{"Key": "a", "Value": "b"}]},
        "DeleteKeyPair": {"KeyName": "k"},
        "DeleteLaunchTemplate": template,
        "DeleteLaunchTemplateVersions": {**template, "Versions": ["2"]},
        "DeletePlacementGroup": {"GroupName": "p"},
        "DeleteSecurityGroup": within,
        "DeleteTags": {"Resources": [running], "Tags": [{"Key": "Name"}]},
        "DeregisterImage": {"ImageId": image},
        "DescribeImageAttribute": {"Attribute": "description", "ImageId": IMAGE},
        "DescribeInstanceAttribute": {**one, "Attribute": "userData"},
        "DescribeLaunchTemplateVersions": template,
        "DescribeSecurityGroupReferences": {"GroupId": [group]},
        "DescribeVpcAttribute": {"VpcId": vpc["VpcId"], "Attribute": "enableDnsSupport"},
        "GetConsoleOutput": one,
        "GetLaunchTemplateData": one,
        "GetPasswordData": one,
        "ImportKeyPair": {"KeyName": "another", "PublicKeyMaterial": PUBLIC_KEY},
        "ModifyInstanceAttribute": {**one, "DisableApiStop": {"Value": True}},
        "ModifyInstanceCreditSpecification": {"InstanceCreditSpecifications": credit},
        "ModifyInstanceMaintenanceOptions": {**one, "AutoRecovery": "default"},
        "ModifyInstanceMetadataOptions": {**one, "HttpTokens": "required"},
        "ModifyLaunchTemplate": {**template, "DefaultVersion": "2"},
        "ModifySecurityGroupRules": {**within, "SecurityGroupRules": changed},
        "ModifyVolume": {"VolumeId": volume["VolumeId"], "Size": 20},
        "MonitorInstances": ids,
        "RebootInstances": ids,
        "ResetInstanceAttribute": {**one, "Attribute": "sourceDestCheck"},
        "RevokeSecurityGroupEgress": {**within, "IpPermissions": web},
        "RevokeSecurityGroupIngress": {**within, "IpPermissions": web},
        "RunInstances": {"ImageId": IMAGE, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1},
        "StartInstances": ended,
        "StopInstances": ids,
        "TerminateInstances": ids,
        "UnmonitorInstances": ids,
        "UpdateSecurityGroupRuleDescriptionsEgress": {**within, "IpPermissions": told},
        "UpdateSecurityGroupRuleDescriptionsIngress": {**within, "IpPermissions": told},
    }


async def test_every_operation_tells_what_would_have_worked(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        named = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "x"}]}]
        running, stopped = (one["InstanceId"] for one in await world.launch(ec2, 2, TagSpecifications=named))
        await world.wait(ec2, "instance_running", InstanceIds=[running, stopped])
        await ec2.stop_instances(InstanceIds=[stopped])
        await world.wait(ec2, "instance_stopped", InstanceIds=[stopped])
        given = await things(world, ec2, running, stopped)
        before, fuzz = recorded(world.cloud), DoorFuzz(control_doors(world.cloud.plane), 0)
        for name in fuzz.with_member("ec2", "DryRun"):
            await world.host.say(fleet_pb2.HostReport(beat=fleet_pb2.HostBeat()))  # it lives, however long this takes
            answer = await fuzz.ask("ec2", name, {**given.get(name, {}), "DryRun": True})
            assert (answer.status, WOULD_HAVE in answer.whole()) == (412, True), (name, answer.whole())
        assert recorded(world.cloud) == before
