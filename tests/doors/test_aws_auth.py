"""AWS's tools against a cloud with authentication: keys, users' keys, roles' credentials, in every process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.doors.test_functions import package
from tests.real_cloud import RealCloud, real_cloud, until

pytestmark = pytest.mark.timeout(300)
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


def test_a_presigned_url_is_a_credential_for_what_it_says_and_as_long(locked: RealCloud) -> None:
    """As Vault's and EKS's clients prove who they are."""
    admin = json.loads((locked.data / "admin.json").read_text())
    root = (admin["access_key_id"], admin["secret_access_key"])

    def ask(url: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    with client(locked, "sts", *root) as sts:
        url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
        short = sts.generate_presigned_url("get_caller_identity", ExpiresIn=1, HttpMethod="GET")
    assert ask(url)[0] == 200 and b"<Account>000000000000</Account>" in ask(url)[1]
    assert ask(url.replace("GetCallerIdentity", "GetSessionToken"))[0] == 403
    assert ask(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"))[0] == 403
    status, said = until(lambda: found if (found := ask(short))[0] != 200 else None, 10, "the end of its second")
    assert status == 403 and b"Expired" in said


def test_a_function_answers_for_its_balancer_and_for_nobody_who_says_to_be_one(locked: RealCloud) -> None:
    admin = json.loads((locked.data / "admin.json").read_text())
    root = (admin["access_key_id"], admin["secret_access_key"])
    code = package('def handler(event, context): return {"statusCode": 200, "body": event["path"]}')
    with client(locked, "lambda", *root) as functions, client(locked, "elbv2", *root) as elb:
        function = functions.create_function(
            FunctionName="f", Runtime="python3.11", Handler="app.handler", Code={"ZipFile": code},
            Role="arn:aws:iam::000000000000:role/r",
        )["FunctionArn"]  # fmt: skip
        group = elb.create_target_group(Name="f", TargetType="lambda")["TargetGroups"][0]["TargetGroupArn"]
        functions.add_permission(
            FunctionName="f", StatementId="elb", Action="lambda:InvokeFunction", SourceArn=group,
            Principal="elasticloadbalancing.amazonaws.com",
        )  # fmt: skip
        elb.register_targets(TargetGroupArn=group, Targets=[{"Id": function}])
        (balancer,) = elb.create_load_balancer(Name="web", Subnets=subnets_of(locked, root))["LoadBalancers"]
        action = {"Type": "forward", "TargetGroupArn": group}
        whole = balancer["LoadBalancerArn"]
        elb.create_listener(LoadBalancerArn=whole, Protocol="HTTP", Port=80, DefaultActions=[action])
        address = balancer["AvailabilityZones"][0]["LoadBalancerAddresses"][0]["IpAddress"]
        with urllib.request.urlopen(f"http://{address}/hello", timeout=20) as answer:
            assert answer.read() == b"/hello"
        forged = {"X-Minicloud-Target": f"single {whole} {group} {function} c2VhbA"}
        signed_for_lambda = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/lambda/aws4_request"}
        request = urllib.request.Request(f"{locked.http}/hello", headers=forged | signed_for_lambda)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        assert caught.value.code == 403 and b"<h1>403 Forbidden</h1>" in caught.value.read(), "it got there, in vain"
        elb.delete_load_balancer(LoadBalancerArn=whole)
        elb.delete_target_group(TargetGroupArn=group)
        functions.delete_function(FunctionName="f")


def subnets_of(cloud: RealCloud, key: tuple[str, str]) -> list[str]:
    with client(cloud, "ec2", *key) as ec2:
        return [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
