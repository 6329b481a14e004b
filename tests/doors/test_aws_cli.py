"""The aws CLI, unmodified: the one that is installed beside this Python (or AWS_CLI names it)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_cloud import RealCloud

AWS = Path(os.environ.get("AWS_CLI") or Path(sys.executable).parent / "aws")  # pyproject.toml, extra dev
pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(not AWS.exists(), reason=f"no aws CLI at {AWS}")]


def aws(cloud: RealCloud, *args: str, code: int = 0) -> Any:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": cloud.http,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_DEFAULT_OUTPUT": "json",
    }
    done = subprocess.run([str(AWS), *args], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return done.stderr if code else json.loads(done.stdout) if done.stdout.strip() else None


def test_a_server_by_the_command_line(cloud: RealCloud) -> None:
    aws(cloud, "ec2", "create-security-group", "--group-name", "cli-web", "--description", "web")
    rule = ("--group-name", "cli-web", "--protocol", "tcp", "--port", "80", "--cidr", "0.0.0.0/0")
    aws(cloud, "ec2", "authorize-security-group-ingress", *rule)
    image = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    made = aws(
        cloud, "ec2", "run-instances", "--image-id", image, "--instance-type", "t3.micro",
        "--security-groups", "cli-web", "--user-data", "#!/bin/sh\necho from the cli",
        "--tag-specifications", "ResourceType=instance,Tags=[{Key=Name,Value=cli}]",
        "--block-device-mappings", "DeviceName=/dev/xvda,Ebs={VolumeSize=9}",
    )  # fmt: skip
    one = made["Instances"][0]["InstanceId"]
    aws(cloud, "ec2", "wait", "instance-running", "--instance-ids", one)
    found = aws(cloud, "ec2", "describe-instances", "--filters", "Name=tag:Name,Values=cli")
    assert found["Reservations"][0]["Instances"][0]["SecurityGroups"][0]["GroupName"] == "cli-web"
    sent = aws(
        cloud, "ssm", "send-command", "--instance-ids", one, "--document-name", "AWS-RunShellScript",
        "--parameters", 'commands=["uname -n"]',
    )["Command"]["CommandId"]  # fmt: skip
    aws(cloud, "ssm", "wait", "command-executed", "--command-id", sent, "--instance-id", one)
    done = aws(cloud, "ssm", "get-command-invocation", "--command-id", sent, "--instance-id", one)
    assert done["StandardOutputContent"] == f"{one}\n"
    aws(cloud, "ec2", "terminate-instances", "--instance-ids", one)
    aws(cloud, "ec2", "wait", "instance-terminated", "--instance-ids", one)
    aws(cloud, "ec2", "delete-security-group", "--group-name", "cli-web")
    error = aws(cloud, "ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0", code=255)
    assert "InvalidInstanceID.NotFound" in error
