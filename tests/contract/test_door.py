"""The gRPC door on a real server and real sockets: what gets in, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from minicloud.base import errors, limits
from minicloud.base.arn import DEFAULT_ACCOUNT, Caller, Scope
from minicloud.base.machine import Context
from minicloud.identity import commands as ask
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

    def read(self, look: Callable[[], Any]) -> Any:
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


@pytest.fixture
async def cloud() -> AsyncIterator[World]:
    async with world() as one:
        yield one


async def refusal(call: Any) -> errors.CloudError:
    """The typed error that a call ends with."""
    with pytest.raises(grpc.RpcError) as failed:
        await call
    return from_rpc_error(failed.value)


async def still_serves(cloud: World) -> None:
    answer = identity_pb2.WhoAmIResponse.FromString(await cloud.whoami())
    assert answer.account == DEFAULT_ACCOUNT


# ---------------------------------------------------------------- malformed and oversized

DEEP = b"\x0a\x00"
for _ in range(2_000):  # a google.protobuf.Struct-like nesting; unknown groups nest without end in any message
    DEEP = b"\x0b" + DEEP + b"\x0c"


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff", b"\x0a\x05abc", b"\x0a\x02\xc3\x28", DEEP, bytes(range(256)) * 64],
    ids=["tag", "short", "utf8", "deep", "noise"],
)
async def test_malformed_protobuf_is_the_callers_fault(cloud: World, raw: bytes) -> None:
    error = await refusal(cloud.raw(f"/{INSTANCES.full_name}/Get")(raw))
    assert type(error) is errors.InvalidRequest
    assert error.code == "MalformedRequest"
    assert error.message == "the request is not a well-formed GetInstanceRequest"
    await still_serves(cloud)


async def test_malformed_health_and_reflection_requests_leak_nothing_either(cloud: World) -> None:
    error = await refusal(cloud.raw("/grpc.health.v1.Health/Check")(b"\xff"))
    assert error.message == "the request is not a well-formed HealthCheckRequest"
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    call: Any = cloud.channel.stream_stream
    stream = call(path)(iter([b"\xff"]))
    error = await refusal(stream.read())
    assert type(error) is errors.InvalidRequest


async def test_a_malformed_message_in_a_stream(cloud: World) -> None:
    call: Any = cloud.channel.stream_unary
    good = guest_pb2.UploadInput(chunk=b"12345").SerializeToString()
    upload = call(f"/{GUESTS.full_name}/Upload")
    ticket = (("x-ticket", "good"),)
    answer = guest_pb2.UploadResult.FromString(await upload(iter([good, good]), metadata=ticket))
    assert answer.bytes == 10
    error = await refusal(upload(iter([good, b"\xff"]), metadata=ticket))
    assert type(error) is errors.InvalidRequest


async def test_a_message_of_100_mb(cloud: World) -> None:
    error = await refusal(cloud.raw(f"/{INSTANCES.full_name}/Get")(b"\x0a" * 100_000_000))
    assert type(error) is errors.MessageTooLarge
    await still_serves(cloud)


async def test_an_answer_over_the_limit(cloud: World) -> None:
    error = await refusal(cloud.get("huge"))
    assert type(error) is errors.MessageTooLarge
    assert "smaller pages" in error.message


async def test_metadata_over_the_limit(cloud: World) -> None:
    noise = (("x-noise", "x" * (limits.GRPC_METADATA_BYTES_MAX + 1)),)
    error = await refusal(cloud.whoami(metadata=noise))
    assert type(error) is errors.Throttled  # gRPC's own RESOURCE_EXHAUSTED
    await still_serves(cloud)


async def test_an_unknown_method_is_unimplemented(cloud: World) -> None:
    assert type(await refusal(cloud.raw(f"{IDENTITY}/Nonsense")(b""))) is errors.UnsupportedOperation


async def test_http1_is_not_answered_with_anything_of_ours(cloud: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.server.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert b"HTTP/1" not in answer
    await still_serves(cloud)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """One header, uncompressed (RFC 7541 §6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
CALL = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/{INSTANCES.full_name}/Reboot".encode()),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


async def test_a_flood_of_pings_ends_the_connection(cloud: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.server.port)
    writer.write(PREFACE + b"".join(frame(6, 0, 0, bytes(8)) for _ in range(200)))
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass  # until the server hangs up
    writer.close()
    await still_serves(cloud)


async def test_rapid_reset_starts_no_handlers_and_stops_nobody(cloud: World) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", cloud.server.port)
    writer.write(PREFACE)
    with contextlib.suppress(ConnectionError):
        for number in range(1, 4_000, 2):
            writer.write(frame(1, 4, number, CALL) + frame(3, 0, number, (8).to_bytes(4, "big")))
        await writer.drain()
    async with asyncio.timeout(10):
        await still_serves(cloud)
    assert cloud.instances.entered.empty()
    writer.close()


# ---------------------------------------------------------------- errors and request ids


async def test_typed_errors_cross_the_wire(cloud: World) -> None:
    error = await refusal(cloud.get("i-1", metadata=(("x-request-id", "mine-7"),)))
    assert type(error) is errors.NotFound
    assert (error.code, error.field) == ("InvalidInstanceID.NotFound", "instance_id")
    assert error.details["request_id"] == "mine-7"


async def test_other_peoples_clients_read_our_errors(cloud: World) -> None:
    """google's own reader accepts the trailers (it checks that code and text agree)."""

    def ask_synchronously() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{cloud.server.port}") as channel:
            call: Any = channel.unary_unary
            with pytest.raises(grpc.RpcError) as failed:
                call(f"/{INSTANCES.full_name}/Get")(b"")
        status: Any = rpc_status.from_call(cast(grpc.Call, failed.value))
        assert len(status.details) == 3
        assert type(from_rpc_error(failed.value)) is errors.NotFound

    await asyncio.to_thread(ask_synchronously)


@pytest.mark.parametrize("kind", ["bug", "wrong type"])
async def test_an_unexpected_exception_keeps_its_text_to_the_log(
    cloud: World, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with caplog.at_level(logging.ERROR, "minicloud.rpc"):
        error = await refusal(cloud.get(kind, metadata=(("x-request-id", "r-9"),)))
    assert type(error) is errors.Internal
    assert "r-9" in error.message
    assert "swordfish" not in error.message + repr(error.details)
    assert "attribute" not in error.message
    (record,) = [record for record in caplog.records if record.name == "minicloud.rpc"]
    assert "r-9" in record.getMessage()
    assert record.exc_info is not None


async def test_our_own_internal_errors_are_logged_too(cloud: World, caplog: pytest.LogCaptureFixture) -> None:
    assert (await refusal(cloud.get("ours"))).message == "the journal is odd"
    assert "the journal is odd" in caplog.text


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("abc-123", "abc-123"), (None, "made-"), ("has space", "made-"), ("x" * 129, "made-"), ("", "made-")],
)
async def test_the_request_id_is_in_the_trailers(cloud: World, given: str | None, echoed: str) -> None:
    call = cloud.whoami(metadata=(("x-request-id", given),) if given is not None else ())
    await call
    assert dict(iter(await call.trailing_metadata()))["x-request-id"].startswith(echoed)


