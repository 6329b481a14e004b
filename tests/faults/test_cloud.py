"""A real cloud under fault: SIGKILL and SIGSTOP of each of its processes, everything at once, a full disk.

States must be true within 5 s of a killed process, 10 s of a killed raylet, 15 s of a frozen one; the API is back
within 10 s; nothing accepted is lost, doubled or orphaned. (Seconds in which nobody waits for a processor:
tests/machine_time.py.)
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicloud.base import limits
from minicloud.base.errors import CloudError, InsufficientStorage
from minicloud.client import Client
from tests.machine_time import PATIENCE, within
from tests.real_cloud import RealCloud, kill, real_cloud, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]


@pytest.fixture(scope="module")
def cloud() -> Iterator[RealCloud]:
    with real_cloud("--hosts", "2", "--overcommit-cpu", "64") as made:
        yield made


@pytest.fixture
def client(cloud: RealCloud) -> Iterator[Client]:
    with cloud.client() as made:
        yield made
        ids = [one.id for one in made.instances.list() if one.state != "terminated"]
        if ids:
            made.instances.terminate(*ids)
            made.instances.wait_until(ids, "terminated")


def api_back(client: Client, seconds: float) -> float:
    began = time.monotonic()

    def answers() -> bool:
        try:
            client.with_options(timeout=2.0, retry=0.0).hosts.get("host-a")
        except CloudError:
            return False
        return True

    until(answers, seconds, "the API answers")
    return time.monotonic() - began


def test_the_control_plane_dies_during_twenty_launches(cloud: RealCloud, client: Client) -> None:
    (before,) = client.instances.launch("t3.nano", wait=True)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        launches = [pool.submit(lambda: client.instances.launch("t3.nano")[0].id) for _ in range(20)]
        time.sleep(0.15)
        (plane,) = cloud.actor_pids("ControlPlane")
        kill(plane)
        took = api_back(client, 10)
        accepted = [launch.result() for launch in launches]
    print(f"API back after {took:.1f} s; {len(accepted)} accepted launches")
    assert len(set(accepted)) == 20

    def settled() -> bool:
        return all(client.instances.get(one).state in ("running", "terminated") for one in accepted)

    until(settled, 60, "every accepted launch runs or ended")
    ends = [client.instances.get(one) for one in accepted]
    assert all(one.state == "running" or one.state_reason is not None for one in ends)
    listed = [one.id for one in client.instances.list()]
    assert sorted(listed) == sorted({*accepted, before.id}), "none twice, none that nobody asked for"
    for one in ends:
        if one.state == "running":
            assert len({os.getpgid(pid) for pid in cloud.guest_pids(one.id)}) >= 1
    runs = sum(one.state == "running" for one in ends) + 1
    until(lambda: len(cloud.actor_pids("Instance")) == runs, 10, "an actor for each that runs, and no other")
    after = client.instances.get(before.id)
    assert (after.state, after.generation) == ("running", 1), "a guest notices nothing of a dead control plane"


def test_a_killed_guest_shows_its_exit_code(cloud: RealCloud, client: Client) -> None:
    (one,) = client.instances.launch("t3.nano", wait=True)
    kill(cloud.guest_pids(one.id)[0])
    with within(5) as timeout:
        (after,) = client.instances.wait_until(one.id, "stopped", timeout)
    assert after.exit_code == 137 and after.state_reason is not None and "137" in after.state_reason.message


def test_a_killed_instance_actor_takes_its_guest_along(cloud: RealCloud, client: Client) -> None:
    (one,) = client.instances.launch("t3.nano", wait=True)
    (actor,) = cloud.actor_pids("Instance")
    kill(actor)
    with within(5) as timeout:
        (after,) = client.instances.wait_until(one.id, "stopped", timeout)
    assert after.state_reason is not None and after.state_reason.code == "Server.ActorDied"
    until(lambda: not cloud.guest_pids(one.id), 5, "no process of the guest is left")


def test_guests_live_on_when_their_host_agent_dies(cloud: RealCloud, client: Client) -> None:
    (one,) = client.instances.launch("t3.nano", wait=True)
    pids = cloud.guest_pids(one.id)
    for pid in cloud.actor_pids("HostAgent"):
        kill(pid)

    def usable() -> bool:
        try:
            return client.instances.exec(one.id, ["true"], timeout=2).exit_code == 0
        except CloudError:
            return False

    until(usable, 10, "the new agents serve the guest")
    after = client.instances.get(one.id)
    assert (after.state, after.generation) == ("running", 1)
    until(lambda: cloud.guest_pids(one.id) == pids, 5, "the guest's processes, and none of a call that was given up")
    kill(pids[0])
    with within(5) as timeout:
        client.instances.wait_until(one.id, "stopped", timeout)


def test_the_front_door_is_back(cloud: RealCloud, client: Client) -> None:
    kill(cloud.pid_of("front-door"))
    api_back(client, 5)


def test_a_killed_gcs_costs_nobody_anything(cloud: RealCloud, client: Client) -> None:
    (one,) = client.instances.launch("t3.nano", wait=True)
    before = cloud.pid_of("gcs")
    kill(before)
    assert client.instances.exec(one.id, ["echo", "still here"]).stdout == b"still here\n"
    until(lambda: cloud.pid_of("gcs") not in (0, before), 10, "a new GCS")
    (two,) = client.instances.launch("t3.nano", wait=True, wait_timeout=45.0 * PATIENCE)
    assert client.instances.get(one.id).generation == 1 and two.state == "running"


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGKILL, 10), (signal.SIGSTOP, 15)])
def test_a_lost_host_is_known_and_what_wakes_up_is_fenced(
    cloud: RealCloud, client: Client, number: signal.Signals, seconds: float
) -> None:
    (there,) = client.instances.launch("t3.nano", zone="us-east-1b", wait=True)
    (here,) = client.instances.launch("t3.nano", zone="us-east-1a", wait=True)
    raylet = cloud.pid_of("raylet:host-b")
    began = time.monotonic()
    kill(raylet, number)
    with within(seconds) as timeout:
        client.instances.wait_until(there.id, "stopped", timeout)
    until(lambda: client.hosts.get("host-b").state == "down", seconds)
    after = client.instances.get(there.id)
    print(f"{number.name}: true after {time.monotonic() - began:.1f} s")
    assert after.state_reason is not None and after.state_reason.code == "Server.HostFailure"
    assert client.instances.get(here.id).state == "running"
    if number == signal.SIGSTOP:
        wake(raylet)
    until(lambda: not cloud.guest_pids(there.id), 20, "no guest of the lost host goes on")
    until(lambda: client.hosts.get("host-b").state == "up", 60, "the host comes back as a new Ray node")
    client.instances.start(there.id)
    client.instances.wait_until(there.id, "running")


def test_a_control_plane_that_stands_still_costs_nobody_anything(cloud: RealCloud, client: Client) -> None:
    """For longer than a silent host gets: when it wakes, its own silence is not taken for theirs."""
    (one,) = client.instances.launch("t3.nano", wait=True)
    (pid,) = cloud.actor_pids("ControlPlane")
    kill(pid, signal.SIGSTOP)
    time.sleep(limits.HOST_LOST_AFTER_S + 2)
    wake(pid)
    api_back(client, 10)
    (two,) = client.instances.launch("t3.nano", wait=True, wait_timeout=45.0 * PATIENCE)  # its hosts are back, too
    after = client.instances.get(one.id)
    assert (after.state, after.generation) == ("running", 1) and two.state == "running"
    assert client.instances.exec(one.id, ["echo", "still here"]).stdout == b"still here\n"
    assert cloud.actor_pids("ControlPlane") == [pid]


def test_an_agent_that_stands_still_is_given_up_and_fenced(cloud: RealCloud, client: Client) -> None:
    (one,) = client.instances.launch("t3.nano", zone="us-east-1b", wait=True)
    pids = cloud.actor_pids("HostAgent")
    (pid,) = [one for one in pids if any("host-b.log" in path for path in _files(one))]
    kill(pid, signal.SIGSTOP)
    with within(15) as timeout:
        client.instances.wait_until(one.id, "stopped", timeout)
    until(lambda: client.hosts.get("host-b").state == "down", 5)
    wake(pid)
    until(lambda: client.hosts.get("host-b").state == "up", 20, "the host is back")
    until(lambda: not cloud.guest_pids(one.id), 10, "the guest that was given up has ended")
    client.instances.start(one.id)
    client.instances.wait_until(one.id, "running")


def _files(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            yield os.readlink(path)


def wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the supervisor was quicker and ended it
        os.kill(pid, signal.SIGCONT)


def test_down_and_up_find_the_same_cloud(cloud: RealCloud) -> None:
    with cloud.client() as client:
        (one,) = client.instances.launch("t3.nano", wait=True, tags={"keep": "me"})
        client.instances.exec(one.id, ["sh", "-c", "echo note > /root/note"])
    cloud.down()
    assert not cloud.left_over()
    cloud.up("--overcommit-cpu", "64")
    with cloud.client() as again:
        (after,) = again.instances.wait_until(one.id, "running")
        assert after.generation == 2 and dict(after.tags) == {"keep": "me"}
        assert again.instances.exec(one.id, ["cat", "/root/note"]).stdout == b"note\n"
        again.instances.terminate(one.id)
        again.instances.wait_until(one.id, "terminated")


def test_everything_killed_at_once_comes_back(cloud: RealCloud) -> None:
    """As after a power cut: supervisor, Ray, agents, guests; the next `up` cleans up and goes on."""
    with cloud.client() as client:
        (one,) = client.instances.launch("t3.nano", wait=True)
        kill(cloud.state()["supervisor"])
        for pid, _ in list(cloud._processes()):
            try:
                kill(pid)
            except ProcessLookupError:
                continue
    cloud.up("--overcommit-cpu", "64")
    with cloud.client() as client:
        (after,) = client.instances.wait_until(one.id, "running")
        assert after.generation == 2
        client.instances.terminate(one.id)
        client.instances.wait_until(one.id, "terminated")


def test_a_full_disk_refuses_changes_and_serves_reads(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(mount)], check=True)
    cloud = RealCloud(mount / "d")
    try:
        cloud.up()
        with cloud.client() as client:
            (one,) = client.instances.launch("t3.nano", wait=True)
            filler = mount / "filler"
            # no buffer: it would fail once more when it is closed
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 65536)
            with pytest.raises(InsufficientStorage):
                for number in range(200):
                    client.with_options(retry=0.0).key_pairs.create(f"k{number}")
            assert client.instances.get(one.id).state == "running"
            assert [item.id for item in client.instances.list()] == [one.id]
            filler.unlink()
            until(lambda: _works(client), 10, "changes are taken again")
            client.instances.terminate(one.id)
            client.instances.wait_until(one.id, "terminated")
    finally:
        try:
            cloud.down()
        finally:
            subprocess.run(["umount", str(mount)], check=True)


def _works(client: Client) -> bool:
    try:
        client.with_options(retry=0.0).key_pairs.create("again")
    except CloudError:
        return False
    return True
