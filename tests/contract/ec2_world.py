"""The control plane's AWS doors in this process, with a host that only says what it would do.

async with ec2_world(tmp_path) as world:
    ec2 = world.client("ec2")
    (one,) = await world.launch(ec2)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from minicloud.cloud_aws import control_doors
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world
from tests.contract.fake_host import FakeHost
from tests.contract.test_control_plane import Cloud, cloud_on

IMAGE = "ami-0000000000000ba5e"


class Ec2World:
    def __init__(self, cloud: Cloud, aws: AwsWorld, host: FakeHost) -> None:
        self.cloud, self.aws, self.host = cloud, aws, host

    def client(self, service: str, **options: Any) -> AsyncBoto:
        return self.aws.client(service, **options)

    async def launch(self, ec2: AsyncBoto, count: int = 1, **given: Any) -> list[dict[str, Any]]:
        given = {"ImageId": IMAGE, "InstanceType": "t3.micro", **given}
        made = await ec2.run_instances(MinCount=count, MaxCount=count, **given)
        return list(made["Instances"])

    async def wait(self, ec2: AsyncBoto, waiter: str, **given: Any) -> None:
        pace = {"Delay": 0.05, "MaxAttempts": 200}
        await self.aws.run(lambda: ec2.boto.get_waiter(waiter).wait(WaiterConfig=pace, **given))

    async def pages(self, ec2: AsyncBoto, operation: str, member: str, size: int, **given: Any) -> list[list[Any]]:
        def walk() -> list[list[Any]]:
            paginator = ec2.boto.get_paginator(operation)
            found = paginator.paginate(PaginationConfig={"PageSize": size}, **given)
            return [page[member] for page in found]

        return await self.aws.run(walk)


@contextlib.asynccontextmanager
async def ec2_world(folder: Path) -> AsyncIterator[Ec2World]:
    async with cloud_on(folder) as cloud, cloud.host() as host, aws_world(*control_doors(cloud.plane)) as aws:
        yield Ec2World(cloud, aws, host)
