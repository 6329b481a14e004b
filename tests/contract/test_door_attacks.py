"""The gRPC door against malformed, deep, huge and flooding input: refused in our words, and it goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minicloud.base import errors, limits
from minicloud.wire import guest_pb2
from tests.contract.door_world import GUESTS, IDENTITY, INSTANCES, World, refusal, still_serves, world


@pytest.fixture
async def cloud() -> AsyncIterator[World]:
    async with world() as one:
        yield one


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
    async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
        await still_serves(cloud)
    assert cloud.instances.entered.empty()
    writer.close()
