"""AWS's tools against a cloud with authentication: keys, users' keys, roles' credentials, in every process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.real_cloud import RealCloud, real_cloud

pytestmark = pytest.mark.timeout(120)
TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}


@pytest.fixture(scope="module")
def locked() -> Iterator[RealCloud]:
    with real_cloud("--auth") as made:
        yield made


def client(cloud: RealCloud, service: str, key: str, secret: str, token: str | None = None) -> Any:
    return closing(
        boto3.Session().client(
            service,
            endpoint_url=cloud.http,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )
    )


def test_users_and_roles_are_who_they_are(locked: RealCloud) -> None:
    admin = json.loads((locked.data / "admin.json").read_text())
    root = (admin["access_key_id"], admin["secret_access_key"])
    with client(locked, "iam", *root) as iam:
        iam.create_user(UserName="ann")
        made = iam.create_access_key(UserName="ann")["AccessKey"]
        role = iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    ann = (made["AccessKeyId"], made["SecretAccessKey"])
    with client(locked, "sts", *ann) as sts:
        assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:user/ann"
        given = sts.assume_role(RoleArn=role, RoleSessionName="ci-1")["Credentials"]
    session = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    with client(locked, "sts", *session) as sts:
        assert sts.get_caller_identity()["Arn"] == "arn:aws:sts::000000000000:assumed-role/deploy/ci-1"
        with pytest.raises(ClientError, match=r"AccessDenied.*with session credentials"):
            sts.get_session_token()
        with pytest.raises(ClientError, match=r"AccessDenied.*with session credentials"):
            sts.get_federation_token(Name="for-ever")
        with pytest.raises(ClientError, match="1 hour session limit for roles assumed by role chaining"):
            sts.assume_role(RoleArn=role, RoleSessionName="ci-2", DurationSeconds=3601)
        assert sts.assume_role(RoleArn=role, RoleSessionName="ci-2")["AssumedRoleUser"]["Arn"].endswith("ci-2")
    with client(locked, "sqs", *session) as sqs:  # another process, which verifies by itself
        url = sqs.create_queue(QueueName="of-a-session")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="signed")
        assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "signed"
    with client(locked, "ec2", *session[:2], "x" + session[2]) as ec2, pytest.raises(ClientError, match="AuthFailure"):
        ec2.describe_instances()
    with client(locked, "iam", *root) as iam:
        iam.update_access_key(UserName="ann", AccessKeyId=ann[0], Status="Inactive")
    with client(locked, "sts", *ann) as sts, pytest.raises(ClientError, match="InvalidClientTokenId"):
        sts.get_caller_identity()
    with client(locked, "ec2", root[0], "wrong") as ec2, pytest.raises(ClientError, match="AuthFailure"):
        ec2.describe_regions()
