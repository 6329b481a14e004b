"""The init of a guest and the host's client of it, over a real socket: status, misuse, boot and end."""

from __future__ import annotations

import asyncio
import random
import resource
import select
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from minicloud_workers import protocol

from minicloud.base.errors import LimitExceeded, Unavailable
from minicloud.host.guest import Command, Guest
from tests.contract.guest_process import INSTANCE, PYTHON, SAY_BYE, GuestProcess, ending, gone, run, running, until
from tests.machine_time import within


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[GuestProcess]:
    async with running(tmp_path) as guest:
        yield guest


@pytest.fixture
async def guest(one: GuestProcess) -> Guest:
    return one.guest


# --- status


async def test_ping_tells_the_state(guest: Guest) -> None:
    status = await guest.ping()
    assert status.uptime_s >= 0 and status.processes >= 1
    assert (status.user_data_state, status.user_data_exit, status.stopping) == ("none", 0, False)


async def test_a_frozen_guest_costs_a_deadline(one: GuestProcess) -> None:
    one.process.send_signal(signal.SIGSTOP)
    with within(2), pytest.raises(Unavailable):
        await one.guest.ping(0.2)
    one.process.send_signal(signal.SIGCONT)
    await one.guest.ping()


async def test_a_link_in_the_place_of_the_socket_is_not_followed(one: GuestProcess, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(elsewhere))
        server.listen()
        (one.control / "trap.sock").symlink_to(elsewhere)
        with pytest.raises(Unavailable):
            await Guest(one.control / "trap.sock").ping()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


# --- robustness


def raw(one: GuestProcess) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(one.control / "init.sock"))
    sock.settimeout(10)
    return sock


def all_of(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        protocol.header(protocol.OPEN, protocol.FRAME_BYTES_MAX + 1),
        protocol.frame(protocol.OPEN, b"\xff\xfe not json"),
        protocol.frame(protocol.OPEN, b"[" * 200_000),
        protocol.frame(protocol.OPEN, b"[1]"),
        protocol.frame(protocol.DATA, b"first"),
        protocol.control(protocol.OPEN, {"kind": "explode"}),
        protocol.control(protocol.OPEN, {"kind": ["exec"]}),
        protocol.control(protocol.OPEN, {"kind": "exec", "argv": "ls"}),
        protocol.control(protocol.OPEN, {"kind": "exec", "argv": ["ls"], "env": {"A": 1}}),
        protocol.control(protocol.OPEN, {"kind": "exec", "argv": ["cat"]}) + b"\0" * 64,
        protocol.control(protocol.OPEN, {"kind": "exec", "argv": ["cat"]})
        + protocol.control(protocol.SIGNAL, {}) * 0
        + protocol.control(protocol.SIGNAL, {"signal": 9999}),
        protocol.control(protocol.OPEN, {"kind": "exec", "argv": ["cat"], "tty": True, "rows": -1}),
        protocol.control(protocol.OPEN, {"kind": "forward", "port": 0}),
        protocol.control(protocol.OPEN, {"kind": "forward", "port": "80"}),
        protocol.control(protocol.OPEN, {"kind": "upload", "path": "relative"}),
        protocol.control(protocol.OPEN, {"kind": "shutdown", "grace_s": -1}),
        protocol.control(protocol.OPEN, {"kind": "ping"}) + protocol.frame(protocol.DATA, b"more"),
    ],
)
def test_bad_frames_end_their_session_only(one: GuestProcess, bad: bytes) -> None:
    with raw(one) as sock:
        sock.sendall(bad)
        answer = all_of(sock)
    assert b"Traceback" not in answer
    if b"ping" not in bad:
        assert protocol.ERROR + b"\0" in answer
    with raw(one) as sock:
        sock.sendall(protocol.control(protocol.OPEN, {"kind": "ping"}))
        assert all_of(sock).startswith(protocol.OPENED)


def test_random_bytes_do_not_end_it(one: GuestProcess) -> None:
    rand = random.Random(7)
    for _ in range(200):
        with raw(one) as sock:
            sock.sendall(rand.choice([b"", b"O", b"O\0\0\0"]) + rand.randbytes(rand.randrange(1, 60)))
    with raw(one) as sock:
        sock.sendall(protocol.control(protocol.OPEN, {"kind": "ping"}))
        assert all_of(sock).startswith(protocol.OPENED)


async def test_a_flood_of_idle_connections_is_bounded(one: GuestProcess) -> None:
    socks = [raw(one) for _ in range(300)]
    waiting, refused = list(socks), 0
    while ready := select.select(waiting, [], [], 30 if refused < 300 - 256 else 0.2)[0]:
        for sock in ready:
            assert sock.recv(4096).startswith(protocol.ERROR)
            waiting.remove(sock)
        refused += len(ready)
    assert refused == 300 - 256
    for sock in socks:
        sock.close()
    await one.guest.ping(60)


async def test_sessions_are_bounded(guest: Guest) -> None:
    sessions = [await guest.exec(Command(["cat"])) for _ in range(64)]
    with pytest.raises(LimitExceeded):
        await guest.exec(Command(["true"]))
    for session in sessions:
        await session.end_input()
        assert (await ending(session)).code == 0
    assert (await run(guest, "echo", "again")).stdout == b"again\n"