# ---------------------------------------------------------------- who asks


async def test_with_authentication_off_everybody_is_the_administrator(cloud: World) -> None:
    answer = identity_pb2.WhoAmIResponse.FromString(await cloud.whoami())
    assert (answer.account, answer.region, answer.access_key_id, answer.admin, answer.version) == (
        DEFAULT_ACCOUNT,
        "us-east-1",
        "",
        True,
        "1.2.3",
    )


async def test_the_region_comes_with_the_call(cloud: World) -> None:
    await refusal(cloud.get("i-1", metadata=(("x-minicloud-region", "eu-central-1"),)))
    assert cloud.instances.callers[-1].scope == Scope(DEFAULT_ACCOUNT, "eu-central-1")
    error = await refusal(cloud.get("i-1", metadata=(("x-minicloud-region", "Mars"),)))
    assert type(error) is errors.InvalidParameterValue
    assert error.field == "region"


async def test_credentials() -> None:
    async with world(locked=True) as cloud:
        made = await cloud.shell.submit(ask.CreateAccessKey(ROOT))
        good = f"Bearer {made.key.id}:{made.secret}"
        answer = await cloud.whoami(metadata=(("authorization", good), ("x-minicloud-region", "eu-west-1")))
        who = identity_pb2.WhoAmIResponse.FromString(answer)
        assert (who.access_key_id, who.admin, who.region) == (made.key.id, False, "eu-west-1")

        missing = await refusal(cloud.whoami())
        assert type(missing) is errors.Unauthenticated
        assert "MINICLOUD_ACCESS_KEY_ID" in missing.message
        basic = await refusal(cloud.whoami(metadata=(("authorization", "Basic Zm9vOmJhcg=="),)))
        assert type(basic) is errors.Unauthenticated

        said = set()
        for wrong in (f"{made.key.id}:{'x' * 40}", f"AKIA{'A' * 16}:{made.secret}", made.key.id, "", ":"):
            error = await refusal(cloud.whoami(metadata=(("authorization", f"Bearer {wrong}"),)))
            assert type(error) is errors.Unauthenticated
            said.add(error.message)
        await cloud.shell.submit(ask.SetAccessKeyStatus(ROOT, made.key.id, "Inactive"))
        said.add((await refusal(cloud.whoami(metadata=(("authorization", good),)))).message)
        assert len(said) == 1


