"""The init of a guest and the host's client of it, over a real socket, with real processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import select
import signal
import socket
import stat
import tarfile
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from minicloud_workers import protocol

from minicloud.base.errors import Conflict, InvalidParameterValue, InvalidRequest, LimitExceeded, NotFound, Unavailable
from minicloud.host.guest import Command, ExecSession, Exit, Guest, Output
from tests.contract.guest_process import INSTANCE, GuestProcess, run, running


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[GuestProcess]:
    async with running(tmp_path) as guest:
        yield guest


@pytest.fixture
async def guest(one: GuestProcess) -> Guest:
    return one.guest


async def until(session: ExecSession, text: bytes, seconds: float = 10) -> bytes:
    """Output up to where `text` came."""
    got = b""
    async with asyncio.timeout(seconds):
        async for event in session:
            assert isinstance(event, Output), f"ended with {event} after {got!r}"
            got += event.data
            if text in got:
                return got
    raise AssertionError(got)


async def ending(session: ExecSession, seconds: float = 10) -> Exit:
    async with asyncio.timeout(seconds):
        async for event in session:
            if isinstance(event, Exit):
                return event
    raise AssertionError("no exit")


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether the process ends within that time; waits on the kernel."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


# --- status


async def test_ping_tells_the_state(guest: Guest) -> None:
    status = await guest.ping()
    assert status.uptime_s >= 0 and status.processes >= 1
    assert (status.user_data_state, status.user_data_exit, status.stopping) == ("none", 0, False)


async def test_a_frozen_guest_costs_a_deadline(one: GuestProcess) -> None:
    one.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await one.guest.ping(0.2)
    assert time.monotonic() - started < 2
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
    assert time.monotonic() - started < 5
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
    assert seconds < 20


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
    script = "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 1000 & wait; done"
    async with await guest.exec(Command(["bash", "-c", script], tty=True, rows=30, columns=100)) as session:
        assert b"30 100" in await until(session, b"ready")
        await session.resize(41, 121)
        assert b"41 121" in await until(session, b"41 121")


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
    refused = [sock for sock in socks if _refused(sock)]
    assert len(refused) == 300 - 256
    for sock in socks:
        sock.close()
    await one.guest.ping(10)


def _refused(sock: socket.socket) -> bool:
    sock.settimeout(0.2 if sock.fileno() % 50 == 0 else 0.001)
    try:
        return sock.recv(4096).startswith(protocol.ERROR)
    except TimeoutError:
        return False


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
    async with asyncio.timeout(20), server, await guest.forward(port) as session:
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
        script = f"trap 'echo bye > {tmp_path}/said; exit 0' TERM; echo up; while :; do sleep 1000 & wait; done"
        session = await one.guest.exec(Command(["bash", "-c", script]))
        await until(session, b"up")
        await one.guest.shutdown(20)
        assert await one.ended(10) == 0
        assert (tmp_path / "said").read_text() == "bye\n"
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