async def test_no_process_can_be_started(one: GuestProcess) -> None:
    resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (24, 4096))
    sessions = []
    with pytest.raises((Unavailable, LimitExceeded)):
        for _ in range(12):
            session = await one.guest.exec(Command(["cat"]), 1)
            sessions.append(session)
            if session.pid == 0:
                assert "no new process" in (await ending(session)).error
    for session in sessions:
        session.close()
    resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (1024, 4096))
    assert (await run(one.guest, "echo", "fine")).stdout == b"fine\n"


async def test_orphans_are_reaped(one: GuestProcess) -> None:
    result = await run(one.guest, "bash", "-c", "for i in 1 2 3; do (setsid sleep 0.01 & echo $!) ; done")
    for pid in map(int, result.stdout.split()):
        assert await asyncio.to_thread(gone, pid)
    await one.guest.ping()  # SIGCHLD came before this
    assert _children(one.process.pid) == []


def _children(pid: int) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(entry.parent.name)
    return found


# --- boot


async def test_keys_boot_scripts_and_user_data_once(tmp_path: Path) -> None:
    boot_d = tmp_path / "root/etc/minicloud/boot.d"
    boot_d.mkdir(parents=True)
    (boot_d / "10-count").write_text("#!/bin/sh\necho boot script\n")
    (boot_d / "10-count").chmod(0o755)
    (boot_d / "20-not-executable").write_text("#!/bin/sh\necho wrong\n")
    script = f"#!/bin/sh\necho hello from user data\necho x >> {tmp_path}/ran\nexit 3\n"
    boot = {"public_key": "ssh-ed25519 AAAA me", "user_data": {"kind": "script", "text": script}}
    async with running(tmp_path, **boot) as first:
        assert await first.user_data() == ("failed", 3)
        assert (first.root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
        assert stat.S_IMODE((first.root / "root/.ssh/authorized_keys").stat().st_mode) == 0o600
    async with running(tmp_path, **boot) as second:
        assert await second.user_data() == ("failed", 3)
        assert (second.root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
    assert (tmp_path / "ran").read_text() == "x\n"
    assert second.log().count("boot script\n") == 2 and "wrong" not in second.log()
    assert second.log().count("hello from user data") == 1
    async with running(tmp_path, **boot, instance_id="i-0another") as third:  # an image made of the disk
        assert await third.user_data() == ("failed", 3)
    assert (tmp_path / "ran").read_text() == "x\nx\n"


async def test_user_data_that_was_cut_off_is_not_repeated(tmp_path: Path) -> None:
    marker = tmp_path / "root/var/lib/minicloud/user-data.json"
    marker.parent.mkdir(parents=True)
    marker.write_text(f'{{"instance_id": "{INSTANCE}", "state": "running", "exit": 0}}')
    data = {"kind": "script", "text": f"#!/bin/sh\ntouch {tmp_path}/ran\n"}
    async with running(tmp_path, user_data=data) as one:
        assert await one.user_data() == ("failed", 1)
    assert not (tmp_path / "ran").exists()


async def test_refused_user_data_says_why_on_the_console(tmp_path: Path) -> None:
    async with running(tmp_path, user_data={"kind": "refused", "reason": "packages are not supported"}) as one:
        assert await one.user_data() == ("failed", 1)
        assert "packages are not supported" in one.log()


async def test_cloud_config_writes_files_and_runs_commands(tmp_path: Path) -> None:
    files = [
        {"path": "/srv/a", "content": "b25l", "mode": 0o640, "append": False},
        {"path": "/srv/a", "content": "dHdv", "mode": 0o640, "append": True},
    ]
    data = {"kind": "cloud-config", "write_files": files, "script": f"#!/bin/sh\ncat {tmp_path}/root/srv/a\n"}
    async with running(tmp_path, user_data=data) as one:
        assert await one.user_data() == ("done", 0)
        assert "onetwo" in one.log()
        assert stat.S_IMODE((one.root / "srv/a").stat().st_mode) == 0o640


# --- the end


async def test_shutdown_asks_first(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        session = await one.guest.exec(Command([PYTHON, "-c", SAY_BYE, str(tmp_path / "said")]))
        await until(session, b"up")
        await one.guest.shutdown(20)
        assert await one.ended(10) == 0
        assert (tmp_path / "said").read_text() == "bye"
        session.close()


async def test_shutdown_does_not_ask_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        script = "trap '' TERM HUP; (trap '' TERM HUP; setsid sleep 1000 & echo $!); while :; do sleep 1000; done"
        session = await one.guest.exec(Command(["bash", "-c", script]))
        pid = int(await until(session, b"\n"))
        await one.guest.shutdown(0.1)
        assert await one.ended(10) == 0
        assert gone(pid, 0)
        session.close()


async def test_the_guest_can_end_itself(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        session = await one.guest.exec(Command(["poweroff"]))
        assert await one.ended(10) == 0
        assert "asked from inside" in one.log()
        session.close()


async def test_sigterm_is_a_shutdown(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended(10) == 0


async def test_watchers_hear_of_changes(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        states = one.guest.watch()
        assert (await anext(states)).stopping is False
        await one.guest.shutdown(0)
        assert (await anext(states)).stopping is True
        assert [status async for status in states] == []
        assert await one.ended() == 0
