"""Guests started ahead: whom they belong to at every moment, and that nobody can tell them from others afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.host import ahead
from minicloud.host.ahead import AHEAD
from minicloud.host.instances import instance_secret
from minicloud.host.notify import CREATE, Notify
from minicloud.host.watch import identify
from minicloud.sandbox import probe as probing
from minicloud.sandbox.keeper import Keeper
from minicloud.sandbox.kept import KeptGuest, keeper_socket
from minicloud.wire import fleet_pb2
from tests.contract.agent_side import SECRET, ControlPlane, Host, gone, guest_spec, run

pytestmark = pytest.mark.timeout(300)
SCRIPT = "#!/bin/sh\necho once >> /root/runs\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcg", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
async def host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    monkeypatch.setattr(ahead, "QUIET_S", 0.0)
    found = probing.probe()
    if found.driver != "bwrap" or os.geteuid() != 0:
        pytest.skip("no guests are started ahead here")
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    one = Host(folder, control, found, started_ahead=True)
    await one.start_agent()
    await control.until(lambda: control.hellos)
    yield one
    await one.close()
    await control.stop()


async def begun(host: Host, instance_id: str, **more: Any) -> Path:
    """Order it, and return where its keeper listens for the actor, once it does."""
    await host.guest_ahead()
    path = Path(keeper_socket(str(host.places.socket_dir), instance_id, 1))
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec(instance_id, **more)))
    await there(path)
    return path


async def there(path: Path) -> None:
    """Until it is."""
    notify, changed = Notify(), asyncio.Event()
    notify.watch(path.parent, CREATE, changed.set)
    try:
        while not path.exists():
            changed.clear()
            await asyncio.wait_for(changed.wait(), 60)
    finally:
        notify.close()


def adopt(path: Path, instance_id: str) -> KeptGuest:
    """As the actor does; where the keeper only just begins to listen, again."""
    for _ in range(1000):
        try:
            return KeptGuest(str(path), instance_secret(SECRET, instance_id, 1))
        except ConnectionRefusedError:
            os.sched_yield()
    raise AssertionError("nobody listens")


def inits(host: Host) -> list[int]:
    """Of the guests that wait."""
    assert host.builder is not None and host.builder.ahead is not None
    return [blank.init for blank in host.builder.ahead._ready]


# ---------------------------------------------------------------- whose they are


async def test_the_users_code_runs_before_its_actor_is_there(host: Host) -> None:
    path = await begun(host, "i-0001", user_data=SCRIPT)
    runs = host.places.root("i-0001") / "root/runs"
    await there(runs)
    assert path.exists() and host.control.last("i-0001") is None
    await host.start_actor("i-0001")
    await host.control.until(
        lambda: (report := host.control.last("i-0001")) is not None and report.user_data_status == "done"
    )
    assert runs.read_text() == "once\n"
    assert host.record("i-0001")["group"].startswith(AHEAD) and not path.exists()


async def test_the_actor_is_asked_for_once_the_guest_boots_or_none_waits(host: Host) -> None:
    await begun(host, "i-0020")
    await host.control.until(lambda: host.control.begun == ["i-0020"])
    assert (await host.control.result(host.end("i-0020"))).ok
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0020", generation=2)))  # its disk is there already
    await host.control.until(lambda: host.control.begun == ["i-0020"] * 2)


async def test_an_actor_hears_how_a_guest_ended_that_ended_before_it_came(host: Host) -> None:
    await begun(host, "i-0021", user_data="#!/bin/sh\npoweroff\n")
    await host.control.until(lambda: host.control.begun)
    assert host.builder is not None
    pid = host.builder._begun["i-0021"].pid
    await gone(pid)
    await host.start_actor("i-0021")
    report = await host.control.until_state("i-0021", "ended")
    assert (report.reason.code, report.exit_code) == ("Client.InstanceInitiatedShutdown", 0)
    assert host.groups == []


POLITE = """#!/bin/sh
trap 'echo told > /root/told; exit 0' TERM
echo > /root/ready
while :; do sleep 0.05; done
"""


async def test_who_is_to_end_before_its_actor_came_gets_its_grace(host: Host) -> None:
    await begun(host, "i-0022", user_data=POLITE)
    home = host.places.root("i-0022") / "root"
    await there(home / "ready")
    assert (await host.control.result(host.end("i-0022", grace_s=30.0))).ok
    report = await host.control.until_state("i-0022", "ended")
    assert report.reason.code == "Stopped" and (home / "told").exists()
    assert host.groups == []


async def test_who_does_not_heed_is_killed_when_its_grace_is_cut_short(host: Host) -> None:
    await begun(
        host, "i-0023", user_data="#!/bin/sh\ntrap 'echo > /root/told' TERM\necho > /root/ready\nwhile :; do :; done\n"
    )
    home = host.places.root("i-0023") / "root"
    await there(home / "ready")
    patient = host.end("i-0023", grace_s=300.0)
    await there(home / "told")
    assert (await host.control.result(host.end("i-0023", force=True))).ok
    assert (await host.control.result(patient)).ok and host.groups == []


async def test_who_waits_ends_with_the_agent(host: Host) -> None:
    await host.guest_ahead()
    waiting, folders = inits(host), list(host.places.disks.glob(f"{AHEAD}*"))
    assert waiting and folders
    await host.stop_agent()
    for pid in waiting:
        await gone(pid)
        assert identify(pid) is None
    await host.start_agent()
    await host.guest_ahead()
    assert not any(folder.exists() for folder in folders)


async def test_an_agent_that_dies_before_the_actor_came_takes_the_guest_along_and_the_next_starts_it(
    host: Host,
) -> None:
    await begun(host, "i-0002", user_data=f"{SCRIPT}exec sleep 600\n")
    runs = host.places.root("i-0002") / "root/runs"
    await there(runs)
    await host.stop_agent()
    await host.start_agent()
    await host.start_actor("i-0002")
    await host.control.until(
        lambda: (report := host.control.last("i-0002")) is not None and report.user_data_status == "failed"
    )
    assert runs.read_text() == "once\n"  # what was cut off is not run again
    assert "cut off" in host.places.console("i-0002").read_text()


async def test_an_actor_that_dies_before_the_agent_heard_of_it_takes_the_guest_along(host: Host) -> None:
    path = await begun(host, "i-0003")
    held = adopt(path, "i-0003")
    held._line.sock.close()
    await gone(held.pid)
    assert identify(held.pid) is None


async def test_only_the_actor_gets_it_and_only_one(host: Host) -> None:
    path = await begun(host, "i-0004")
    with pytest.raises(OSError, match="no guest is kept"):
        for _ in range(1000):
            try:
                KeptGuest(str(path), "wrong")
            except ConnectionRefusedError:
                os.sched_yield()
    held = adopt(path, "i-0004")
    with pytest.raises(OSError):
        KeptGuest(str(path), instance_secret(SECRET, "i-0004", 1))
    assert held.kill() == -signal.SIGKILL
    assert identify(held.pid) is None


async def test_an_end_before_the_actor_came_leaves_nothing(host: Host) -> None:
    path = await begun(host, "i-0005")
    assert (await host.control.result(host.end("i-0005"))).ok
    assert host.groups == [] and not path.exists() and not host.places.control("i-0005").exists()
    await host.start_actor("i-0005")
    assert await asyncio.wait_for(host.actors["i-0005", 1].wait(), 60) == 0


async def test_a_guest_ends_with_its_keeper(host: Host) -> None:
    await host.launch("i-0006")
    guest = host.record("i-0006")["guest"][0]
    keeper = int(Path(f"/proc/{guest}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"keeper" in Path(f"/proc/{keeper}/cmdline").read_bytes()
    os.kill(keeper, signal.SIGKILL)
    report = await host.control.until_state("i-0006", "ended")
    assert report.exit_code == 137 and identify(guest) is None


# ---------------------------------------------------------------- what they are like


async def test_it_is_as_its_type_and_its_name_say(host: Host) -> None:
    await host.launch("i-0010", user_data=SCRIPT)
    said = await run(
        host.guest("i-0010"),
        *("/bin/sh", "-c", "hostname; echo $HOSTNAME; cat /etc/hostname; tail -1 /etc/hosts; ulimit -f; env"),
    )
    lines = said[1].splitlines()
    address = host.record("i-0010")["private_ip"]
    assert lines[:4] == ["i-0010", "i-0010", "i-0010", f"{address} i-0010"]
    assert int(lines[4]) == 1024**3 // 512  # dash counts in half KiB: the 1 GiB of its disk
    assert "MINICLOUD_INSTANCE_ID=i-0010" in lines and "MINICLOUD_GATE" not in said[1]
    assert (await run(host.guest("i-0010"), "/bin/sh", "-c", "cat /proc/1/cgroup"))[1].count(AHEAD) == 0
    status = await host.guest("i-0010").ping()
    assert status.uptime_s < 30
    sockets = await count_sockets(host)
    order = host.control.send(reboot=fleet_pb2.RebootGuest(instance_id="i-0010", generation=1))
    assert (await host.control.result(order)).ok
    assert await count_sockets(host) == sockets  # of an init that never had a gate


async def count_sockets(host: Host) -> int:
    said = await run(host.guest("i-0010"), "/bin/sh", "-c", "ls -l /proc/1/fd 2> /dev/null | grep -c socket:")
    return int(said[1])


async def test_what_does_not_fit_goes_the_other_way(host: Host) -> None:
    await host.launch("i-0011", 1)
    assert (await host.control.result(host.end("i-0011"))).ok
    await host.launch("i-0011", 2)  # its disk is there already
    assert host.record("i-0011")["group"] == ""
    assert (await run(host.guest("i-0011"), "/bin/true"))[0] == 0


async def test_a_guest_that_died_while_it_waited_is_not_handed_out(host: Host) -> None:
    await host.guest_ahead()
    assert host.builder is not None and host.builder.ahead is not None
    blank = next(one for one in host.builder.ahead._ready if host.builder.ahead.count(one.tmp_mib))
    os.kill(blank.pid, signal.SIGKILL)
    await gone(blank.pid)
    spec = guest_spec("i-0012")
    host.control.send(start=fleet_pb2.StartGuest(spec=spec))
    await host.start_actor("i-0012")
    await host.control.until_state("i-0012", "running")
    assert (await run(host.guest("i-0012"), "/bin/true"))[0] == 0


def test_a_line_without_end_is_hung_up() -> None:
    from minicloud.sandbox.kept import LINE_BYTES_MAX, Lines

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        lines = Lines(theirs)
        lines._unread = b"x" * (LINE_BYTES_MAX + 1)
        ours.send(b"x")
        assert lines.read() is None


def test_a_guest_that_cannot_be_adopted_does_not_begin(folder: Path) -> None:
    """The launch goes the other way, on the same disk: what this one ran would not be run again."""
    agent, agents = socket.socketpair()
    gate, inits = socket.socketpair()
    with agent, agents, gate, inits:
        keeper = Keeper(agents)
        keeper._gate = gate
        with pytest.raises(OSError):
            keeper._begin(str(folder / "nowhere" / "i-0030"), "secret")
        inits.setblocking(False)
        with pytest.raises(BlockingIOError):
            inits.recv(1)
