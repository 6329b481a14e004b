"""SSM through boto3: commands (a stand-in runs them), parameters, what a restart leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minicloud import cloud_aws
from minicloud.base.errors import InsufficientStorage, Unavailable
from minicloud.base.machine import Context
from minicloud.compute.aws.running import Ended, Run, Runner
from minicloud.compute.public_images import PARAMETERS
from minicloud.compute.ssm import RUNNING, Invocation, Report, Send, SentCommand, Ssm
from tests.contract.aws_world import refused
from tests.contract.ec2_world import Ec2World, ec2_world

DOCUMENT = "AWS-RunShellScript"


class Guests:
    """Answers by script. `hang` never ends."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.ended = 0

    def __call__(self, _plane: Any) -> Any:
        return self.run

    async def run(self, run: Run) -> Ended:
        self.runs.append(run)
        if run.script == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1
        if run.script == "away":
            raise Unavailable("the host is away")
        return Ended(int(run.script.removeprefix("exit ")), f"out of {run.instance_id}", "err")


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Guests:
    made = Guests()
    monkeypatch.setattr(cloud_aws, "Guests", made)
    return made


@asynccontextmanager
async def running(folder: Path, count: int = 1) -> AsyncIterator[tuple[Ec2World, list[str]]]:
    async with ec2_world(folder) as world:
        ec2 = world.client("ec2")
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "web"}]}]
        ids = [one["InstanceId"] for one in await world.launch(ec2, count, TagSpecifications=tags)]
        await world.wait(ec2, "instance_running", InstanceIds=ids)
        yield world, ids


async def test_a_command_runs_and_its_waiter_ends(tmp_path: Path, guests: Guests) -> None:
    async with running(tmp_path) as (world, (one,)):
        ssm = world.client("ssm")
        (known,) = (await ssm.describe_instance_information())["InstanceInformationList"]
        assert (known["InstanceId"], known["PingStatus"]) == (one, "Online")
        sent = await ssm.send_command(
            InstanceIds=[one],
            DocumentName=DOCUMENT,
            Parameters={"commands": ["exit 0"], "workingDirectory": ["/tmp"], "executionTimeout": ["60"]},
        )
        command = sent["Command"]["CommandId"]
        await world.wait(ssm, "command_executed", CommandId=command, InstanceId=one)
        done = await ssm.get_command_invocation(CommandId=command, InstanceId=one)
        assert (done["Status"], done["ResponseCode"]) == ("Success", 0)
        assert done["StandardOutputContent"] == f"out of {one}" and done["StandardErrorContent"] == "err"
        assert (guests.runs[0].cwd, guests.runs[0].address) == ("/tmp", "127.0.0.1:9")
        (listed,) = (await ssm.list_command_invocations(CommandId=command, Details=True))["CommandInvocations"]
        assert listed["CommandPlugins"][0]["Output"].startswith("out of")
        (whole,) = (await ssm.list_commands())["Commands"]
        assert (whole["Status"], whole["CompletedCount"], whole["ErrorCount"]) == ("Success", 1, 0)


async def test_failures_timeouts_and_cancels(tmp_path: Path, guests: Guests) -> None:
    async with running(tmp_path) as (world, (one,)):
        ssm = world.client("ssm")

        async def send(script: str, seconds: str = "60") -> str:
            given = {"commands": [script], "executionTimeout": [seconds]}
            sent = await ssm.send_command(InstanceIds=[one], DocumentName=DOCUMENT, Parameters=given)
            return str(sent["Command"]["CommandId"])

        async def ended(command: str) -> dict[str, Any]:
            while True:
                done = await ssm.get_command_invocation(CommandId=command, InstanceId=one)
                if done["Status"] not in ("Pending", "InProgress"):
                    return dict(done)

        failed = await ended(await send("exit 3"))
        assert (failed["Status"], failed["ResponseCode"]) == ("Failed", 3)
        away = await ended(await send("away"))
        assert away["Status"] == "Failed" and "the host is away" in away["StandardErrorContent"]
        late = await ended(await send("hang", "1"))
        assert (late["Status"], late["StatusDetails"]) == ("TimedOut", "Execution Timed Out")
        hung = await send("hang")
        await ssm.cancel_command(CommandId=hung)
        assert (await ended(hung))["Status"] == "Cancelled"
        ok = {"commands": ["exit 0"]}
        with refused("InvalidInstanceId", "not in a valid state"):
            await ssm.send_command(InstanceIds=["i-0123456789abcdef0"], DocumentName=DOCUMENT, Parameters=ok)
        with refused("InvalidDocument"):
            await ssm.send_command(InstanceIds=[one], DocumentName="AWS-UpdateSSMAgent")
        with refused("InvalidParameters"):
            await ssm.send_command(InstanceIds=[one], DocumentName=DOCUMENT, Parameters={"x": ["y"]})
        with refused("InvocationDoesNotExist"):
            await ssm.get_command_invocation(CommandId=hung, InstanceId="i-0123456789abcdef0")
        with refused("ValidationException", f"minicloud instance connect {one}"):
            await ssm.start_session(Target=one)
        assert (await ssm.describe_sessions(State="Active"))["Sessions"] == []
        with refused("DoesNotExistException"):
            await ssm.terminate_session(SessionId="me-0123456789abcdef0")


