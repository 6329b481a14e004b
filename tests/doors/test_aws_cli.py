"""The aws CLI, unmodified: version 1, which is installed beside this Python, and version 2, where the machine has it
(Debian: `apt-get install awscli`). AWS_CLI and AWS_CLI_2 name others.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.real_cloud import RealCloud, until

pytestmark = pytest.mark.timeout(480)
PROGRAMS = {
    1: Path(os.environ.get("AWS_CLI") or Path(sys.executable).parent / "aws"),  # pyproject.toml, extra dev
    2: Path(os.environ.get("AWS_CLI_2") or "/usr/bin/aws"),
}
RUNNING = "Name=instance-state-name,Values=running"


class Cli:
    def __init__(self, version: int, cloud: RealCloud) -> None:
        self.version = version
        self._program, self.failed = PROGRAMS[version], {1: 255, 2: 254}[version]
        self._named = (version == 2, ("--endpoint-url", cloud.http))
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": cloud.http,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_DEFAULT_OUTPUT": "json",
            "AWS_PAGER": "",
        }
        if not self._program.exists() or f"aws-cli/{version}." not in self._run("--version").stdout:
            pytest.skip(f"there is no aws CLI of version {version} at {self._program}")

    def _run(self, *args: str) -> subprocess.CompletedProcess[str]:
        words = [str(self._program), *args]
        return subprocess.run(words, env=self._env, capture_output=True, text=True, timeout=240, check=False)

    def _where(self, service: str) -> tuple[str, ...]:
        """Version 2 of Debian is of 2023, before AWS_ENDPOINT_URL; version 1 does not heed it for SQS."""
        always, named = self._named
        return named if always or service == "sqs" else ()

    def __call__(self, *args: str, code: int = 0) -> Any:
        done = self._run(*self._where(args[0]), *args)
        assert done.returncode == code, (args, done.stdout, done.stderr)
        return done.stderr if code else json.loads(done.stdout) if done.stdout.strip() else None

    def tried(self, *args: str) -> Any:
        """What it says; None while it says no."""
        done = self._run(*self._where(args[0]), *args)
        return json.loads(done.stdout) if not done.returncode and done.stdout.strip() else None


@pytest.fixture(params=PROGRAMS)
def aws(request: pytest.FixtureRequest, cloud: RealCloud) -> Cli:
    return Cli(request.param, cloud)


def test_a_server(aws: Cli) -> None:
    aws("ec2", "create-security-group", "--group-name", "cli-web", "--description", "web")
    rule = ("--group-name", "cli-web", "--protocol", "tcp", "--port", "80", "--cidr", "0.0.0.0/0")
    aws("ec2", "authorize-security-group-ingress", *rule)
    image = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    made = aws(
        "ec2", "run-instances", "--image-id", image, "--instance-type", "t3.micro",
        "--security-groups", "cli-web", "--user-data", "#!/bin/sh\necho from the cli",
        "--tag-specifications", "ResourceType=instance,Tags=[{Key=Name,Value=cli}]",
        "--block-device-mappings", "DeviceName=/dev/xvda,Ebs={VolumeSize=9}",
    )  # fmt: skip
    one = made["Instances"][0]["InstanceId"]
    aws("ec2", "wait", "instance-running", "--instance-ids", one)
    found = aws("ec2", "describe-instances", "--filters", "Name=tag:Name,Values=cli", RUNNING)
    assert found["Reservations"][0]["Instances"][0]["SecurityGroups"][0]["GroupName"] == "cli-web"
    sent = aws(
        "ssm", "send-command", "--instance-ids", one, "--document-name", "AWS-RunShellScript",
        "--parameters", 'commands=["uname -n"]',
    )["Command"]["CommandId"]  # fmt: skip
    aws("ssm", "wait", "command-executed", "--command-id", sent, "--instance-id", one)
    done = aws("ssm", "get-command-invocation", "--command-id", sent, "--instance-id", one)
    assert done["StandardOutputContent"] == f"{one}\n"
    aws("ec2", "terminate-instances", "--instance-ids", one)
    aws("ec2", "wait", "instance-terminated", "--instance-ids", one)
    aws("ec2", "delete-security-group", "--group-name", "cli-web")
    error = aws("ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0", code=aws.failed)
    assert "InvalidInstanceID.NotFound" in error


def test_a_function_that_a_topic_feeds_through_a_queue(aws: Cli, tmp_path: Path) -> None:
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:*"}]}
    role = aws("iam", "create-role", "--role-name", "cli-f", "--assume-role-policy-document", json.dumps(trust))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as files:
        files.writestr("app.py", "def handler(event, _):\n    print('got', event['Records'][0]['body'])\n")
    aws(
        "lambda", "create-function", "--function-name", "cli-f", "--runtime", "python3.11", "--handler", "app.handler",
        "--role", role["Role"]["Arn"], "--zip-file", f"fileb://{tmp_path}/code.zip",
    )  # fmt: skip
    aws("lambda", "wait", "function-active-v2", "--function-name", "cli-f")
    url = aws("sqs", "create-queue", "--queue-name", f"cli-q-{aws.version}")["QueueUrl"]
    shown = aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "QueueArn")
    queue = shown["Attributes"]["QueueArn"]
    topic = aws("sns", "create-topic", "--name", "cli-t")["TopicArn"]
    raw = ("--attributes", "RawMessageDelivery=true")
    aws("sns", "subscribe", "--topic-arn", topic, "--protocol", "sqs", "--notification-endpoint", queue, *raw)
    given = ("--function-name", "cli-f", "--event-source-arn", queue)
    mapping = aws("lambda", "create-event-source-mapping", *given)["UUID"]
    aws("sns", "publish", "--topic-arn", topic, "--message", "hello")
    lines = ("logs", "filter-log-events", "--log-group-name", "/aws/lambda/cli-f", "--filter-pattern", "got")
    until(lambda: "got hello" in json.dumps(aws.tried(*lines)), 40, "the function's line")
    aws("lambda", "delete-event-source-mapping", "--uuid", mapping)
    for words in (
        ("lambda", "delete-function", "--function-name", "cli-f"),
        ("logs", "delete-log-group", "--log-group-name", "/aws/lambda/cli-f"),
        ("sns", "delete-topic", "--topic-arn", topic),
        ("sqs", "delete-queue", "--queue-url", url),
        ("iam", "delete-role", "--role-name", "cli-f"),
    ):
        aws(*words)


def test_a_group_behind_a_balancer_and_an_alarm(aws: Cli) -> None:
    assert aws("sts", "get-caller-identity")["Account"] == "000000000000"
    subnets = [one["SubnetId"] for one in aws("ec2", "describe-subnets")["Subnets"]]
    (balancer,) = aws("elbv2", "create-load-balancer", "--name", "cli-web", "--subnets", *subnets)["LoadBalancers"]
    (group,) = aws(
        "elbv2", "create-target-group", "--name", "cli-web", "--protocol", "HTTP", "--port", "8080",
        "--vpc-id", balancer["VpcId"], "--health-check-path", "/health", "--health-check-interval-seconds", "5",
        "--healthy-threshold-count", "2", "--health-check-timeout-seconds", "2",
    )["TargetGroups"]  # fmt: skip
    target = group["TargetGroupArn"]
    delay = "Key=deregistration_delay.timeout_seconds,Value=1"
    aws("elbv2", "modify-target-group-attributes", "--target-group-arn", target, "--attributes", delay)
    action = f"Type=forward,TargetGroupArn={target}"
    where = ("--load-balancer-arn", balancer["LoadBalancerArn"])
    aws("elbv2", "create-listener", *where, "--protocol", "HTTP", "--port", "80", "--default-actions", action)
    serve = base64.b64encode(b"#!/bin/sh\npython3 -m minicloud_workers.http_server --port 8080 &\n").decode()
    data = json.dumps({"ImageId": "base", "InstanceType": "t3.nano", "UserData": serve})
    aws("ec2", "create-launch-template", "--launch-template-name", "cli-web", "--launch-template-data", data)
    named = ("--auto-scaling-group-name", "cli-web")
    aws(
        "autoscaling", "create-auto-scaling-group", *named, "--min-size", "1", "--max-size", "1",
        "--vpc-zone-identifier", ",".join(subnets), "--launch-template", "LaunchTemplateName=cli-web",
        "--target-group-arns", target,
    )  # fmt: skip
    groups = ("autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", "cli-web")
    health = ("elbv2", "describe-target-health", "--target-group-arn", target)
    until(lambda: '"healthy"' in json.dumps(aws(*health)), 60, "a healthy target")
    aws("elbv2", "wait", "target-in-service", "--target-group-arn", target)
    address = balancer["AvailabilityZones"][0]["LoadBalancerAddresses"][0]["IpAddress"]
    with urllib.request.urlopen(f"http://{address}/health", timeout=20) as answer:
        assert answer.status == 200
    aws(
        "cloudwatch", "put-metric-alarm", "--alarm-name", "cli-hot", "--namespace", "cli", "--metric-name", "m",
        "--statistic", "Sum", "--period", "60", "--evaluation-periods", "1", "--threshold", "1",
        "--comparison-operator", "GreaterThanThreshold",
    )  # fmt: skip
    aws("cloudwatch", "wait", "alarm-exists", "--alarm-names", "cli-hot")
    aws("cloudwatch", "put-metric-data", "--namespace", "cli", "--metric-name", "m", "--value", "7")
    aws("cloudwatch", "delete-alarms", "--alarm-names", "cli-hot")
    aws("autoscaling", "delete-auto-scaling-group", *named, "--force-delete")
    until(lambda: not aws(*groups)["AutoScalingGroups"], 60, "the group's end")
    aws("elbv2", "delete-load-balancer", *where)
    aws("elbv2", "delete-target-group", "--target-group-arn", target)
    aws("ec2", "delete-launch-template", "--launch-template-name", "cli-web")


def test_a_rule(aws: Cli) -> None:
    url = aws("sqs", "create-queue", "--queue-name", f"cli-events-{aws.version}")["QueueUrl"]
    shown = aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "QueueArn")
    target = f"Id=q,Arn={shown['Attributes']['QueueArn']},InputPath=$.detail"
    aws("events", "put-rule", "--name", "cli-orders", "--event-pattern", '{"source":["my.app"]}')
    assert aws("events", "put-targets", "--rule", "cli-orders", "--targets", target)["FailedEntryCount"] == 0
    entry = json.dumps([{"Source": "my.app", "DetailType": "Order", "Detail": '{"n":1}'}])
    assert aws("events", "put-events", "--entries", entry)["FailedEntryCount"] == 0
    given = ("--queue-url", url, "--wait-time-seconds", "10")
    found = until(lambda: aws("sqs", "receive-message", *given), 40, "the event")
    assert json.loads(found["Messages"][0]["Body"]) == {"n": 1}
    error = aws("events", "delete-rule", "--name", "cli-orders", code=aws.failed)
    assert "Rule can't be deleted since it has targets." in error
    aws("events", "remove-targets", "--rule", "cli-orders", "--ids", "q")
    aws("events", "delete-rule", "--name", "cli-orders")
    aws("sqs", "delete-queue", "--queue-url", url)
