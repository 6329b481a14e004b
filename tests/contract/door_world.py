"""A real gRPC server with every shape of handler, some of which misbehave on request, and a channel to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from minicloud.base import errors, limits
from minicloud.base.arn import DEFAULT_ACCOUNT, Caller, Scope
from minicloud.base.machine import Context
from minicloud.identity.machine import IdentityMachine
from minicloud.identity.rpc import DESCRIPTOR, IdentityRpc
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.service import Identity
from minicloud.rpc.auth import locked_door, open_door
from minicloud.rpc.door import Entry, Metadata, door
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.server import Listen, RpcServer
from minicloud.wire import guest_pb2, identity_pb2, instance_pb2

IDENTITY = f"/{DESCRIPTOR.full_name}"
INSTANCES = instance_pb2.DESCRIPTOR.services_by_name["InstanceService"]
GUESTS = guest_pb2.DESCRIPTOR.services_by_name["GuestService"]
ROOT = Caller(Scope(), admin=True)
BIG_CLIENT = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


class MemoryShell:
    """A shell whose journal is nowhere."""

    def __init__(self, machine: IdentityMachine) -> None:
        self.machine = machine
        self.rand = random.Random(5)

    async def submit(self, command: Any) -> Any:
        outcome = self.machine.decide(command, Context(1.0, self.rand))
        for record in outcome.records:
            self.machine.apply(record)
        return outcome.reply

    async def shown(self, look: Callable[[], Any]) -> Any:
        return look()

    def used(self, _account: str) -> dict[str, float]:
        return {"vcpus": 2.0}


class Instances:
    """Handlers that misbehave on request; methods that no test calls refuse."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.running = asyncio.Event()
        self.entered: asyncio.Queue[None] = asyncio.Queue()
        self.release = asyncio.Event()
        self.callers: list[Caller] = []

    def __getattr__(self, name: str) -> Any:
        async def refuse(_request: Any, _caller: Caller) -> Any:
            raise errors.UnsupportedOperation(name)

        return refuse

    async def Get(self, request: instance_pb2.GetInstanceRequest, caller: Caller) -> instance_pb2.Instance:
        self.callers.append(caller)
        if request.instance_id == "bug":
            raise RuntimeError("the password is swordfish")
        if request.instance_id == "ours":
            raise errors.Internal("the journal is odd")
        if request.instance_id == "given up":
            waiting = asyncio.get_running_loop().create_future()
            waiting.cancel()
            await waiting
        if request.instance_id == "huge":
            return instance_pb2.Instance(id="x" * limits.GRPC_MESSAGE_BYTES_MAX)
        if request.instance_id == "wrong type":
            return 42  # type: ignore[return-value]
        raise errors.NotFound("no such instance", code="InvalidInstanceID.NotFound", field="instance_id")

    async def Reboot(self, _request: Any, _caller: Caller) -> instance_pb2.StateChanges:
        self.running.set()
        self.entered.put_nowait(None)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return instance_pb2.StateChanges()

    async def Watch(self, request: Any, _caller: Caller) -> AsyncIterator[instance_pb2.Instance]:
        try:
            for name in request.instance_ids:
                if name == "gone":
                    raise errors.NotFound("no such instance", field="instance_ids")
                yield instance_pb2.Instance(id=name)
            self.running.set()
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Guests:
    """The stream shapes: counts what comes in."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(_request: Any, _caller: Caller) -> Any:
            raise errors.UnsupportedOperation(name)

        return refuse

    async def Upload(self, requests: AsyncIterator[guest_pb2.UploadInput], _caller: Any) -> guest_pb2.UploadResult:
        return guest_pb2.UploadResult(bytes=sum([len(request.chunk) async for request in requests]))

    async def Exec(
        self, requests: AsyncIterator[guest_pb2.ExecInput], caller: str
    ) -> AsyncIterator[guest_pb2.ExecOutput]:
        async for request in requests:
            yield guest_pb2.ExecOutput(stdout=caller.encode() + b" said " + request.stdin)


class World:
    """One server with every kind of handler, and a channel to it."""

    def __init__(self, locked: bool, listen: Listen) -> None:
        ids = itertools.count(1)
        self.machine = IdentityMachine(AesGcmSeal(b"s" * 32))
        self.shell = MemoryShell(self.machine)
        self.instances = Instances()
        admit = locked_door(self.machine.authenticate) if locked else open_door()
        entry = Entry(admit, lambda: f"made-{next(ids)}")
        ticket = Entry(self.ticket, lambda: f"made-{next(ids)}")
        identity = IdentityRpc(Identity(self.machine, self.shell, self.shell, b"p"), "1.2.3")
        services = [
            door(identity, DESCRIPTOR, entry),
            door(self.instances, INSTANCES, entry),
            door(Guests(), GUESTS, ticket),
        ]
        self.server = RpcServer(services, entry.new_request_id, listen)
        self.channel: grpc.aio.Channel

    @staticmethod
    def ticket(metadata: Metadata) -> str:
        """Another kind of caller, as host agents have."""
        if metadata.get("x-ticket") != "good":
            raise errors.Unauthenticated("no ticket")
        return "bob"

    def raw(self, path: str) -> Any:
        """Bytes in, bytes out."""
        call: Any = self.channel.unary_unary
        return call(path)

    def get(self, instance_id: str, **options: Any) -> Any:
        request = instance_pb2.GetInstanceRequest(instance_id=instance_id)
        return self.raw(f"/{INSTANCES.full_name}/Get")(request.SerializeToString(), **options)

    def whoami(self, **options: Any) -> Any:
        return self.raw(f"{IDENTITY}/WhoAmI")(b"", **options)


@contextlib.asynccontextmanager
async def world(locked: bool = False, calls_max: int = limits.GRPC_CALLS_MAX) -> AsyncIterator[World]:
    one = World(locked, Listen(calls_max=calls_max))
    port = await one.server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=BIG_CLIENT) as channel:
        one.channel = channel
        yield one
    await one.server.stop(0)


async def refusal(call: Any) -> errors.CloudError:
    """The typed error that a call ends with."""
    with pytest.raises(grpc.RpcError) as failed:
        await call
    return from_rpc_error(failed.value)


async def still_serves(cloud: World) -> None:
    answer = identity_pb2.WhoAmIResponse.FromString(await cloud.whoami())
    assert answer.account == DEFAULT_ACCOUNT