async def test_nobody_learns_about_a_request_before_saying_who_they_are() -> None:
    async with world(locked=True) as cloud:
        error = await refusal(cloud.raw(f"{IDENTITY}/CreateAccount")(b"\xff\xff"))
        assert type(error) is errors.Unauthenticated


async def test_identity_through_the_door(cloud: World) -> None:
    async def call(method: str, request: Any, kind: Any) -> Any:
        return kind.FromString(await cloud.raw(f"{IDENTITY}/{method}")(request.SerializeToString()))

    account = await call("CreateAccount", identity_pb2.CreateAccountRequest(name="shop"), identity_pb2.Account)
    made = await call(
        "CreateAccessKey", identity_pb2.CreateAccessKeyRequest(account=account.account), identity_pb2.AccessKeySecret
    )
    assert len(made.secret) == 40
    keys = await call(
        "ListAccessKeys",
        identity_pb2.ListAccessKeysRequest(account=account.account),
        identity_pb2.ListAccessKeysResponse,
    )
    assert [key.id for key in keys.keys] == [made.key.id]
    off = identity_pb2.SetAccessKeyStatusRequest(id=made.key.id, status="Inactive")
    assert (await call("SetAccessKeyStatus", off, identity_pb2.AccessKey)).status == "Inactive"
    gone = identity_pb2.DeleteAccessKeyRequest(id=made.key.id)
    assert (await call("DeleteAccessKey", gone, identity_pb2.AccessKey)).id == made.key.id
    accounts = await call("ListAccounts", identity_pb2.ListAccountsRequest(), identity_pb2.ListAccountsResponse)
    assert [one.name for one in accounts.accounts] == ["default", "shop"]
    quota = identity_pb2.SetQuotaRequest(account=account.account, name="vcpus", limit=8)
    assert (await call("SetQuota", quota, identity_pb2.Quota)).used == 2
    quotas = await call(
        "ListQuotas", identity_pb2.ListQuotasRequest(account=account.account), identity_pb2.ListQuotasResponse
    )
    assert [(one.name, one.limit) for one in quotas.quotas] == [("instances", limits.QUOTA_INSTANCES), ("vcpus", 8)]


# ---------------------------------------------------------------- deadlines, cancellation, overload


async def test_the_callers_deadline_cancels_the_handler(cloud: World) -> None:
    error = await refusal(cloud.raw(f"/{INSTANCES.full_name}/Reboot")(b"", timeout=0.3))
    assert type(error) is errors.DeadlineExceeded
    async with asyncio.timeout(10):
        await cloud.instances.cancelled.wait()


async def test_a_caller_that_goes_away_cancels_the_handler(cloud: World) -> None:
    call = cloud.raw(f"/{INSTANCES.full_name}/Reboot")(b"")
    async with asyncio.timeout(10):
        await cloud.instances.running.wait()
        call.cancel()
        await cloud.instances.cancelled.wait()


async def test_a_request_that_is_given_up_inside_still_gets_an_answer(cloud: World) -> None:
    assert type(await refusal(cloud.get("given up", timeout=10))) is errors.Unavailable


async def test_a_watcher_that_goes_away_ends_the_generator(cloud: World) -> None:
    start: Any = cloud.channel.unary_stream
    request = instance_pb2.WatchInstancesRequest(instance_ids=["i-1", "i-2"]).SerializeToString()
    stream = start(f"/{INSTANCES.full_name}/Watch")(request)
    seen = [instance_pb2.Instance.FromString(await stream.read()).id for _ in range(2)]
    assert seen == ["i-1", "i-2"]
    async with asyncio.timeout(10):
        await cloud.instances.running.wait()
        stream.cancel()
        await cloud.instances.cancelled.wait()


async def test_a_stream_ends_with_its_typed_error_after_what_it_said(cloud: World) -> None:
    start: Any = cloud.channel.unary_stream
    request = instance_pb2.WatchInstancesRequest(instance_ids=["i-1", "gone"]).SerializeToString()
    stream = start(f"/{INSTANCES.full_name}/Watch")(request)
    assert instance_pb2.Instance.FromString(await stream.read()).id == "i-1"
    error = await refusal(stream.read())
    assert type(error) is errors.NotFound
    assert error.details["request_id"].startswith("made-")


