"""IAM and STS through boto3: records that are returned as they were given, credentials that verify."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import DEFAULT_ACCOUNT
from minicloud.base.errors import Unauthenticated
from minicloud.identity import session
from minicloud.identity.session import Session
from tests.contract.aws_world import refused
from tests.contract.ec2_world import IMAGE, ec2_world
from tests.contract.test_control_plane import SECRET

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
MANAGED = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"


async def test_a_role_as_terraform_makes_and_unmakes_it(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        made = (
            await iam.create_role(
                RoleName="web",
                AssumeRolePolicyDocument=json.dumps(TRUST),
                Tags=[{"Key": "team", "Value": "a"}],
                Description="of web servers",
            )
        )["Role"]
        assert made["Arn"] == f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/web" and made["RoleId"].startswith("AROA")
        await world.wait(iam, "role_exists", RoleName="web")
        role = (await iam.get_role(RoleName="web"))["Role"]
        assert role["AssumeRolePolicyDocument"] == TRUST and role["MaxSessionDuration"] == 3600
        await iam.put_role_policy(RoleName="web", PolicyName="inline", PolicyDocument=json.dumps(ALL))
        assert (await iam.get_role_policy(RoleName="web", PolicyName="inline"))["PolicyDocument"] == ALL
        policy = (await iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(ALL)))["Policy"]
        await world.wait(iam, "policy_exists", PolicyArn=policy["Arn"])
        for arn in (policy["Arn"], MANAGED):
            await iam.attach_role_policy(RoleName="web", PolicyArn=arn)
        attached = await iam.list_attached_role_policies(RoleName="web")
        assert {one["PolicyArn"] for one in attached["AttachedPolicies"]} == {policy["Arn"], MANAGED}
        with refused("NoSuchEntity", status=404):
            await iam.attach_role_policy(RoleName="web", PolicyArn=policy["Arn"] + "x")
        await iam.create_instance_profile(InstanceProfileName="web-profile")
        await iam.add_role_to_instance_profile(InstanceProfileName="web-profile", RoleName="web")
        await world.wait(iam, "instance_profile_exists", InstanceProfileName="web-profile")
        with refused("DeleteConflict", "must remove roles from instance profile first", 409):
            await iam.delete_role(RoleName="web")
        await iam.remove_role_from_instance_profile(InstanceProfileName="web-profile", RoleName="web")
        with refused("DeleteConflict", "must detach all policies first"):
            await iam.delete_role(RoleName="web")
        with refused("DeleteConflict"):
            await iam.delete_policy(PolicyArn=policy["Arn"])
        for arn in (policy["Arn"], MANAGED):
            await iam.detach_role_policy(RoleName="web", PolicyArn=arn)
        await iam.delete_role_policy(RoleName="web", PolicyName="inline")
        await iam.delete_role(RoleName="web")
        await iam.delete_policy(PolicyArn=policy["Arn"])
        with refused("NoSuchEntity", "The role with name web cannot be found.", 404):
            await iam.get_role(RoleName="web")


async def test_records_outlive_the_control_plane(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        await iam.create_user(UserName="ann", Path="/team/")
        key = (await iam.create_access_key(UserName="ann"))["AccessKey"]
        await iam.create_service_linked_role(AWSServiceName="autoscaling.amazonaws.com")
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        assert (await iam.get_user(UserName="ann"))["User"]["Arn"].endswith(":user/team/ann")
        (listed,) = (await iam.list_access_keys(UserName="ann"))["AccessKeyMetadata"]
        assert listed["AccessKeyId"] == key["AccessKeyId"] and listed["Status"] == "Active"
        machine = world.cloud.plane.identity_machine
        assert machine.authenticate(key["AccessKeyId"], key["SecretAccessKey"]).scope.account == DEFAULT_ACCOUNT
        (linked,) = (await iam.list_roles(PathPrefix="/aws-service-role/"))["Roles"]
        assert linked["RoleName"] == "AWSServiceRoleForAutoScaling"


async def test_users_their_keys_and_pages(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        for name in ("a", "b", "c"):
            await iam.create_user(UserName=name)
        await world.wait(iam, "user_exists", UserName="a")
        with refused("EntityAlreadyExists", "User with name a already exists.", 409):
            await iam.create_user(UserName="a")
        with refused("ValidationError"):
            await iam.create_user(UserName="no spaces")
        pages = await world.pages(iam, "list_users", "Users", 2)
        assert [[one["UserName"] for one in page] for page in pages] == [["a", "b"], ["c"]]
        first = (await iam.create_access_key(UserName="a"))["AccessKey"]["AccessKeyId"]
        await iam.create_access_key(UserName="a")
        with refused("LimitExceeded"):
            await iam.create_access_key(UserName="a")
        await iam.update_access_key(UserName="a", AccessKeyId=first, Status="Inactive")
        with refused("NoSuchEntity"):
            await iam.delete_access_key(UserName="b", AccessKeyId=first)
        with refused("DeleteConflict", "must delete access keys first"):
            await iam.delete_user(UserName="a")
        other = world.client("iam", account="111122223333")
        with refused("NoSuchEntity"):
            await other.get_user(UserName="a")
        await other.create_user(UserName="a")
        with refused("MalformedPolicyDocument", "Syntax errors in policy."):
            await iam.put_user_policy(UserName="a", PolicyName="p", PolicyDocument="{")


async def test_policy_versions(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        arn = (await iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(ALL)))["Policy"]["Arn"]
        for _ in range(4):
            await iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(ALL), SetAsDefault=True)
        with refused("LimitExceeded"):
            await iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(ALL))
        versions = (await iam.list_policy_versions(PolicyArn=arn))["Versions"]
        assert [one["VersionId"] for one in versions if one["IsDefaultVersion"]] == ["v5"]
        with refused("DeleteConflict"):
            await iam.delete_policy_version(PolicyArn=arn, VersionId="v5")
        await iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
        assert (await iam.get_policy_version(PolicyArn=arn, VersionId="v5"))["PolicyVersion"]["Document"] == ALL


async def test_who_asks_and_temporary_credentials(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        account = "111122223333"
        sts, iam = world.client("sts", account=account), world.client("iam", account=account)
        assert await_identity(await sts.get_caller_identity()) == (account, f"arn:aws:iam::{account}:root")
        arn = f"arn:aws:iam::{account}:role/deploy"
        with refused("AccessDenied", "is not authorized to perform: sts:AssumeRole", 403):
            await sts.assume_role(RoleArn=arn, RoleSessionName="me")
        trust = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Condition": {  # type: ignore[dict-item]
            "StringEquals": {"sts:ExternalId": "42"}}}]}  # fmt: skip
        await iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=json.dumps(trust))
        with refused("AccessDenied"):
            await sts.assume_role(RoleArn=arn, RoleSessionName="me")
        made = await sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="42", DurationSeconds=900)
        assert made["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{account}:assumed-role/deploy/me"
        given = made["Credentials"]
        assert session.secret_of(SECRET, given["AccessKeyId"]) == given["SecretAccessKey"]
        until = given["Expiration"].timestamp()
        caller = session.opened(SECRET, given["SessionToken"], given["AccessKeyId"], until - 1)
        assert caller.scope.account == account and caller.arn.endswith("deploy/me") and not caller.admin
        with refused("ValidationError"):
            await sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="42", DurationSeconds=43_200)
        stranger = world.client("sts", account="444455556666")
        with refused("AccessDenied"):
            await stranger.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="42")
        token = (await sts.get_session_token())["Credentials"]
        assert session.opened(SECRET, token["SessionToken"], token["AccessKeyId"], 0.0).scope.account == account


async def test_no_identity_provider_lets_anybody_in(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        sts = world.client("sts")
        claims = base64.urlsafe_b64encode(b'{"iss":"https://idp.test","sub":"me"}').rstrip(b"=").decode()
        asked = {"RoleArn": "arn:aws:iam::000000000000:role/deploy", "RoleSessionName": "me"}
        for token, provider, text in (
            (f"e30.{claims}.sig", {}, "No OpenIDConnect provider found in your account for https://idp.test"),
            ("e30.W10.sig", {}, "not a valid JWT"),
            ("e30.%%%.sig", {}, "not a valid JWT"),
            ("opaque", {}, "not a valid JWT"),
            ("opaque", {"ProviderId": "graph.facebook.com"}, "for graph.facebook.com"),
        ):
            with refused("InvalidIdentityToken", text):
                await sts.assume_role_with_web_identity(**asked, WebIdentityToken=token, **provider)


@pytest.mark.parametrize(
    ("statements", "enters"),
    [
        ([{"Effect": "Allow", "Principal": {"AWS": "444455556666"}}], True),
        ([{"Effect": "Allow", "Principal": "*"}], True),
        ([{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444455556666:root"}}], True),
        ([{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::444455556666:user/other", ""]}}], False),
        ([{"Effect": "Allow", "Principal": {"AWS": "444455556666"}, "Action": "sts:TagSession"}], False),
        ([{"Effect": "Allow", "Principal": "*"}, {"Effect": "Deny", "Principal": {"AWS": "444455556666"}}], False),
        ([{"Effect": "Allow", "Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}], False),
        (
            [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Condition": {"StringLike": {"sts:RoleSessionName": "m*", "aws:PrincipalAccount": "4444*"}},
                }
            ],
            True,
        ),
    ],
)
async def test_whom_of_other_accounts_a_role_lets_in(tmp_path: Path, statements: list[Any], enters: bool) -> None:
    async with ec2_world(tmp_path) as world:
        iam, stranger = world.client("iam", account="111122223333"), world.client("sts", account="444455556666")
        trust = {"Statement": [{"Action": "sts:AssumeRole", **one} for one in statements]}
        made = await iam.create_role(RoleName="door", AssumeRolePolicyDocument=json.dumps(trust))
        asked = stranger.assume_role(RoleArn=made["Role"]["Arn"], RoleSessionName="me")
        if enters:
            assert (await asked)["AssumedRoleUser"]["Arn"] == "arn:aws:sts::111122223333:assumed-role/door/me"
        else:
            with refused("AccessDenied"):
                await asked


def await_identity(answer: dict[str, str]) -> tuple[str, str]:
    return answer["Account"], answer["Arn"]


def test_a_token_opens_for_its_key_its_cloud_and_its_time() -> None:
    key = session.new_key_id(random.Random(1))
    made = session.issue(SECRET, Session(key, DEFAULT_ACCOUNT, "", True, 100.0))
    assert session.opened(SECRET, made.token, key, 99.0).admin
    for secret, token, key_id, now, code in (
        (SECRET, made.token, key, 100.0, "ExpiredToken"),
        (SECRET, made.token, "ASIAOTHER", 99.0, "InvalidClientTokenId"),
        (b"other" * 8, made.token, key, 99.0, "InvalidClientTokenId"),
        (SECRET, made.token[:-8] + "AAAAAAA=", key, 99.0, "InvalidClientTokenId"),
        (SECRET, "ü", key, 99.0, "InvalidClientTokenId"),
        (SECRET, "", key, 99.0, "InvalidClientTokenId"),
    ):
        with pytest.raises(Unauthenticated) as caught:
            session.opened(secret, token, key_id, now)
        assert caught.value.code == code


async def test_instance_profiles_on_instances(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2, iam = world.client("ec2"), world.client("iam")
        with refused("InvalidParameterValue", "Invalid IAM Instance Profile name"):
            await world.launch(ec2, IamInstanceProfile={"Name": "web"})
        profile = (await iam.create_instance_profile(InstanceProfileName="web"))["InstanceProfile"]
        (one,) = await world.launch(ec2, IamInstanceProfile={"Name": "web"}, ImageId=IMAGE)
        assert one["IamInstanceProfile"]["Arn"] == profile["Arn"]
        (there,) = (await ec2.describe_iam_instance_profile_associations())["IamInstanceProfileAssociations"]
        assert there["IamInstanceProfile"]["Id"] == profile["InstanceProfileId"] and there["State"] == "associated"
        await iam.delete_instance_profile(InstanceProfileName="web")
        (there,) = (await ec2.describe_iam_instance_profile_associations())["IamInstanceProfileAssociations"]
        assert there["IamInstanceProfile"]["Arn"] == profile["Arn"]
        with refused("IncorrectState"):
            await ec2.associate_iam_instance_profile(InstanceId=one["InstanceId"], IamInstanceProfile={"Name": "web"})
        await ec2.disassociate_iam_instance_profile(AssociationId=there["AssociationId"])
        assert not (await ec2.describe_iam_instance_profile_associations())["IamInstanceProfileAssociations"]


async def test_what_policies_would_say(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        arn = (await iam.create_user(UserName="ann"))["User"]["Arn"]
        only = {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}
        await iam.put_user_policy(UserName="ann", PolicyName="look", PolicyDocument=json.dumps({"Statement": [only]}))

        async def says(*actions: str) -> list[str]:
            answer = await iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=list(actions))
            return [one["EvalDecision"] for one in answer["EvaluationResults"]]

        assert await says("ec2:DescribeInstances", "ec2:RunInstances") == ["allowed", "implicitDeny"]
        await iam.attach_user_policy(UserName="ann", PolicyArn="arn:aws:iam::aws:policy/PowerUserAccess")
        assert await says("ec2:RunInstances", "iam:CreateUser") == ["allowed", "implicitDeny"]
        await iam.attach_user_policy(UserName="ann", PolicyArn=MANAGED)
        with refused("InvalidInput", "by its name alone"):
            await says("ec2:RunInstances")
        with refused("NoSuchEntity"):
            await iam.simulate_principal_policy(PolicySourceArn=arn + "x", ActionNames=["a:b"])
        custom = await iam.simulate_custom_policy(
            PolicyInputList=[json.dumps(ALL)],
            ActionNames=["s3:GetObject"],
            ContextEntries=[{"ContextKeyName": "aws:x", "ContextKeyValues": ["1"], "ContextKeyType": "string"}],
        )
        assert custom["EvaluationResults"][0]["EvalDecision"] == "allowed"
