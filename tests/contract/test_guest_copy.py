"""Files into and out of a guest, and connections to its ports."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tarfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest

from minicloud.base.errors import Conflict, InvalidParameterValue, NotFound
from minicloud.host.guest import Guest
from tests.contract.guest_process import GuestProcess, running


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[GuestProcess]:
    async with running(tmp_path) as guest:
        yield guest


@pytest.fixture
async def guest(one: GuestProcess) -> Guest:
    return one.guest


# --- copy


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return buffer.getvalue()


def member(name: str, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname, info.mtime = mode, kind, link, 1_700_000_000
    return info


async def chunks(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_copy_in_and_out_keeps_content_modes_and_links(one: GuestProcess) -> None:
    target = one.root / "data"
    target.mkdir()
    big = os.urandom(3 << 20)
    sent = tar_of(
        (member("d", 0o750, tarfile.DIRTYPE), b""),
        (member("d/tool", 0o755), b"#!/bin/sh\n"),
        (member("d/secret", 0o600), big),
        (member("d/deep/er/file"), b"x"),
        (member("d/link", kind=tarfile.SYMTYPE, link="/etc/hostname"), b""),
        (member("d/hard", kind=tarfile.LNKTYPE, link="d/tool"), b""),
    )
    moved = await one.guest.upload("/data", chunks(sent))
    assert (moved.files, moved.bytes) == (5, len(big) + 11)
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((target / "d/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "d/secret").stat().st_mode) == 0o600
    assert (target / "d/secret").stat().st_mtime == 1_700_000_000
    assert os.readlink(target / "d/link") == "/etc/hostname"
    assert (target / "d/hard").samefile(target / "d/tool")

    received = b"".join([chunk async for chunk in one.guest.download("/data/d")])
    with tarfile.open(fileobj=BytesIO(received)) as tar:
        names = {info.name: info for info in tar.getmembers()}
        assert set(names) == {"d", "d/tool", "d/secret", "d/deep", "d/deep/er", "d/deep/er/file", "d/link", "d/hard"}
        content = tar.extractfile("d/secret")
        assert content is not None and content.read() == big
        assert names["d/secret"].mode & 0o777 == 0o600


async def test_download_of_one_file(one: GuestProcess) -> None:
    (one.root / "one").write_bytes(b"content")
    received = b"".join([chunk async for chunk in one.guest.download("/one")])
    with tarfile.open(fileobj=BytesIO(received)) as tar:
        assert tar.getnames() == ["one"]


async def test_what_is_not_there_is_not_found(guest: Guest) -> None:
    with pytest.raises(NotFound) as caught:
        [chunk async for chunk in guest.download("/no/such/file")]
    assert caught.value.field == "path"
    with pytest.raises(NotFound):
        await guest.upload("/no/such/directory", chunks(tar_of((member("a"), b"x" * 5_000_000))))


@pytest.mark.parametrize(
    "bad",
    [
        member("../escape"),
        member("/absolute"),
        member("a/../../escape"),
        member("device", kind=tarfile.CHRTYPE),
        member("pipe", kind=tarfile.FIFOTYPE),
        member("hard", kind=tarfile.LNKTYPE, link="../outside"),
    ],
    ids=lambda info: info.name,
)
async def test_names_that_leave_the_directory_are_refused(one: GuestProcess, bad: tarfile.TarInfo) -> None:
    (one.root / "data").mkdir()
    (one.root / "outside").write_text("mine")
    with pytest.raises(InvalidParameterValue) as caught:
        await one.guest.upload("/data", chunks(tar_of((member("good"), b"1"), (bad, b""))))
    assert caught.value.field == "chunk"
    assert sorted(path.name for path in one.root.iterdir()) == ["data", "outside", "root"]
    assert [path.name for path in (one.root / "data").iterdir()] == ["good"]


async def test_a_link_in_the_way_is_replaced_not_followed(one: GuestProcess) -> None:
    (one.root / "data").mkdir()
    (one.root / "outside").mkdir()
    (one.root / "outside/file").write_text("mine")
    sent = tar_of(
        (member("way", kind=tarfile.SYMTYPE, link="../outside"), b""),
        (member("way/file"), b"theirs"),
        (member("l", kind=tarfile.SYMTYPE, link="../outside/file"), b""),
        (member("l"), b"theirs"),
    )
    await one.guest.upload("/data", chunks(sent))
    assert (one.root / "outside/file").read_text() == "mine"
    assert (one.root / "data/way/file").read_text() == "theirs"
    assert (one.root / "data/l").read_text() == "theirs"


async def test_not_a_tar_is_refused(one: GuestProcess) -> None:
    (one.root / "data").mkdir()
    with pytest.raises(InvalidParameterValue):
        await one.guest.upload("/data", chunks(b"this is no tar" * 1000))


async def test_an_upload_whose_source_fails_fails_so(one: GuestProcess) -> None:
    (one.root / "data").mkdir()

    async def broken() -> AsyncIterator[bytes]:
        yield tar_of((member("a"), b"x"))[:512]
        raise KeyError("source")

    with pytest.raises(KeyError):
        await one.guest.upload("/data", broken())
    assert (await one.guest.ping()).processes >= 1


# --- forward


async def test_forward_with_half_close(guest: Guest) -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())  # until the half-close
        writer.write(b"answer " * 100_000)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(60), server, await guest.forward(port) as session:
        await session.write(b"request")
        await session.end_input()
        answer = b"".join([data async for data in session])
    assert got == [b"request"]
    assert answer == b"answer " * 100_000


async def test_forward_to_a_closed_port(guest: Guest) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(Conflict) as caught:
        await guest.forward(port)
    assert caught.value.field == "port"