async def test_streams_both_ways_and_another_kind_of_caller(cloud: World) -> None:
    start: Any = cloud.channel.stream_stream
    path = f"/{GUESTS.full_name}/Exec"
    stream = start(path)(metadata=(("x-ticket", "good"),))
    for word in (b"one", b"two"):
        await stream.write(guest_pb2.ExecInput(stdin=word).SerializeToString())
        answer = guest_pb2.ExecOutput.FromString(await stream.read())
        assert answer.stdout == b"bob said " + word
    await stream.done_writing()
    assert not await stream.read()  # EOF
    assert type(await refusal(start(path)().read())) is errors.Unauthenticated


async def test_too_many_calls_at_once_are_refused_not_queued() -> None:
    async with world(calls_max=2) as cloud:
        path = f"/{INSTANCES.full_name}/Reboot"
        held = [cloud.raw(path)(b"") for _ in range(2)]
        async with asyncio.timeout(10):
            for _ in held:
                await cloud.instances.entered.get()
            errors_seen = [await refusal(cloud.raw(path)(b"")) for _ in range(3)]
        assert {type(error) for error in errors_seen} == {errors.Throttled}
        assert all(error.retryable for error in errors_seen)
        cloud.instances.release.set()
        for one in held:
            await one
        await still_serves(cloud)


# ---------------------------------------------------------------- health, reflection, the port


async def test_health_by_service(cloud: World) -> None:
    check = cloud.raw("/grpc.health.v1.Health/Check")

    async def status(service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        return int(health_pb2.HealthCheckResponse.FromString(await check(request)).status)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert await status("") == await status(INSTANCES.full_name) == serving
    cloud.server.health.set(INSTANCES.full_name, serving=False)
    assert await status(INSTANCES.full_name) == not_serving
    assert await status("") == serving
    with pytest.raises(KeyError):
        cloud.server.health.set("no.such.Service", serving=True)
    request = health_pb2.HealthCheckRequest(service="no.such.Service").SerializeToString()
    assert type(await refusal(check(request))) is errors.NotFound


async def test_health_can_be_watched(cloud: World) -> None:
    start: Any = cloud.channel.unary_stream
    stream = start("/grpc.health.v1.Health/Watch")(
        health_pb2.HealthCheckRequest(service=INSTANCES.full_name).SerializeToString()
    )
    unknown = start("/grpc.health.v1.Health/Watch")(health_pb2.HealthCheckRequest(service="x").SerializeToString())

    async def next_status(one: Any) -> int:
        return int(health_pb2.HealthCheckResponse.FromString(await one.read()).status)

    states = health_pb2.HealthCheckResponse
    async with asyncio.timeout(10):
        assert await next_status(unknown) == states.SERVICE_UNKNOWN
        assert await next_status(stream) == states.SERVING
        cloud.server.health.set(INSTANCES.full_name, serving=False)
        assert await next_status(stream) == states.NOT_SERVING
        cloud.server.health.set_all(True)
        assert await next_status(stream) == states.SERVING
    stream.cancel()
    unknown.cancel()


async def test_reflection_names_every_service(cloud: World) -> None:
    start: Any = cloud.channel.stream_stream
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=INSTANCES.full_name),
    ]
    stream = start("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
        iter([request.SerializeToString() for request in requests])
    )
    listed, found = [reflection_pb2.ServerReflectionResponse.FromString(raw) async for raw in stream]
    assert {service.name for service in listed.list_services_response.service} == {
        DESCRIPTOR.full_name,
        INSTANCES.full_name,
        GUESTS.full_name,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert found.file_descriptor_response.file_descriptor_proto


async def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = World(False, Listen(port=taken.getsockname()[1]))
        with pytest.raises(errors.Unavailable, match="cannot listen"):
            await one.server.start()
        await one.server.stop(0)


async def test_stopping_says_not_serving_and_lets_calls_finish() -> None:
    async with world() as cloud:
        call = cloud.raw(f"/{INSTANCES.full_name}/Reboot")(b"")
        async with asyncio.timeout(10):
            await cloud.instances.running.wait()
            stopping = asyncio.create_task(cloud.server.stop(10))
            cloud.instances.release.set()
            await call
            await stopping
        assert cloud.server.health._states[""] == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_servicer_without_a_method_is_refused_at_once() -> None:
    with pytest.raises(AttributeError, match="Launch"):
        door(object(), INSTANCES, Entry(open_door(), lambda: "r"))
