"""The SDK's guest streams: commands, terminals, logs, files, ports; tickets, back pressure, broken ends."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud import AsyncClient, Client
from minicloud.base import errors
from minicloud.client.models import ExecChunk, ExecResult
from minicloud.wire import guest_pb2
from tests.contract.fake_cloud import Call, FakeCloud


@pytest.fixture
def client(fake_cloud: FakeCloud) -> Iterator[Client]:
    fake_cloud.serve_guests()
    with Client(fake_cloud.address) as made:
        yield made


def out(**fields: Any) -> guest_pb2.ExecOutput:
    return guest_pb2.ExecOutput(**fields)


async def cat(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
    """Answers with what it was started with, then what it reads; exit 3 at the end of input."""
    async for part in inputs:
        which = part.WhichOneof("part")
        if which == "start":
            call.request = part.start
            yield out(started_pid=42)
            yield out(stderr=" ".join(part.start.argv).encode())
        elif which == "stdin":
            yield out(stdout=part.stdin)
        elif which == "window":
            yield out(stdout=f"[{part.window.rows}x{part.window.columns}]".encode())
        elif which == "signal":
            yield out(exit=guest_pb2.ExecExit(code=128 + part.signal))
            return
        else:
            yield out(exit=guest_pb2.ExecExit(code=3))
            return


# ---------------------------------------------------------------- commands


def test_exec_collects_both_outputs_and_the_exit_code(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("GuestService/Exec", cat)
    data = os.urandom(300_000)  # several chunks
    result = client.instances.exec("i-1", ["cat", "-"], stdin=data, env={"A": "b"}, cwd="/tmp", user="root")
    assert result == ExecResult(data, b"cat -", 3)
    (call,) = fake_cloud.seen("GuestService/Exec")
    assert call.metadata["x-minicloud-ticket"] == "ticket-1"
    assert (dict(call.request.env), call.request.cwd, call.request.user, call.request.tty) == (
        {"A": "b"},
        "/tmp",
        "root",
        False,
    )


def test_a_string_is_given_to_the_shell(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("GuestService/Exec", cat)
    assert client.instances.exec("i-1", "echo $HOME").stderr == b"/bin/sh -c echo $HOME"
    with pytest.raises(errors.InvalidParameterValue):
        client.instances.exec("i-1", [])


def test_a_command_that_ends_without_reading_its_input_is_no_error(fake_cloud: FakeCloud, client: Client) -> None:
    async def deaf(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        yield out(exit=guest_pb2.ExecExit(code=127, error="no such file: /bin/nope"))

    fake_cloud.on("GuestService/Exec", deaf)
    result = client.instances.exec("i-1", ["/bin/nope"], stdin=b"x" * 10_000_000)
    assert (result.exit_code, result.error) == (127, "no such file: /bin/nope")


def test_a_broken_stream_is_not_taken_for_success(fake_cloud: FakeCloud, client: Client) -> None:
    async def dies(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        yield out(stdout=b"half")

    fake_cloud.on("GuestService/Exec", dies)
    with pytest.raises(errors.Unavailable) as caught:
        client.instances.exec("i-1", ["work"])
    assert caught.value.code == "StreamBroken"
    assert len(fake_cloud.seen("GuestService/Exec")) == 1  # never run twice in the caller's name


def test_exec_ends_at_its_timeout_and_ends_the_command(fake_cloud: FakeCloud, client: Client) -> None:
    ended = threading.Event()

    async def hangs(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        try:
            yield out(started_pid=1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    fake_cloud.on("GuestService/Exec", hangs)
    with pytest.raises(errors.DeadlineExceeded):
        client.instances.exec("i-1", ["sleep", "inf"], timeout=0.3)
    assert ended.wait(10)


def test_a_session_talks_both_ways(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("GuestService/Exec", cat)
    with client.instances.connect("i-1", rows=50, columns=132) as session:
        start = session.read()
        assert start == ExecChunk("stderr", b"") or start is not None
        session.resize(24, 80)
        assert session.read() == ExecChunk("stdout", b"[24x80]")
        session.write(b"hello")
        assert session.read() == ExecChunk("stdout", b"hello")
        assert session.pid == 42 and session.exit_code is None
        session.signal(15)
        assert session.wait() == 143
        with pytest.raises(errors.IncorrectState):
            for _ in range(100):
                session.write(b"too late")
    request = fake_cloud.seen("GuestService/Exec")[0].request
    assert request.tty and (request.window.rows, request.window.columns) == (50, 132)


def test_a_slow_reader_holds_the_guest_back(fake_cloud: FakeCloud, client: Client) -> None:
    sent = 0

    async def yes(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        nonlocal sent
        for _ in range(2_000):
            sent += 1
            yield out(stdout=b"y" * 100_000)
        yield out(exit=guest_pb2.ExecExit(code=0))

    fake_cloud.on("GuestService/Exec", yes)
    with client.instances.open_exec("i-1", ["yes"]) as session:
        assert session.read() == ExecChunk("stdout", b"y" * 100_000)
        pause = threading.Event()
        pause.wait(0.5)  # nobody reads: of 200 MB only what the flow-control windows hold may have left
        assert sent < 500
        assert sum(len(chunk.data) for chunk in session.output()) == 1_999 * 100_000
        assert session.exit_code == 0


def test_logs_come_as_they_are_written(fake_cloud: FakeCloud, client: Client) -> None:
    async def logs(request: Any, call: Call) -> AsyncIterator[guest_pb2.LogChunk]:
        yield guest_pb2.LogChunk(data=f"tail {request.tail_bytes} follow {request.follow}".encode())
        yield guest_pb2.LogChunk(data=b"\xff\x00more")

    fake_cloud.on("GuestService/Logs", logs)
    assert list(client.instances.logs("i-1", follow=True, tail_bytes=9)) == [b"tail 9 follow True", b"\xff\x00more"]


# ---------------------------------------------------------------- files


class Disk:
    """The guest's side of copies: keeps what was uploaded, sends an archive it was given."""

    def __init__(self, cloud: FakeCloud, directories: set[str]) -> None:
        self.directories = directories
        self.header: Any = None
        self.tar = b""
        cloud.on("GuestService/Exec", self.test)
        cloud.on("GuestService/Upload", self.upload)
        cloud.on("GuestService/Download", self.download)

    async def test(self, inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        async for part in inputs:
            yield out(exit=guest_pb2.ExecExit(code=int(part.start.argv[-1].rstrip("/") not in self.directories)))
            return

    async def upload(self, parts: Any, call: Call) -> guest_pb2.UploadResult:
        got = [part async for part in parts]
        self.header, self.tar = got[0].header, b"".join(part.chunk for part in got[1:])
        members = [member for member in self.members() if member.isreg()]
        return guest_pb2.UploadResult(files=len(members), bytes=sum(member.size for member in members))

    async def download(self, request: Any, call: Call) -> AsyncIterator[guest_pb2.DataChunk]:
        for start in range(0, len(self.tar), 7_000):  # pieces that fit no block
            yield guest_pb2.DataChunk(data=self.tar[start : start + 7_000])

    def members(self) -> list[tarfile.TarInfo]:
        return tarfile.open(fileobj=io.BytesIO(self.tar)).getmembers()


@pytest.mark.parametrize(
    ("remote", "folder", "name"),
    [("/srv", "/srv", "a.txt"), ("/srv/", "/srv/", "a.txt"), ("/srv/b.txt", "/srv", "b.txt"), ("/", "/", "a.txt")],
)
def test_upload_goes_where_cp_would_put_it(
    fake_cloud: FakeCloud, client: Client, tmp_path: Path, remote: str, folder: str, name: str
) -> None:
    disk = Disk(fake_cloud, {"/srv"})
    (tmp_path / "a.txt").write_bytes(b"hello")
    result = client.instances.upload("i-1", tmp_path / "a.txt", remote)
    assert (result.files, result.bytes) == (1, 5)
    assert disk.header.path == folder
    assert [(member.name, member.uid, member.uname) for member in disk.members()] == [(name, 0, "root")]


def test_a_directory_survives_the_way_in_and_out(fake_cloud: FakeCloud, client: Client, tmp_path: Path) -> None:
    disk = Disk(fake_cloud, set())
    source = tmp_path / "site"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "big").write_bytes(data := os.urandom(1_000_000))
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("run")
    client.instances.upload("i-1", source, "/srv/www")
    assert {member.name for member in disk.members()} == {
        "www",
        "www/deep",
        "www/deep/big",
        "www/run",
        "www/link",
    }
    result = client.instances.download("i-1", "/srv/www", tmp_path / "back")
    back = tmp_path / "back"
    assert (back / "deep" / "big").read_bytes() == data
    assert (back / "run").stat().st_mode & 0o777 == 0o755
    assert os.readlink(back / "link") == "run"
    assert result.skipped == () and result.bytes == 1_000_010


