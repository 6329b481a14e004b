"""The AWS face while what is behind it is killed: SDKs with their own retries notice nothing, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.real_cloud import RealCloud, kill, real_cloud, until

pytestmark = pytest.mark.timeout(480)
SENDERS, KILLS, MORE = 4, 4, 50


@pytest.fixture(scope="module")
def cloud() -> Iterator[RealCloud]:
    with real_cloud("--hosts", "1") as made:
        yield made


def boto(cloud: RealCloud, service: str) -> Any:
    """With the retries that boto3 has by itself."""
    return boto3.Session().client(
        service, endpoint_url=cloud.http, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


class Sender(threading.Thread):
    """Sends without pause; what was confirmed, and what went wrong."""

    def __init__(self, cloud: RealCloud, url: str, name: str) -> None:
        super().__init__(name=name)
        self.confirmed: list[str] = []
        self.failed: list[Exception] = []
        self.stop = threading.Event()
        self._cloud, self._url = cloud, url

    def run(self) -> None:
        with closing(boto(self._cloud, "sqs")) as sqs:
            while not self.stop.is_set():
                body = f"{self.name}-{len(self.confirmed)}-{len(self.failed)}"
                try:
                    sqs.send_message(QueueUrl=self._url, MessageBody=body)
                    self.confirmed.append(body)
                except (BotoCoreError, ClientError) as error:
                    self.failed.append(error)


def drained(sqs: Any, url: str) -> list[str]:
    """Everything that is in the queue."""
    bodies: list[str] = []
    while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=300).get("Messages", []):
        bodies += [one["Body"] for one in got]
        gone = [{"Id": str(index), "ReceiptHandle": one["ReceiptHandle"]} for index, one in enumerate(got)]
        sqs.delete_message_batch(QueueUrl=url, Entries=gone)
    return bodies


def go_on(senders: list[Sender]) -> None:
    """Each has more that is confirmed."""
    wanted = [len(one.confirmed) + MORE for one in senders]
    until(lambda: all(len(one.confirmed) >= more for one, more in zip(senders, wanted, strict=True)), 60)


def broker_pid(cloud: RealCloud) -> int:
    return until(lambda: cloud.actor_pids("MessageBroker"), 30)[0]


def test_brokers_that_are_killed_lose_nothing_and_senders_do_not_notice(cloud: RealCloud) -> None:
    with closing(boto(cloud, "sqs")) as sqs:
        url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
        senders = [Sender(cloud, url, f"s{index}") for index in range(SENDERS)]
        for one in senders:
            one.start()
        for _ in range(KILLS):
            go_on(senders)
            kill(broker_pid(cloud))
        go_on(senders)
        for one in senders:
            one.stop.set()
        for one in senders:
            one.join(240)
        confirmed = [body for one in senders for body in one.confirmed]
        failures = [error for one in senders for error in one.failed]
        found = drained(sqs, url)
        lost = set(confirmed) - set(found)
        twice = len(found) - len(set(found))
        print(f"{len(confirmed)} confirmed, {len(failures)} failed, {twice} twice, {len(lost)} lost")
        assert not lost
        assert not failures, failures[:3]


def test_a_control_plane_that_is_killed_is_waited_for(cloud: RealCloud) -> None:
    with closing(boto(cloud, "ec2")) as ec2:
        ec2.describe_instance_types(InstanceTypes=["t3.micro"])
        kill(until(lambda: cloud.actor_pids("ControlPlane"), 30)[0])
        assert ec2.describe_instance_types(InstanceTypes=["t3.micro"])["InstanceTypes"]
        assert ec2.describe_regions()["Regions"]