async def test_targets_by_tag(tmp_path: Path, guests: Guests) -> None:
    async with running(tmp_path, 3) as (world, ids):
        ssm = world.client("ssm")
        sent = await ssm.send_command(
            Targets=[{"Key": "tag:role", "Values": ["web"]}],
            DocumentName=DOCUMENT,
            Parameters={"commands": ["exit 0"]},
            MaxConcurrency="50%",
        )
        for one in ids:
            await world.wait(ssm, "command_executed", CommandId=sent["Command"]["CommandId"], InstanceId=one)
        assert sorted(run.instance_id for run in guests.runs) == sorted(ids)


async def test_what_ran_at_a_restart_failed(tmp_path: Path, guests: Guests) -> None:
    async with running(tmp_path) as (world, (one,)):
        ssm = world.client("ssm")
        sent = await ssm.send_command(InstanceIds=[one], DocumentName=DOCUMENT, Parameters={"commands": ["hang"]})
        command = sent["Command"]["CommandId"]
        while not guests.runs:
            await ssm.list_commands()
    async with ec2_world(tmp_path) as world:
        ssm = world.client("ssm")
        while (done := await ssm.get_command_invocation(CommandId=command, InstanceId=one))["Status"] != "Failed":
            pass
        assert "control plane ended" in done["StandardErrorContent"]


