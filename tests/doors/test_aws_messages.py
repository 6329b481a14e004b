"""SQS and SNS by boto3 on a real cloud: through the front door, to the broker, and back."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from minicloud.client import Client
from tests.real_cloud import RealCloud


def boto(cloud: RealCloud, service: str, account: str = "000000000000", **options: Any) -> Any:
    return boto3.Session().client(
        service,
        endpoint_url=cloud.http,
        region_name="us-east-1",
        aws_access_key_id=account,
        aws_secret_access_key="x",
        **options,
    )


@pytest.fixture(scope="module")
def sqs(cloud: RealCloud) -> Iterator[Any]:
    client = boto(cloud, "sqs")
    yield client
    client.close()


@pytest.fixture(scope="module")
def sns(cloud: RealCloud) -> Iterator[Any]:
    client = boto(cloud, "sns")
    yield client
    client.close()


def test_a_topic_feeds_a_queue_that_the_sdk_sees_too(cloud: RealCloud, client: Client, sqs: Any, sns: Any) -> None:
    url = sqs.create_queue(QueueName="aws-jobs")["QueueUrl"]
    assert url == f"{cloud.http}/000000000000/aws-jobs"
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="aws-news")["TopicArn"]
    made = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    assert made["SubscriptionArn"].startswith(topic)
    sent = sns.publish(TopicArn=topic, Message="hello", Subject="s")
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    document = json.loads(message["Body"])
    assert (document["Message"], document["MessageId"], document["Subject"]) == ("hello", sent["MessageId"], "s")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    client.queues.send("aws-jobs", "from the SDK")
    (other,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert other["Body"] == "from the SDK"
    with closing(boto(cloud, "sqs", "222222222222")) as stranger, pytest.raises(ClientError) as failed:
        stranger.get_queue_url(QueueName="aws-jobs")
    assert failed.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_the_aws_cli(cloud: RealCloud) -> None:
    """As `aws --endpoint-url ... sqs create-queue --queue-name cli` is typed."""
    env = {
        "PATH": "/usr/bin:/bin",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [
        sys.executable,
        "-m",
        "awscli",
        "--endpoint-url",
        cloud.http,
        "sqs",
        "create-queue",
        "--queue-name",
        "cli",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["QueueUrl"] == f"{cloud.http}/000000000000/cli"


def test_requests_without_a_signature_find_their_way(cloud: RealCloud) -> None:
    url = f"{cloud.http}/?Action=ListQueues&Version=2012-11-05"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert b"ListQueuesResult" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(cloud.http, timeout=30)
    assert failed.value.code == 403
    assert b"MissingAuthenticationToken" in failed.value.read()
    failed.value.close()


def test_a_web_page_cannot_send_messages(cloud: RealCloud) -> None:
    request = urllib.request.Request(
        f"{cloud.http}/?Action=CreateQueue&QueueName=evil&Version=2012-11-05",
        method="POST",
        headers={"Origin": "https://evil.example", "Content-Type": "application/x-www-form-urlencoded"},
    )
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(request, timeout=30)
    assert failed.value.code == 403
    failed.value.close()
