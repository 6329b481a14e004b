"""GuestService over gRPC in front of a real guest."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest

from minicloud.base import errors
from minicloud.base.errors import NotFound
from minicloud.host.console import Consoles
from minicloud.host.guest_rpc import GuestAccess, guest_service
from minicloud.host.ticket import checker, issue
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.server import Listen, RpcServer
from minicloud.wire import guest_pb2 as pb
from minicloud.wire.guest_pb2_grpc import GuestServiceStub
from tests.contract.guest_process import INSTANCE, PYTHON, TELL_SIZES, GuestProcess, running

SECRET = b"k" * 32
STOPPED = "i-0123456789abcdef5"
TICKET = (("x-minicloud-ticket", issue(SECRET, INSTANCE, "000000000000", 100)),)


@dataclass
class Door:
    guest: GuestProcess
    consoles: Consoles
    stub: Any


class Guests:
    def __init__(self, guest: GuestProcess) -> None:
        self._guest = guest

    async def find(self, instance_id: str) -> GuestAccess:
        if instance_id == STOPPED:
            return GuestAccess(self._guest.console)
        if instance_id != INSTANCE:
            raise NotFound(f"no instance {instance_id}", field="instance_id")
        return GuestAccess(self._guest.console, self._guest.guest.socket_path)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Door]:
    consoles = Consoles()
    async with running(folder) as guest:
        consoles.keep(guest.console)
        service = guest_service(Guests(guest), consoles, checker(SECRET, lambda: 0.0), lambda: "request-1")
        server = RpcServer([service], lambda: "request-1", Listen())
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Door(guest, consoles, GuestServiceStub(channel))
        await server.stop(0)
    consoles.close()


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path) as made:
        yield made


async def each(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


def start(*argv: str, **fields: Any) -> pb.ExecInput:
    return pb.ExecInput(start=pb.ExecStart(instance_id=INSTANCE, argv=argv, **fields))


async def failure(call: Any) -> errors.CloudError:
    with pytest.raises(grpc.RpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return from_rpc_error(caught.value)


async def test_exec_from_start_to_exit(one: Door) -> None:
    call = one.stub.Exec(
        each([start("sh", "-c", "cat; echo err >&2; exit 4"), pb.ExecInput(stdin=b"in")]), metadata=TICKET
    )
    parts: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    kinds = []
    async for output in call:
        part = output.WhichOneof("part")
        kinds.append(part)
        if part in parts:
            parts[part] += getattr(output, part)
    assert parts == {"stdout": b"in", "stderr": b"err\n"}
    assert kinds[0] == "started_pid" and kinds[-1] == "exit"
    assert output.exit.code == 4


async def test_exec_on_a_terminal_with_resize_and_interrupt(one: Door) -> None:
    sent: asyncio.Queue[pb.ExecInput] = asyncio.Queue()

    async def inputs() -> AsyncIterator[pb.ExecInput]:
        while True:
            yield await sent.get()

    await sent.put(start(PYTHON, "-c", TELL_SIZES, tty=True, window=pb.WindowSize(rows=20, columns=70)))
    call = one.stub.Exec(inputs(), metadata=TICKET)
    text = b""
    answers = {
        b"ready": pb.ExecInput(window=pb.WindowSize(rows=33, columns=99)),
        b"99 33": pb.ExecInput(stdin=b"\x03"),
    }
    async with asyncio.timeout(60):
        async for output in call:
            text += output.stdout
            for said in [said for said in answers if said in text]:  # in pieces of any size
                await sent.put(answers.pop(said))
    assert output.exit.code == 130
    assert b"99 33" in text


async def test_a_command_that_cannot_start(one: Door) -> None:
    outputs = [output async for output in one.stub.Exec(each([start("/nowhere")]), metadata=TICKET)]
    assert outputs[-1].exit.code == 127 and "No such file" in outputs[-1].exit.error


async def test_a_cancelled_call_ends_the_command(one: Door) -> None:
    call = one.stub.Exec(each([start("sh", "-c", "echo $$; exec sleep 1000")]), metadata=TICKET)
    async for output in call:
        if output.stdout:
            pid = int(output.stdout)
            break
    fd = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    call.cancel()
    async with asyncio.timeout(60):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("messages", "kind", "field"),
    [
        ([], errors.MissingParameter, "start"),
        ([pb.ExecInput(stdin=b"x")], errors.MissingParameter, "start"),
        ([pb.ExecInput(start=pb.ExecStart(argv=["ls"]))], errors.MissingParameter, "instance_id"),
        ([start("ls", user="www")], errors.InvalidParameterValue, "start.user"),
        ([start()], errors.MissingParameter, "argv"),
        ([start("cat", window=pb.WindowSize(rows=70_000))], errors.InvalidParameterValue, "start.window"),
        ([start("cat"), start("cat")], errors.InvalidParameterValue, "start"),
        ([start("cat"), pb.ExecInput(signal=99)], errors.InvalidParameterValue, "signal"),
        ([start("cat"), pb.ExecInput()], errors.MissingParameter, "part"),
    ],
)
async def test_bad_messages_are_refused_by_field(one: Door, messages: list[Any], kind: type, field: str) -> None:
    async with asyncio.timeout(60):
        error = await failure(one.stub.Exec(each(messages), metadata=TICKET))
    assert type(error) is kind and error.field == field
    assert (await one.guest.guest.ping()).sessions == 0


async def test_who_has_no_ticket_does_not_come_in(one: Door) -> None:
    other = (("x-minicloud-ticket", issue(SECRET, STOPPED, "000000000000", 100)),)
    wrong = (("x-minicloud-ticket", issue(b"other" * 8, INSTANCE, "000000000000", 100)),)
    for metadata in ((), other, wrong):
        request = pb.DownloadRequest(instance_id=INSTANCE, path="/")
        for call in (
            one.stub.Exec(each([start("ls")]), metadata=metadata),
            one.stub.Logs(pb.LogsRequest(instance_id=INSTANCE), metadata=metadata),
            one.stub.Download(request, metadata=metadata),
            one.stub.Forward(each([pb.ForwardInput(instance_id=INSTANCE, port=1)]), metadata=metadata),
            one.stub.Upload(
                each([pb.UploadInput(header=pb.UploadHeader(instance_id=INSTANCE, path="/"))]), metadata=metadata
            ),
        ):
            assert type(await failure(call)) is errors.Unauthenticated


async def test_a_stopped_guest_has_logs_only(one: Door) -> None:
    ticket = (("x-minicloud-ticket", issue(SECRET, STOPPED, "000000000000", 100)),)
    one.guest.console.write_bytes(b"last words")
    request = pb.LogsRequest(instance_id=STOPPED, follow=True)
    assert b"".join([chunk.data async for chunk in one.stub.Logs(request, metadata=ticket)]) == b"last words"
    error = await failure(one.stub.Download(pb.DownloadRequest(instance_id=STOPPED, path="/"), metadata=ticket))
    assert type(error) is errors.IncorrectState


async def test_logs_follow(one: Door) -> None:
    call = one.stub.Logs(pb.LogsRequest(instance_id=INSTANCE, follow=True, tail_bytes=5), metadata=TICKET)
    with one.guest.console.open("ab") as console:
        console.write(b"12345")
        console.flush()
        got = b""
        async with asyncio.timeout(60):
            async for chunk in call:
                got += chunk.data
                if b"more" in got:
                    break
                console.write(b"more")
                console.flush()
    call.cancel()
    assert b"more" in got


async def test_copy_in_and_out(one: Door) -> None:
    (one.guest.root / "data").mkdir()
    buffer = BytesIO()
    content = os.urandom(1_000_000)
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a/file")
        info.size = len(content)
        tar.addfile(info, BytesIO(content))
    raw = buffer.getvalue()
    header = pb.UploadInput(header=pb.UploadHeader(instance_id=INSTANCE, path="/data"))
    parts = [pb.UploadInput(chunk=raw[at : at + 65536]) for at in range(0, len(raw), 65536)]
    result = await one.stub.Upload(each([header, *parts]), metadata=TICKET)
    assert (result.files, result.bytes) == (1, len(content))
    call = one.stub.Download(pb.DownloadRequest(instance_id=INSTANCE, path="/data/a/file"), metadata=TICKET)
    received = b"".join([chunk.data async for chunk in call])
    with tarfile.open(fileobj=BytesIO(received)) as tar:
        member = tar.extractfile("file")
        assert member is not None and member.read() == content
    missing = pb.UploadInput(header=pb.UploadHeader(instance_id=INSTANCE, path="/none"))
    assert type(await failure(one.stub.Upload(each([missing, *parts]), metadata=TICKET))) is NotFound
    assert (await failure(one.stub.Upload(each([header, header]), metadata=TICKET))).field == "chunk"


async def test_forward_half_closes_both_ways(one: Door) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    messages = [pb.ForwardInput(instance_id=INSTANCE, port=port, data=b"he"), pb.ForwardInput(data=b"llo")]
    async with server, asyncio.timeout(60):
        chunks = [chunk.data async for chunk in one.stub.Forward(each(messages), metadata=TICKET)]
    assert b"".join(chunks) == b"got hello" and chunks[-1] == b""
    closed = [pb.ForwardInput(instance_id=INSTANCE, port=port)]
    assert type(await failure(one.stub.Forward(each(closed), metadata=TICKET))) is errors.Conflict
    assert (await failure(one.stub.Forward(each([pb.ForwardInput(port=0)]), metadata=TICKET))).field == "port"


async def test_throughput_through_grpc(one: Door) -> None:
    command = "head -c 33554432 /dev/zero"
    loop = asyncio.get_running_loop()
    started, size = loop.time(), 0
    async for output in one.stub.Exec(each([start("sh", "-c", command)]), metadata=TICKET):
        size += len(output.stdout)
    print(f"32 MiB in {loop.time() - started:.2f} s")
    assert size == 33554432
