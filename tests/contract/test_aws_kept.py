"""What DescribeInstances keeps of its answers never shows: after every change it says what one without memory says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from minicloud.aws.call import Call, Door
from minicloud.aws.gateway import served
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import CloudError, InsufficientStorage
from minicloud.cloud_aws import control_doors
from minicloud.compute.aws.ec2 import Ec2
from tests.contract.fake_host import FakeHost
from tests.contract.test_control_plane import Cloud, cloud_on
from tests.turns import until

IMAGE = "ami-0000000000000ba5e"
SCOPES = (Scope("000000000000", "us-east-1"), Scope("000000000000", "eu-west-1"), Scope("111122223333", "us-east-1"))
QUESTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"MaxResults": 5},
    {"Filters": [{"Name": "instance-state-name", "Values": ["running", "stopped"]}]},
    {"Filters": [{"Name": "tag:name", "Values": ["a*"]}]},
    {"Filters": [{"Name": "group-name", "Values": ["g?"]}]},
    {"Filters": [{"Name": "instance-type", "Values": ["t3.nano"]}], "MaxResults": 5},
)
CHANGES = 120


class Tenants:
    """Random changes by three scopes, and what each is shown."""

    def __init__(self, cloud: Cloud, host: FakeHost, seed: int) -> None:
        self.cloud, self.host, self.rand = cloud, host, random.Random(seed)
        door = next(one for one in control_doors(cloud.plane) if one.service == "ec2")
        assert isinstance(door.api, Ec2)
        self.api = door.api
        self.codec = served(Door("ec2", door.api)).faces["ec2"].codecs["DescribeInstances"]
        self.changed = 0

    async def _say(self, api: Ec2, scope: Scope, params: dict[str, Any]) -> bytes:
        call = Call(Caller(scope), "r", "ec2", "DescribeInstances", "http://localhost")
        return self.codec.write(await api.DescribeInstances(params, call), "r").whole()

    async def compare(self) -> int:
        """How many instances were shown. What a host reports between two looks is no difference of theirs."""
        seen = 0
        for scope in SCOPES:
            for params in QUESTIONS:
                for again in range(20):
                    said = await self._say(self.api, scope, params)
                    plain = await self._say(Ec2(self.cloud.plane.service, self.api._ports), scope, params)
                    if said == plain or again == 19:
                        break
                    assert said != await self._say(self.api, scope, params), "nothing changed meanwhile"
                assert said == plain
                seen += said.count(b"<instanceId>")
        return seen

    def _some(self, scope: Scope) -> list[str]:
        ids = list(self.cloud.plane.service.state.page("instance", scope))
        return self.rand.sample(ids, min(len(ids), self.rand.choice((1, 1, 2)))) or ["i-00000000000000000"]

    async def change(self) -> None:
        scope = self.rand.choice(SCOPES)
        name = self.rand.choice(sorted(self._ways(scope)))
        params, call = self._ways(scope)[name](), Call(Caller(scope), "r", "ec2", name.rpartition(" ")[2], "http://x")
        work: Callable[[Any, Call], Awaitable[Any]] = getattr(self.api, call.operation)
        fails = self.rand.random() < 0.15
        commit = self.cloud.plane.journal.commit
        if fails:
            self.cloud.plane.journal.commit = _full  # type: ignore[method-assign]
        try:
            await work(params, call)
            self.changed += 1
        except CloudError:
            pass
        finally:
            self.cloud.plane.journal.commit = commit  # type: ignore[method-assign]

    def _ways(self, scope: Scope) -> dict[str, Callable[[], dict[str, Any]]]:
        rand, state = self.rand, self.cloud.plane.service.state
        some, tag = self._some(scope), {"Key": rand.choice(("name", "b")), "Value": rand.choice(("a1", "a2", "<&é"))}
        groups = list(state.page("security_group", scope))
        group = rand.choice(groups or ["sg-0"])
        many: dict[str, Any] = {"InstanceIds": some}
        launch = {"ImageId": IMAGE, "InstanceType": rand.choice(("t3.nano", "t3.micro")), "MinCount": 1, "MaxCount": 2}
        return {
            "RunInstances": lambda: launch | ({"SecurityGroupIds": [group]} if groups and rand.random() < 0.5 else {}),
            "more RunInstances": lambda: launch,
            "StopInstances": lambda: many,
            "StartInstances": lambda: many,
            "TerminateInstances": lambda: many,
            "CreateTags": lambda: {"Resources": some, "Tags": [tag]},
            "more CreateTags": lambda: {"Resources": some, "Tags": [tag]},
            "DeleteTags": lambda: {"Resources": some, "Tags": [{"Key": tag["Key"]}]},
            "MonitorInstances": lambda: many,
            "UnmonitorInstances": lambda: many,
            "ModifyInstanceMetadataOptions": lambda: {
                "InstanceId": some[0],
                "HttpTokens": rand.choice(("required", "optional")),
            },
            "ModifyInstanceAttribute": lambda: {
                "InstanceId": some[0],
                "SourceDestCheck": {"Value": rand.random() < 0.5},
            },
            "type ModifyInstanceAttribute": lambda: {"InstanceId": some[0], "InstanceType": {"Value": "t3.micro"}},
            "groups ModifyInstanceAttribute": lambda: {"InstanceId": some[0], "Groups": [group]},
            "ModifyInstanceCreditSpecification": lambda: {
                "InstanceCreditSpecifications": [{"InstanceId": some[0], "CpuCredits": "unlimited"}]
            },
            "CreateSecurityGroup": lambda: {"GroupName": f"g{rand.randrange(9)}", "Description": "d"},
            "DeleteSecurityGroup": lambda: {"GroupId": group},
        }


async def _full(_records: Any) -> None:
    raise InsufficientStorage


@pytest.mark.parametrize("seed", range(3))
async def test_a_kept_answer_is_the_one_that_would_be_made(tmp_path: Path, seed: int) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        tenants, seen = Tenants(cloud, host, seed), 0
        for _ in range(CHANGES):
            await tenants.change()
            seen += await tenants.compare()
        assert tenants.changed > CHANGES // 3 and seen > 10 * CHANGES


async def test_another_scopes_changes_cost_nobody_an_answer(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        tenants = Tenants(cloud, host, 1)
        call = Call(Caller(SCOPES[0]), "r", "ec2", "DescribeInstances", "http://x")
        before = await tenants.api.DescribeInstances({}, call)
        launch = {"ImageId": IMAGE, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
        await tenants.api.RunInstances(launch, Call(Caller(SCOPES[2]), "r", "ec2", "RunInstances", "http://x"))
        assert await tenants.api.DescribeInstances({}, call) is before
        await tenants.api.RunInstances(launch, Call(Caller(SCOPES[0]), "r", "ec2", "RunInstances", "http://x"))
        assert await tenants.api.DescribeInstances({}, call) is not before


async def test_in_one_turn_only_what_is_on_disk_is_shown(tmp_path: Path) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host() as host:
        api = Tenants(cloud, host, 1).api
        describe = Call(Caller(SCOPES[0]), "r", "ec2", "DescribeInstances", "http://x")
        now = api.decides["DescribeInstances"]
        commit, written = cloud.plane.journal.commit, asyncio.Event()

        async def slow(records: Any) -> None:
            await written.wait()
            await commit(records)

        await cloud.plane.shell.barrier()
        assert now({}, describe) is not None and now({"DryRun": True}, describe) is None
        with pytest.raises(CloudError, match="does not exist"):
            now({"InstanceIds": ["i-00000000000000000"]}, describe)
        cloud.plane.journal.commit = slow  # type: ignore[method-assign]
        launch = {"ImageId": IMAGE, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
        made = asyncio.create_task(api.RunInstances(launch, describe._replace(operation="RunInstances")))
        await until(lambda: bool(cloud.plane.service.state.page("instance", SCOPES[0])))
        assert now({}, describe) is None
        written.set()
        await made
        await cloud.plane.shell.barrier()
        decided, done = now({}, describe), asyncio.get_running_loop().create_future()
        assert decided is not None and decided.result is await api.DescribeInstances({}, describe)
        api.after_flush(done.set_result)
        assert not done.done() and await done is None
