"""Another account gets nowhere with EC2, SSM and IAM, however well it knows what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minicloud.aws.wire import Answer
from minicloud.cloud_aws import control_doors
from tests.contract.aws_door_fuzz import DoorFuzz
from tests.contract.test_control_plane import Cloud, cloud_on

MINE, THEIRS = "111122223333", "444455556666"
MARK = "only-mine"
TRUST = json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": MINE}, "Action": "sts:AssumeRole"}]})
LOOKS = (
    ("ec2", "DescribeInstances"),
    ("ec2", "DescribeSecurityGroups"),
    ("ec2", "DescribeKeyPairs"),
    ("ec2", "DescribeLaunchTemplates"),
    ("ec2", "DescribePlacementGroups"),
    ("ec2", "DescribeTags"),
    ("iam", "ListUsers"),
    ("iam", "ListRoles"),
    ("iam", "ListPolicies"),
    ("iam", "ListInstanceProfiles"),
    ("ssm", "DescribeParameters"),
)


async def furnish(owner: DoorFuzz) -> None:
    """One of everything, each with the mark in it."""
    tags = [{"Key": "secret", "Value": MARK}]

    def of(kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": tags}]

    image = "ami-0abcdef1234567890"
    for service, name, given in (
        ("ec2", "CreateSecurityGroup", {"GroupName": MARK, "Description": MARK}),
        ("ec2", "CreateKeyPair", {"KeyName": MARK, "KeyType": "ed25519"}),
        ("ec2", "CreatePlacementGroup", {"GroupName": MARK, "Strategy": "spread"}),
        ("ec2", "CreateLaunchTemplate", {"LaunchTemplateName": MARK, "LaunchTemplateData": {"ImageId": image}}),
        (
            "ec2",
            "RunInstances",
            {
                "ImageId": image,
                "InstanceType": "t3.nano",
                "MinCount": 1,
                "MaxCount": 1,
                "TagSpecifications": of("instance") + of("volume"),
            },
        ),
        ("iam", "CreateUser", {"UserName": MARK}),
        ("iam", "CreateRole", {"RoleName": MARK, "AssumeRolePolicyDocument": TRUST}),
        ("iam", "CreatePolicy", {"PolicyName": MARK, "PolicyDocument": '{"Statement":[]}'}),
        ("iam", "CreateInstanceProfile", {"InstanceProfileName": MARK}),
        ("iam", "CreateAccessKey", {"UserName": MARK}),
        ("ssm", "PutParameter", {"Name": f"/{MARK}", "Value": MARK, "Type": "String"}),
    ):
        answer = await owner.ask(service, name, given)
        assert answer.status == 200, (name, answer.whole())


async def seen_by(owner: DoorFuzz) -> list[bytes]:
    return [(await owner.ask(service, name, {})).whole() for service, name in LOOKS]


@pytest.mark.parametrize("seed", range(2))
async def test_a_stranger_sees_and_changes_nothing(tmp_path: Path, seed: int) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        doors = control_doors(cloud.plane)
        owner, stranger = DoorFuzz(doors, seed, MINE), DoorFuzz(doors, seed, THEIRS)
        await furnish(owner)
        await settled(cloud)
        before = await seen_by(owner)
        stranger.known += [one for one in owner.known if one not in stranger.known] * 3 + [MARK, f"/{MARK}"] * 20
        for _ in range(900):
            told(await stranger.one())
        for service, name in LOOKS:
            told(await stranger.ask(service, name, {}))
        assert await seen_by(owner) == before


def told(answer: Answer) -> None:
    """The mark may be what the stranger called something itself, never the value of a tag or a parameter of mine."""
    assert f"<value>{MARK}</value>".encode() not in answer.whole(), answer.whole()
    assert MINE.encode() not in answer.whole().replace(f"arn:aws:iam::{MINE}".encode(), b""), answer.whole()


async def settled(cloud: Cloud) -> None:
    (one,) = cloud.plane.compute.state.instances
    async with cloud.plane.waiters.watch(("instance", one)) as watch:
        while cloud.plane.compute.state.instances[one].state != "running":
            await watch.wait(10)