async def test_parameters(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ssm = world.client("ssm")
        path, image = next(iter(PARAMETERS.items()))
        public = (await ssm.get_parameter(Name=path))["Parameter"]
        assert public["Value"] == image
        latest = await ssm.get_parameters_by_path(Path="/aws/service/ami-amazon-linux-latest")
        assert len(latest["Parameters"]) == 10 and latest["NextToken"]
        assert (await ssm.put_parameter(Name="/app/url", Value="http://x", Type="String"))["Version"] == 1
        await ssm.put_parameter(Name="/app/db/password", Value="s3cret", Type="SecureString")
        with refused("ParameterAlreadyExists"):
            await ssm.put_parameter(Name="/app/url", Value="y", Type="String")
        assert (await ssm.put_parameter(Name="/app/url", Value="http://y", Overwrite=True))["Version"] == 2
        sealed = (await ssm.get_parameter(Name="/app/db/password"))["Parameter"]["Value"]
        assert "s3cret" not in sealed
    async with ec2_world(tmp_path) as world:
        ssm = world.client("ssm")
        clear = await ssm.get_parameter(Name="/app/db/password", WithDecryption=True)
        assert clear["Parameter"]["Value"] == "s3cret"
        flat = await ssm.get_parameters_by_path(Path="/app")
        assert [one["Name"] for one in flat["Parameters"]] == ["/app/url"]
        deep = await ssm.get_parameters_by_path(Path="/app", Recursive=True)
        assert len(deep["Parameters"]) == 2
        many = await ssm.get_parameters(Names=["/app/url", "/app/none"])
        assert many["InvalidParameters"] == ["/app/none"] and many["Parameters"][0]["Value"] == "http://y"
        await ssm.add_tags_to_resource(
            ResourceType="Parameter", ResourceId="/app/url", Tags=[{"Key": "a", "Value": "b"}]
        )
        tags = await ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/app/url")
        assert tags["TagList"] == [{"Key": "a", "Value": "b"}]
        await ssm.delete_parameter(Name="/app/url")
        with refused("ParameterNotFound"):
            await ssm.get_parameter(Name="/app/url")
        with refused("ValidationException", "prefixed"):
            await ssm.put_parameter(Name="/aws/mine", Value="x", Type="String")


class Bench:
    """A runner over a machine of its own. `full`: how many ends cannot be recorded."""

    def __init__(self, full: int = 0) -> None:
        self.ssm, self.full, self.now, self.tries = Ssm(cast(Any, None)), full, 1_000.0, 0

    async def submit(self, command: Any) -> Any:
        if isinstance(command, Report) and command.invocation.status not in RUNNING:
            self.tries += 1
            if self.tries <= self.full:
                raise InsufficientStorage("the disk is full")
        outcome = self.ssm.decide(command, Context(self.now, Random(1)))
        for record in outcome.records:
            self.ssm.apply(record)
        return outcome.reply

    async def send(self, **given: Any) -> Invocation:
        """What became of a command to one instance, whose host is not there."""
        command = SentCommand("c", "0" * 12, "us-east-1", "exit 0", self.now, self.now + 9e9, ["i-1"], **given)
        service = SimpleNamespace(state=SimpleNamespace(instances={}, hosts={}))
        runner = Runner(cast(Any, service), self.ssm, self.submit, cast(Any, None), lambda: self.now, again_s=0.0)
        await runner.send(Send(command))
        await asyncio.gather(*runner._tasks.values())
        return self.ssm.invocation(command, "i-1")


async def test_what_has_not_begun_in_time_does_not_begin() -> None:
    one = await Bench().send(deliver_s=0)
    assert (one.status, one.started) == ("TimedOut", 0.0)
    assert (await Bench().send(deliver_s=30)).status == "Failed"  # it was tried


async def test_an_end_that_could_not_be_recorded_is_recorded_later() -> None:
    bench = Bench(full=3)
    one = await bench.send()
    assert (one.status, bench.tries) == ("Failed", 4)


async def test_a_parameter_by_arn_is_the_caller_s_own(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ssm = world.client("ssm")
        await ssm.put_parameter(Name="/a/b", Value="v", Type="String")
        arn = (await ssm.get_parameter(Name="/a/b"))["Parameter"]["ARN"]
        assert (await ssm.get_parameter(Name=arn))["Parameter"]["Value"] == "v"
        for other in (arn.replace("us-east-1", "eu-west-1"), arn.replace(":000000000000:", ":999999999999:")):
            with refused("ParameterNotFound"):
                await ssm.get_parameter(Name=other)
        with refused("InvalidResourceId"):
            await ssm.add_tags_to_resource(
                ResourceType="Parameter", ResourceId="/none", Tags=[{"Key": "k", "Value": "v"}]
            )


async def test_instance_connect_refuses_with_the_way_there_is(tmp_path: Path, guests: Guests) -> None:
    async with running(tmp_path) as (world, (one,)):
        connect, ec2 = world.client("ec2-instance-connect"), world.client("ec2")
        key = {"SSHPublicKey": "ssh-ed25519 " + "A" * 300}
        with refused("ServiceException", f"`minicloud instance connect {one}`"):
            await connect.send_ssh_public_key(InstanceId=one, InstanceOSUser="root", **key)
        with refused("SerialConsoleAccessDisabledException", f"`minicloud instance console {one}`"):
            await connect.send_serial_console_ssh_public_key(InstanceId=one, **key)
        with refused("InvalidArgsException", "us-east-1"):
            await connect.send_ssh_public_key(
                InstanceId=one, InstanceOSUser="root", AvailabilityZone="eu-west-1a", **key
            )
        strangers = world.client("ec2-instance-connect", account="444455556666")
        for asks, who in ((connect, "i-00000000000000001"), (strangers, one)):
            with refused("EC2InstanceNotFoundException"):
                await asks.send_ssh_public_key(InstanceId=who, InstanceOSUser="root", **key)
        await ec2.stop_instances(InstanceIds=[one])
        with refused("EC2InstanceStateInvalidException"):
            await connect.send_ssh_public_key(InstanceId=one, InstanceOSUser="root", **key)
