"""The gRPC door on a real server and real sockets: who gets in, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from minicloud.base import errors, limits
from minicloud.base.arn import DEFAULT_ACCOUNT, Scope
from minicloud.identity import commands as ask
from minicloud.identity.rpc import DESCRIPTOR
from minicloud.rpc.auth import open_door
from minicloud.rpc.door import Entry, door
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.server import Listen
from minicloud.wire import guest_pb2, identity_pb2, instance_pb2
from tests.contract.door_world import GUESTS, IDENTITY, INSTANCES, ROOT, World, refusal, still_serves, world


@pytest.fixture
async def cloud() -> AsyncIterator[World]:
    async with world() as one:
        yield one


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
    async with asyncio.timeout(60):
        await cloud.instances.cancelled.wait()


async def test_a_caller_that_goes_away_cancels_the_handler(cloud: World) -> None:
    call = cloud.raw(f"/{INSTANCES.full_name}/Reboot")(b"")
    async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
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
        async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
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
        async with asyncio.timeout(60):
            await cloud.instances.running.wait()
            stopping = asyncio.create_task(cloud.server.stop(10))
            cloud.instances.release.set()
            await call
            await stopping
        assert cloud.server.health._states[""] == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_servicer_without_a_method_is_refused_at_once() -> None:
    with pytest.raises(AttributeError, match="Launch"):
        door(object(), INSTANCES, Entry(open_door(), lambda: "r"))
