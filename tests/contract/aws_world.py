"""AWS doors served in this process on a free port, and boto3 clients to them.

async with aws_world(Door("sqs", QueueApi(...))) as world:
    sqs = world.client("sqs")                          # account 000000000000, us-east-1; or account=, region=
    made = await sqs.create_queue(QueueName="jobs")    # boto3's own method, in a thread
    with pytest.raises(ClientError): ...
    pages = await world.run(lambda: list(sqs.boto.get_paginator("list_queues").paginate()))

A call that succeeds though the door never looked at one of its parameters fails (`watch=False`: it does not).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from minicloud.aws.call import Decide, Decided, Door, Prompt
from minicloud.aws.credentials import open_admit
from minicloud.aws.gateway import Admit, Gateway, PassOn, Way
from minicloud.aws.http import Handler, serve

T = TypeVar("T")
CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60, parameter_validation=True)


class Watched(dict[str, Any]):
    """Parameters that know which of them were looked at: what a door takes and does not look at, it ignores."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.unread = set(params)

    def __iter__(self) -> Iterator[str]:  # what is copied as a whole is read by its keys then
        return super().__iter__()

    def __getitem__(self, name: str) -> Any:
        self.unread.discard(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.unread.discard(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self.unread.discard(name)
        return super().pop(name, *default)

    def items(self) -> Any:
        self.unread.clear()
        return super().items()

    def values(self) -> Any:
        self.unread.clear()
        return super().values()


# Parameters that mean nothing to a cloud that does what they ask for anyway.
MEANINGLESS = frozenset({"DryRun", "ClientToken", "ReturnConsumedCapacity"})


def watching(door: Door) -> Door:
    """The same door; a call that succeeds without having looked at a parameter is an AssertionError."""

    def look(seen: Watched, call: Any) -> None:
        ignored = seen.unread - MEANINGLESS
        assert not ignored, f"{call.operation} takes {', '.join(sorted(ignored))} and ignores it"

    def watched(method: Any) -> Any:
        async def call(_self: Any, params: dict[str, Any], call: Any) -> Any:
            seen = Watched(params)
            result = await method(seen, call)
            look(seen, call)
            return result

        return call

    def watched_decide(decide: Decide) -> Decide:
        def call(params: dict[str, Any], call: Any) -> Decided | None:
            seen = Watched(params)
            decided = decide(seen, call)
            if decided is not None:
                look(seen, call)
            return decided

        return call

    names = [name for name, _ in inspect.getmembers(type(door.api), inspect.iscoroutinefunction) if name[0].isupper()]
    space: dict[str, Any] = {name: watched(getattr(door.api, name)) for name in names}
    space["error_codes"] = getattr(door.api, "error_codes", {})
    if isinstance(door.api, Prompt):
        space["decides"] = {name: watched_decide(decide) for name, decide in door.api.decides.items()}
        space["after_flush"] = staticmethod(door.api.after_flush)
    return Door(door.service, type("Watched", (), space)())


class AsyncBoto:
    """A boto3 client whose methods are awaited: they run in a thread."""

    def __init__(self, boto: Any) -> None:
        self.boto = boto

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.boto, name)
        return lambda **given: asyncio.to_thread(method, **given)


class AwsWorld:
    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: list[Any] = []

    def client(
        self, service: str, account: str = "000000000000", region: str = "us-east-1", **config: Any
    ) -> AsyncBoto:
        """`config`: more of botocore's Config."""
        boto = boto3.Session().client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id=account,
            aws_secret_access_key="secret",
            config=CONFIG.merge(Config(**config)),
        )
        self._clients.append(boto)
        return AsyncBoto(boto)

    async def run(self, work: Callable[[], T]) -> T:
        """For what is not one call: paginators, waiters."""
        return await asyncio.to_thread(work)

    def close(self) -> None:
        for one in self._clients:
            one.close()


@contextlib.asynccontextmanager
async def aws_world(
    *doors: Door,
    watch: bool = True,
    admit: Admit | None = None,
    pass_on: PassOn | None = None,
    others: Mapping[str, Handler] | None = None,
) -> AsyncIterator[AwsWorld]:
    ids = itertools.count(1)
    gateway = Gateway(
        map(watching, doors) if watch else doors, Way(admit or open_admit(), lambda: f"request-{next(ids)}", pass_on)
    )
    server = await serve(gateway, "127.0.0.1", 0, others)
    world = AwsWorld(f"http://127.0.0.1:{server.port}")
    try:
        yield world
    finally:
        world.close()
        await server.stop(0.2)


@contextlib.contextmanager
def refused(code: str, text: str = "", status: int = 0) -> Iterator[None]:
    """The call in the block is refused with this code, this in its message, this HTTP status (0: any)."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert error["Code"] == code and text in error["Message"], error
    assert status in (0, caught.value.response["ResponseMetadata"]["HTTPStatusCode"])
