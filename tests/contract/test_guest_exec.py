"""Commands in a guest, on pipes and on terminals, and what becomes of them when their client goes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minicloud.base.errors import InvalidRequest
from minicloud.host.guest import Command, ExecSession, Exit, Guest, Output
from tests.contract.guest_process import PYTHON, TELL_SIZES, GuestProcess, ending, gone, run, running, until


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[GuestProcess]:
    async with running(tmp_path) as guest:
        yield guest


@pytest.fixture
async def guest(one: GuestProcess) -> Guest:
    return one.guest


# --- exec on pipes


async def test_output_streams_and_exit_code(guest: Guest) -> None:
    result = await run(guest, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.exit) == (b"out\n", b"err\n", Exit(7))


async def test_stdin_until_its_end(guest: Guest) -> None:
    assert (await run(guest, "cat", stdin=b"hello")).stdout == b"hello"


async def test_environment_directory_and_home(one: GuestProcess) -> None:
    result = await run(one.guest, "sh", "-c", "pwd; echo $A; echo $HOME", env={"A": "b c"}, cwd="/tmp")
    assert result.stdout.decode().splitlines() == ["/tmp", "b c", str(one.root / "root")]
    assert (await run(one.guest, "pwd")).stdout.decode().strip() == str(one.root / "root")


async def test_the_library_is_importable(guest: Guest) -> None:
    result = await run(guest, "python3", "-c", "import minicloud_workers; print('yes')")
    assert result.stdout == b"yes\n", result.stderr


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["/nowhere/program"], 127, "No such file"),
        (["no-such-program-anywhere"], 127, "No such file"),
        (["/etc/passwd"], 126, "Permission denied"),
    ],
)
async def test_what_cannot_be_started_says_why(guest: Guest, argv: list[str], code: int, text: str) -> None:
    result = await run(guest, *argv)
    assert result.exit.code == code
    assert text in result.exit.error


async def test_a_missing_directory_says_so(guest: Guest) -> None:
    result = await run(guest, "true", cwd="/nowhere")
    assert result.exit.code == 127 and "/nowhere" in result.exit.error


async def test_death_by_signal_is_128_plus(guest: Guest) -> None:
    assert (await run(guest, "sh", "-c", "kill -9 $$")).exit.code == 137


async def test_a_signal_reaches_the_group(guest: Guest) -> None:
    async with await guest.exec(Command(["sh", "-c", "echo up; sleep 1000 | sleep 1000"])) as session:
        await until(session, b"up")
        await session.signal(signal.SIGTERM)
        assert (await ending(session)).code == 128 + signal.SIGTERM


async def test_sigpipe_is_as_usual_in_guests(guest: Guest) -> None:
    result = await run(guest, "bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert result.stdout == b"y\n141\n"


async def test_the_end_does_not_wait_for_the_background(guest: Guest) -> None:
    started = time.monotonic()
    result = await run(guest, "sh", "-c", "sleep 1000 & echo $!")
    assert time.monotonic() - started < 60
    pid = int(result.stdout)
    assert not gone(pid, 0), "it goes on after its session"


async def test_fifty_megabytes_pass_through_unchanged(guest: Guest) -> None:
    block = os.urandom(1 << 20)
    started = time.monotonic()
    digest, size = hashlib.sha256(), 0
    async with await guest.exec(Command(["cat"])) as session:
        feeding = asyncio.ensure_future(_feed_blocks(session, block, 50))
        async for event in session:
            if isinstance(event, Output):
                digest.update(event.data)
                size += len(event.data)
        await feeding
    seconds = time.monotonic() - started
    assert size == 50 << 20
    assert digest.digest() == hashlib.sha256(block * 50).digest()
    print(f"50 MiB in and out in {seconds:.2f} s")
    assert seconds < 60


async def _feed_blocks(session: ExecSession, block: bytes, count: int) -> None:
    for _ in range(count):
        await session.write(block)
    await session.end_input()


async def test_who_does_not_read_stops_the_writer_and_nobody_else(guest: Guest) -> None:
    async with await guest.exec(Command(["sh", "-c", "echo $$; exec cat /dev/zero"])) as session:
        first = await anext(aiter(session))
        assert isinstance(first, Output)
        for _ in range(5):
            assert (await run(guest, "echo", "fine")).stdout == b"fine\n"
        assert (await guest.ping()).sessions == 1


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Command(), "argv"),
        (Command(["a\0b"]), "argv"),
        (Command(["true"], env={"A=B": "c"}), "env"),
        (Command(["true"], cwd="a\0"), "cwd"),
        (Command(["x" * 300_000]), "argv"),
    ],
)
async def test_bad_commands_are_refused_by_field(guest: Guest, command: Command, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await guest.exec(command)
    assert caught.value.field == field


# --- exec on a terminal


async def test_a_terminal_with_size_and_resize(guest: Guest) -> None:
    command = Command([PYTHON, "-c", TELL_SIZES], tty=True, rows=30, columns=100)
    async with await guest.exec(command) as session:
        assert b"100 30" in await until(session, b"ready")
        await session.resize(41, 121)
        await until(session, b"121 41")


async def test_control_c_interrupts_the_foreground(guest: Guest) -> None:
    async with await guest.exec(Command(["bash", "-c", "echo ready; sleep 1000"], tty=True)) as session:
        await until(session, b"ready")
        await session.write(b"\x03")
        assert (await ending(session)).code == 130


async def test_a_login_shell_with_job_control(one: GuestProcess) -> None:
    async with await one.guest.exec(Command(tty=True, env={"SHELL": "/bin/bash"})) as session:
        await session.write(b"set -o | grep monitor; echo [$0]\n")
        text = await until(session, b"[-bash]")
        assert b"monitor        \ton" in text
        await session.write(b"sh -c 'echo $((40+2)); exec sleep 1000'\n")
        await until(session, b"42")
        await session.write(b"\x1a")
        assert b"Stopped" in await until(session, b"Stopped")
        await session.write(b"kill -KILL %1; fg\n")
        await until(session, b"Killed")
        await session.write(b"exit 5\n")
        assert (await ending(session)).code == 5


async def test_end_of_input_ends_a_shell(guest: Guest) -> None:
    async with await guest.exec(Command(["sh"], tty=True, env={"PS1": "ready$"})) as session:
        await until(session, b"ready$")
        await session.end_input()
        assert (await ending(session)).code == 0


async def test_the_last_words_on_a_terminal_arrive(guest: Guest) -> None:
    for _ in range(10):
        result = await run(guest, "sh", "-c", "seq 1 5000; echo last", tty=True)
        assert result.stdout.endswith(b"5000\r\nlast\r\n")


# --- dropped connections


@pytest.mark.parametrize("tty", [False, True])
async def test_a_dropped_connection_ends_the_group(guest: Guest, tty: bool) -> None:
    script = "sleep 1000 & echo $$ $!; wait"
    session = await guest.exec(Command(["bash", "-c", script], tty=tty))
    pids = [int(word) for word in (await until(session, b"\n")).split()]
    session.close()
    for pid in pids:
        assert await asyncio.to_thread(gone, pid)


async def test_who_ignores_the_hangup_is_killed(guest: Guest) -> None:
    script = "trap '' HUP TERM INT; echo $$; while :; do sleep 1000; done"
    session = await guest.exec(Command(["bash", "-c", script]))
    pid = int(await until(session, b"\n"))
    session.close()
    assert await asyncio.to_thread(gone, pid)
