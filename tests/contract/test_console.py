"""Console logs: bounded without the writer noticing, followed without polling."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from minicloud.base.errors import NotFound
from minicloud.base.limits import CONSOLE_BYTES_MAX
from minicloud.host import console as module
from minicloud.host.console import TRIM_BYTES, Consoles

MIB = 1024 * 1024


@pytest.fixture
async def consoles() -> AsyncIterator[Consoles]:
    one = Consoles()
    yield one
    one.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def append(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, data)
    os.close(fd)


async def all_of(stream: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(60):
        return b"".join([chunk async for chunk in stream])


async def test_what_is_there_and_its_tail(consoles: Consoles, path: Path) -> None:
    append(path, b"0123456789")
    assert await all_of(consoles.read(path)) == b"0123456789"
    assert await all_of(consoles.read(path, 3)) == b"789"
    assert consoles.tail(path, 4) == b"6789"
    assert consoles.tail(path, 400) == b"0123456789"


async def test_no_console_is_not_found(consoles: Consoles, path: Path) -> None:
    with pytest.raises(NotFound):
        consoles.tail(path, 1)
    with pytest.raises(NotFound):
        await all_of(consoles.read(path, follow=True))


async def test_a_follower_gets_what_comes_and_ends_with_the_guest(consoles: Consoles, path: Path) -> None:
    consoles.keep(path)
    append(path, b"one ")
    async with asyncio.timeout(60), aclosing(consoles.read(path, follow=True)) as stream:
        assert await anext(stream) == b"one "
        append(path, b"two ")
        assert await anext(stream) == b"two "
        append(path, b"three")
        consoles.end(path)
        assert await all_of(stream) == b"three"


async def test_the_log_is_bounded_and_offsets_stay_true(consoles: Consoles, path: Path) -> None:
    consoles.keep(path)
    async with asyncio.timeout(60), aclosing(consoles.read(path, follow=True)) as stream:
        seen = 0
        for number in range(12):
            append(path, bytes([number]) * MIB)
            while seen < (number + 1) * MIB:
                chunk = await anext(stream)
                assert chunk[0] == (seen // MIB) == number
                seen += len(chunk)
    await consoles_are_idle(consoles)
    assert path.stat().st_blocks * 512 <= CONSOLE_BYTES_MAX + TRIM_BYTES + MIB
    kept = await all_of(consoles.read(path))
    assert kept == b"".join(bytes([number]) * MIB for number in range(8, 12))


async def consoles_are_idle(consoles: Consoles) -> None:
    """One more change of a file has been seen, so everything before it was."""
    done = asyncio.Event()
    watch = consoles._notify.watch(Path("/proc/self/comm"), 0x20, done.set)
    Path("/proc/self/comm").read_text()
    async with asyncio.timeout(60):
        await done.wait()
    watch.close()


async def test_a_file_system_without_holes_empties_the_log(
    consoles: Consoles, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoHoles:
        def fallocate(self, *_: int) -> int:
            import ctypes
            import errno

            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(module, "_libc", NoHoles())
    consoles.keep(path)
    async with asyncio.timeout(60), aclosing(consoles.read(path, follow=True)) as stream:
        append(path, b"a" * (2 * CONSOLE_BYTES_MAX))
        await consoles_are_idle(consoles)
        assert path.stat().st_size == 0
        append(path, b"new")
        assert await anext(stream) == b"new"


async def test_an_agent_that_comes_back_trims_at_once(consoles: Consoles, path: Path) -> None:
    append(path, b"x" * (8 * MIB))
    consoles.keep(path)
    assert path.stat().st_blocks * 512 <= CONSOLE_BYTES_MAX + 4096


async def test_a_link_is_not_followed(consoles: Consoles, path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        consoles.tail(path, 10)
