"""Rules by boto3 on a real cloud: state changes of instances to a queue and a function, custom events, a schedule;
while the process that has the rules is killed under them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from minicloud.client import Client
from minicloud.client.function_models import FunctionStatement
from minicloud.client.models import TemplateData
from tests.doors.test_aws_ec2 import boto
from tests.doors.test_functions import package
from tests.real_cloud import RealCloud, kill, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]

NOTIFICATION = "EC2 Instance State-change Notification"
STATES = json.dumps({"source": ["aws.ec2"], "detail-type": [NOTIFICATION]})
ECHO = """
def handler(event, context):
    return event
"""


class Aws:
    """Clients of one cloud, and a queue whose messages are remembered."""

    def __init__(self, cloud: RealCloud) -> None:
        self.events, self.sqs, self.ec2 = (boto(cloud, name) for name in ("events", "sqs", "ec2"))
        self.url = self.sqs.create_queue(QueueName=f"q{time.monotonic_ns():x}")["QueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.arn: str = attributes["Attributes"]["QueueArn"]
        self.seen: list[dict[str, Any]] = []

    def rule(self, name: str, **given: Any) -> str:
        """Its ARN; its events go to the queue."""
        made: str = self.events.put_rule(Name=name, **given)["RuleArn"]
        done = self.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": self.arn}])
        assert done["FailedEntryCount"] == 0
        return made

    def receive(self) -> list[dict[str, Any]]:
        """All that came until now."""
        found = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for one in found.get("Messages", ()):
            self.seen.append(json.loads(one["Body"]))
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=one["ReceiptHandle"])
        return self.seen

    def states(self, instance_id: str) -> set[str]:
        return {one["detail"]["state"] for one in self.receive() if one["detail"]["instance-id"] == instance_id}

    def close(self) -> None:
        for rule in self.events.list_rules()["Rules"]:
            targets = self.events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
            if targets:
                self.events.remove_targets(Rule=rule["Name"], Ids=[one["Id"] for one in targets])
            self.events.delete_rule(Name=rule["Name"])
        self.sqs.delete_queue(QueueUrl=self.url)
        for client in (self.events, self.sqs, self.ec2):
            client.close()


@pytest.fixture
def aws(cloud: RealCloud) -> Iterator[Aws]:
    made = Aws(cloud)
    yield made
    made.close()


def launched(aws: Aws) -> str:
    (one,) = aws.ec2.run_instances(ImageId="base", InstanceType="t3.nano", MinCount=1, MaxCount=1)["Instances"]
    return str(one["InstanceId"])


def test_state_changes_of_an_instance_reach_a_queue(aws: Aws) -> None:
    aws.rule("all", EventPattern=STATES)
    aws.rule("other", EventPattern=json.dumps({"source": ["aws.ec2"], "detail": {"state": ["stopping"]}}))
    instance_id = launched(aws)
    until(lambda: {"pending", "running"} <= aws.states(instance_id), 30, "it runs")
    event = next(one for one in aws.seen if one["detail"] == {"instance-id": instance_id, "state": "running"})
    scope = aws.arn.split(":")[3:5]
    assert (event["version"], event["source"], event["detail-type"]) == ("0", "aws.ec2", NOTIFICATION)
    assert [event["region"], event["account"]] == scope
    assert event["resources"] == [f"arn:aws:ec2:{scope[0]}:{scope[1]}:instance/{instance_id}"]
    aws.ec2.terminate_instances(InstanceIds=[instance_id])
    until(lambda: {"shutting-down", "terminated"} <= aws.states(instance_id), 30, "it is gone")
    running = {"instance-id": instance_id, "state": "running"}
    assert sum(one["detail"] == running for one in aws.seen) == 1


def test_state_changes_survive_the_killed_process_that_has_the_rules(cloud: RealCloud, aws: Aws) -> None:
    aws.rule("all", EventPattern=STATES)
    (pid,) = cloud.actor_pids("Functions")
    kill(pid)
    instance_id = launched(aws)
    until(lambda: {"pending", "running"} <= aws.states(instance_id), 40, "it runs")
    aws.ec2.stop_instances(InstanceIds=[instance_id])
    until(lambda: cloud.actor_pids("Functions") not in ([], [pid]), 20, "the process is back")
    (pid,) = cloud.actor_pids("Functions")
    kill(pid)
    until(lambda: {"stopping", "stopped"} <= aws.states(instance_id), 40, "it stopped")
    aws.ec2.terminate_instances(InstanceIds=[instance_id])
    (plane,) = cloud.actor_pids("ControlPlane")
    kill(plane)
    until(lambda: "terminated" in aws.states(instance_id), 60, "it is gone")


def test_an_event_invokes_a_function_that_lets_rules_in(client: Client, aws: Aws) -> None:
    name = f"f{time.monotonic_ns():x}"
    function = client.functions.create(name, package(ECHO), runtime="python3.11", handler="app.handler")
    client.triggers.set_event_invoke(name, on_success=aws.arn)
    try:
        rule_arn = aws.events.put_rule(Name="mine", EventPattern=json.dumps({"source": ["my.app"]}))["RuleArn"]
        target = {
            "Id": "f",
            "Arn": function.arn,
            "InputTransformer": {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"number": <n>}'},
            "DeadLetterConfig": {"Arn": aws.arn},
        }
        aws.events.put_targets(Rule="mine", Targets=[target])
        entry = {"Source": "my.app", "DetailType": "Order", "Detail": '{"n": 7}'}
        (taken,) = aws.events.put_events(Entries=[entry])["Entries"]
        until(lambda: [one for one in aws.receive() if one.get("id") == taken["EventId"]], 20, "the dead letter")
        client.triggers.permit(name, FunctionStatement("rule", "events.amazonaws.com", source_arn=rule_arn))
        aws.events.put_events(Entries=[entry])
        done = until(lambda: [one for one in aws.receive() if "requestPayload" in one], 20, "the invocation")
        assert done[0]["requestPayload"] == done[0]["responsePayload"] == {"number": 7}
    finally:
        client.functions.delete(name)


def test_a_group_tells_what_became_of_its_instances(client: Client, aws: Aws) -> None:
    aws.rule(
        "groups", EventPattern=json.dumps({"source": ["aws.autoscaling"], "detail": {"StatusCode": ["Successful"]}})
    )
    name = f"g{time.monotonic_ns():x}"
    client.templates.create(name, TemplateData("base", "t3.nano"))
    group = client.groups.create(name, name, min_size=0, max_size=1, desired=1)
    try:
        until(lambda: "EC2 Instance Launch Successful" in kinds(aws), 40, "the launch is told")
        (event,) = aws.seen
        assert event["source"] == "aws.autoscaling" and event["detail"]["AutoScalingGroupName"] == name
        instance_id = event["detail"]["EC2InstanceId"]
        assert event["resources"][0] == group.arn and event["resources"][1].endswith(f":instance/{instance_id}")
        client.groups.set_desired(name, 0)
        until(lambda: "EC2 Instance Terminate Successful" in kinds(aws), 60, "the end is told")
    finally:
        client.groups.delete(name, force=True)
        client.groups.wait_gone(name)
        client.templates.delete(name)


def kinds(aws: Aws) -> set[str]:
    return {one["detail-type"] for one in aws.receive()}


def test_the_command_line_on_a_real_cloud(cloud: RealCloud, aws: Aws) -> None:
    queue = aws.arn.rpartition(":")[2]
    cloud.cli("rule", "put", "cli", "--instance-state", "running")
    given = ("--template", '{"up": <id>}', "--path", "id=$.detail.instance-id")
    cloud.cli("rule", "target", "add", "cli", "--queue", queue, *given)
    made = json.loads(cloud.cli("instance", "launch", "--type", "t3.nano", "--wait", "-o", "json").stdout)
    instance_id = made[0]["id"]
    until(lambda: {"up": instance_id} in aws.receive(), 30, "it is told")
    cloud.cli("instance", "terminate", instance_id)
    cloud.cli("rule", "delete", "cli", "--force")