def test_what_would_leave_the_target_is_left_out(fake_cloud: FakeCloud, client: Client, tmp_path: Path) -> None:
    disk = Disk(fake_cloud, set())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, link in (
            ("d", tarfile.DIRTYPE, ""),
            ("d/../../evil", tarfile.REGTYPE, ""),
            ("d/abs", tarfile.SYMTYPE, "/etc/passwd"),
            ("d/pipe", tarfile.FIFOTYPE, ""),
            ("d/good", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, 0o755
            tar.addfile(member)
    disk.tar = buffer.getvalue()
    result = client.instances.download("i-1", "/d", tmp_path / "d")
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["good"]
    assert not (tmp_path / "evil").exists() and not (tmp_path.parent / "evil").exists()
    assert len(result.skipped) == 3 and "abs" in " ".join(result.skipped)


def test_the_whole_root_keeps_its_names(fake_cloud: FakeCloud, client: Client, tmp_path: Path) -> None:
    disk = Disk(fake_cloud, set())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in (".", "./etc"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
    disk.tar = buffer.getvalue()
    client.instances.download("i-1", "/", tmp_path / "all")
    assert (tmp_path / "all" / "etc").is_dir()


def test_a_torn_archive_is_an_error(fake_cloud: FakeCloud, client: Client, tmp_path: Path) -> None:
    disk = Disk(fake_cloud, set())
    (tmp_path / "big").write_bytes(os.urandom(100_000))
    client.instances.upload("i-1", tmp_path / "big", "/big")
    disk.tar = disk.tar[:50_000]
    with pytest.raises(errors.Unavailable) as caught:
        client.instances.download("i-1", "/big", tmp_path / "copy")
    assert caught.value.code == "StreamBroken"


def test_a_refused_upload_tells_why(fake_cloud: FakeCloud, client: Client, tmp_path: Path) -> None:
    Disk(fake_cloud, {"/srv"})

    async def full(parts: Any, call: Call) -> None:
        raise errors.InsufficientStorage("the disk of the guest is full")

    fake_cloud.on("GuestService/Upload", full)
    (tmp_path / "big").write_bytes(bytes(20_000_000))
    with pytest.raises(errors.InsufficientStorage):
        client.instances.upload("i-1", tmp_path / "big", "/srv")


@pytest.mark.parametrize(
    ("remote", "field"), [("srv", "remote_path"), ("/srv/new/", "remote_path"), ("/a\0b", "remote_path")]
)
def test_bad_paths_are_refused(fake_cloud: FakeCloud, client: Client, tmp_path: Path, remote: str, field: str) -> None:
    Disk(fake_cloud, set())
    with pytest.raises(errors.InvalidParameterValue) as caught:
        client.instances.upload("i-1", tmp_path, remote)
    assert caught.value.field == field
    with pytest.raises(errors.InvalidParameterValue):
        client.instances.upload("i-1", tmp_path / "missing", "/srv")
    with pytest.raises(errors.InvalidParameterValue):
        client.instances.download("i-1", "/x", tmp_path / "no" / "such")


# ---------------------------------------------------------------- ports


async def echo_port(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.DataChunk]:
    """Answers the port, then everything it reads, until the client's side ends."""
    async for part in inputs:
        if part.port:
            call.request = part
            yield guest_pb2.DataChunk(data=f"port {part.port}\n".encode())
        else:
            yield guest_pb2.DataChunk(data=part.data)
    yield guest_pb2.DataChunk(data=b"bye")


def test_a_forward_carries_many_connections(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("GuestService/Forward", echo_port)
    with client.instances.forward("i-1", 80) as forward:
        sockets = [socket.create_connection(("127.0.0.1", forward.local_port), timeout=10) for _ in range(20)]
        for number, connection in enumerate(sockets):
            connection.sendall(bytes([number]) * 200_000)
            connection.shutdown(socket.SHUT_WR)
        for number, connection in enumerate(sockets):
            assert _all_of(connection) == b"port 80\n" + bytes([number]) * 200_000 + b"bye"
            connection.close()
    assert len(fake_cloud.seen("InstanceService/GetEndpoint")) == 21  # a fresh ticket each, and one at the start
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forward.local_port), timeout=1)


async def guest_ends_first(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.DataChunk]:
    """As an HTTP/1.0 server: answers and closes, while the client's side is still open."""
    yield guest_pb2.DataChunk(data=b"all there is")
    yield guest_pb2.DataChunk()
    async for part in inputs:
        call.request = part


def test_the_end_of_the_guests_side_is_the_end_of_the_file(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("GuestService/Forward", guest_ends_first)
    with (
        client.instances.forward("i-1", 80) as forward,
        socket.create_connection(("127.0.0.1", forward.local_port), timeout=10) as connection,
    ):
        assert _all_of(connection) == b"all there is"
        connection.sendall(b"still heard")


def test_a_connection_that_fails_is_told_and_the_rest_goes_on(fake_cloud: FakeCloud, client: Client) -> None:
    heard: list[errors.CloudError] = []

    async def refused(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.DataChunk]:
        if len(fake_cloud.seen("GuestService/Forward")) == 1:
            raise errors.Conflict("port 80 of the guest: Connection refused")
        async for chunk in echo_port(inputs, call):
            yield chunk

    fake_cloud.on("GuestService/Forward", refused)
    with client.instances.forward("i-1", 80, on_error=heard.append) as forward:
        with socket.create_connection(("127.0.0.1", forward.local_port), timeout=10) as first:
            assert _all_of(first) == b""
        with socket.create_connection(("127.0.0.1", forward.local_port), timeout=10) as second:
            second.shutdown(socket.SHUT_WR)
            assert _all_of(second) == b"port 80\nbye"
    assert [str(error) for error in heard] == ["Conflict: port 80 of the guest: Connection refused"]


async def test_closing_a_forward_ends_its_connections(fake_cloud: FakeCloud) -> None:
    fake_cloud.serve_guests()
    fake_cloud.on("GuestService/Forward", echo_port)
    async with AsyncClient(fake_cloud.address) as client:
        forward = await client.instances.forward("i-1", 80)
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.local_port)
        assert await reader.readline() == b"port 80\n"
        assert forward.connections == 1
        await forward.close()
        assert await reader.read() == b""
        assert forward.connections == 0
        writer.close()
        with pytest.raises(errors.InvalidParameterValue):
            await client.instances.forward("i-1", 0)


def _all_of(connection: socket.socket) -> bytes:
    parts = []
    while data := connection.recv(65_536):
        parts.append(data)
    return b"".join(parts)
