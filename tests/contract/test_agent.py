"""The host agent with real guests and without Ray: the actor is a plain process with the actor's loop, the control
plane is a gRPC server in this process that says what a test tells it to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from minicloud.cloud_host import CreditRules
from minicloud.host import ahead, sampler
from minicloud.host.records import GuestRecord, RecordFiles
from minicloud.host.watch import identify
from minicloud.sandbox import probe as probing
from minicloud.sandbox.cgroup import Cgroups
from minicloud.wire import fleet_pb2, instance_pb2
from tests.contract.agent_side import MEMORY_MIB, ControlPlane, Host, gone, guest_spec, run

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def isolation() -> probing.HostIsolation:
    return probing.probe()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcg", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(params=[False, True], ids=["spawned", "started-ahead"])
async def host(
    request: pytest.FixtureRequest, folder: Path, isolation: probing.HostIsolation, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Host]:
    """Guests are started by their actors, or ahead of them: nobody may see a difference."""
    monkeypatch.setattr(ahead, "QUIET_S", 0.0)
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    one = Host(folder, control, isolation, credits=CreditRules(), started_ahead=request.param)
    await one.start_agent()
    await control.until(lambda: control.hellos)
    yield one
    await one.close()
    await control.stop()


# ---------------------------------------------------------------- start and end


async def test_a_guest_runs_with_its_own_address_and_leaves_nothing_but_its_disk(host: Host) -> None:
    report = await host.launch("i-0001")
    assert report.private_ip and report.isolation.driver == host.isolation.driver
    code, said = await run(host.guest("i-0001"), "/bin/sh", "-c", "hostname; echo kept > /root/file; cat /root/file")
    assert (code, said.split()[-1]) == (0, "kept")
    code, said = await run(host.guest("i-0001"), "/bin/sh", "-c", "echo $MINICLOUD_VCPUS $MINICLOUD_MEMORY_MIB")
    assert (code, said.split()) == (0, ["1", str(MEMORY_MIB)])
    guest, actor = host.record("i-0001")["guest"][0], host.actors["i-0001", 1]
    result = await host.control.result(host.end("i-0001"))
    assert result.ok
    ended = host.control.last("i-0001")
    assert ended is not None and (ended.state, ended.reason.code) == ("ended", "Stopped")
    assert identify(guest) is None and await actor.wait() == 0
    assert (host.places.root("i-0001") / "root/file").read_text() == "kept\n"
    assert not host.places.control("i-0001").exists()
    assert host.groups == []
    result = await host.control.result(host.end("i-0001", delete_disk=True))
    assert result.ok and not host.places.disk("i-0001").exists()


async def test_the_actor_may_come_before_the_order(host: Host) -> None:
    assert host.agent is not None
    came = asyncio.Event()
    accept = host.agent._door._ends.on_hello
    host.agent._door._ends = dataclasses.replace(
        host.agent._door._ends, on_hello=lambda link: (accept(link), came.set())[0]
    )
    await host.start_actor("i-0002")
    await came.wait()
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0002")))
    await host.control.until_state("i-0002", "running")


async def test_an_order_that_comes_twice_starts_one_guest_and_a_stale_one_none(host: Host) -> None:
    await host.launch("i-0003", 2)
    guest = host.record("i-0003")["guest"]
    again = host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0003", 2)))
    assert (await host.control.result(again)).ok
    stale = host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0003", 1)))
    assert not (await host.control.result(stale)).ok
    assert (await host.control.result(host.end("i-0003", 1, force=True))).ok  # generation 1 is over, 2 goes on
    assert host.record("i-0003")["guest"] == guest and identify(guest[0]) is not None


async def test_a_newer_generation_takes_the_place_of_an_older_one(host: Host) -> None:
    await host.launch("i-0004", 1)
    report = await host.launch("i-0004", 2)
    ended = host.control.last("i-0004", 1)
    assert ended is not None and ended.state == "ended"
    assert report.generation == 2


async def test_the_newest_of_several_starts_is_the_one_that_runs(host: Host) -> None:
    await host.launch("i-0008")
    for generation in (2, 3):
        host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0008", generation)))
    await host.start_actor("i-0008", 3)
    await host.control.until_state("i-0008", "running", 3)
    assert await asyncio.wait_for(host.actors["i-0008", 1].wait(), 60) == 0


async def test_a_full_disk_hides_no_end_and_refuses_starts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.launch("i-0009")
    guest = host.record("i-0009")["guest"]

    def full(_files: RecordFiles, _record: GuestRecord) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(RecordFiles, "save", full)
        os.kill(guest[0], signal.SIGKILL)
        report = await host.control.until_state("i-0009", "ended")
        assert (report.reason.code, report.exit_code) == ("GuestExited", 137)
        order = host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0010")))
        assert not (await host.control.result(order)).ok
        assert (await host.control.result(host.end("i-0009", delete_disk=True))).ok
    await host.launch("i-0010")


@pytest.mark.parametrize("delete_disk", [False, True])
async def test_an_end_before_the_actor_came_leaves_nothing_and_the_actor_is_dismissed(
    host: Host, delete_disk: bool
) -> None:
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0005")))
    assert (await host.control.result(host.end("i-0005", delete_disk=delete_disk))).ok
    await host.start_actor("i-0005")
    assert await asyncio.wait_for(host.actors["i-0005", 1].wait(), 60) == 0


async def test_an_actor_that_nobody_ordered_is_told_of_and_sent_away(host: Host) -> None:
    await host.start_actor("i-0011", 4)
    await host.control.until_state("i-0011", "preparing", 4)
    await host.stop_agent()
    await host.start_agent()
    told = len(host.control.guests["i-0011", 4])
    await host.control.until(lambda: len(host.control.guests["i-0011", 4]) > told)  # by hello, or by the actor's own
    assert (await host.control.result(host.end("i-0011", 4, force=True))).ok
    assert await asyncio.wait_for(host.actors["i-0011", 4].wait(), 60) == 0


async def test_an_unknown_guest_is_ended_at_once(host: Host) -> None:
    assert (await host.control.result(host.end("i-none", 3, delete_disk=True))).ok


async def test_an_actor_with_a_wrong_secret_gets_no_plan(host: Host) -> None:
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0006")))
    reader, writer = await asyncio.open_unix_connection(str(host.places.socket_dir / "agent.sock"))
    hello = {
        "op": "hello",
        "instance_id": "i-0006",
        "generation": 1,
        "secret": "x",
        "gpu_ids": [],
        "boot": 0,
        "guest": 0,
    }
    writer.write(json.dumps(hello).encode() + b"\n")
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


# ---------------------------------------------------------------- how guests end by themselves


async def test_a_guest_that_shuts_itself_down(host: Host) -> None:
    await host.launch("i-0010")
    await run(host.guest("i-0010"), "/bin/sh", "-c", "kill -TERM 1") if host.isolation.driver == "bwrap" else None
    report = await host.control.until_state("i-0010", "ended")
    assert (report.reason.code, report.exit_code) == ("Client.InstanceInitiatedShutdown", 0)
    assert await host.actors["i-0010", 1].wait() == 0


async def test_a_guest_that_is_killed_shows_its_exit_code(host: Host) -> None:
    await host.launch("i-0011")
    began = time.monotonic()
    os.kill(host.record("i-0011")["guest"][0], signal.SIGKILL)
    report = await host.control.until_state("i-0011", "ended", seconds=20.0)
    print(f"guest killed -> reported: {1000 * (time.monotonic() - began):.0f} ms")
    assert (report.reason.code, report.exit_code) == ("GuestExited", 137)


async def test_a_killed_actor_takes_its_guest_along(host: Host) -> None:
    await host.launch("i-0012")
    guest = host.record("i-0012")["guest"][0]
    began = time.monotonic()
    host.actors["i-0012", 1].kill()
    report = await host.control.until_state("i-0012", "ended")
    print(f"actor killed -> reported: {1000 * (time.monotonic() - began):.0f} ms")
    assert report.reason.code == "Server.ActorDied"
    assert identify(guest) is None


async def test_a_guest_out_of_memory_ends_alone(host: Host) -> None:
    if "memory" not in (Cgroups.detect().enforces if host.isolation.cgroup_version else ()):
        pytest.skip("memory is not limited here")
    await host.launch("i-0013", memory_mib=64)
    await host.launch("i-0014", memory_mib=64)
    with contextlib.suppress(Exception):
        await run(host.guest("i-0013"), host.isolation.python.executable, "-c", "x = bytearray(200 << 20)")
    report = await host.control.until_state("i-0013", "ended")
    assert report.reason.code == "OutOfMemory" and "64 MiB" in report.reason.message
    assert (await run(host.guest("i-0014"), "/bin/true"))[0] == 0


async def test_user_data_is_reported(host: Host) -> None:
    await host.launch("i-0015", user_data="#!/bin/sh\necho hello from user data\nexit 3\n")
    report = await host.control.until(
        lambda: (r := host.control.last("i-0015")) is not None and r.user_data_status == "failed" and r
    )
    assert report.user_data_exit == 3
    assert b"hello from user data" in host.places.console("i-0015").read_bytes()


# ---------------------------------------------------------------- reboot, options, images


async def test_a_reboot_keeps_disk_and_actor(host: Host) -> None:
    await host.launch("i-0020")
    before = host.record("i-0020")
    await run(host.guest("i-0020"), "/bin/sh", "-c", "echo kept > /root/file; echo lost > /tmp/file")
    order = host.control.send(reboot=fleet_pb2.RebootGuest(instance_id="i-0020", generation=1))
    assert (await host.control.result(order)).ok
    after = host.record("i-0020")
    assert after["boot"] == 2 and after["guest"] != before["guest"] and after["actor"] == before["actor"]
    assert after["private_ip"] == before["private_ip"]
    code, said = await run(host.guest("i-0020"), "/bin/sh", "-c", "cat /root/file")
    assert (code, said) == (0, "kept\n")
    if host.isolation.driver == "bwrap":
        assert (await run(host.guest("i-0020"), "/bin/sh", "-c", "test -e /tmp/file"))[0] == 1
    repeated = host.control.send(order, reboot=fleet_pb2.RebootGuest(instance_id="i-0020", generation=1))
    assert (await host.control.result(repeated)).ok
    assert host.record("i-0020")["boot"] == 2  # the same order id: done once


async def test_a_reboot_of_nothing_is_refused(host: Host) -> None:
    order = host.control.send(reboot=fleet_pb2.RebootGuest(instance_id="i-none", generation=1))
    result = await host.control.result(order)
    assert (result.ok, result.error.code) == (False, "InvalidInstanceID.NotFound")


async def test_new_options_are_in_the_record_at_once(host: Host) -> None:
    await host.launch("i-0021", tags={"old": "1"})
    options = instance_pb2.MetadataOptions(http_tokens="required", http_endpoint="enabled")
    order = fleet_pb2.UpdateGuest(instance_id="i-0021", metadata_options=options, tags={"new": "2"})
    assert (await host.control.result(host.control.send(update=order))).ok
    spec = host.record("i-0021")["spec"]
    assert (spec["tags"], spec["metadataOptions"]["httpTokens"]) == ({"new": "2"}, "required")


@pytest.mark.parametrize("shared", [True, False])
async def test_an_image_of_a_running_guest_boots_another(host: Host, shared: bool) -> None:
    if shared:
        await host.stop_agent()
        host.images_dir = host.folder / "images"
        await host.start_agent()
    await host.launch("i-0022")
    await run(host.guest("i-0022"), "/bin/sh", "-c", "echo from the first > /root/file; ln -s /etc/passwd /root/link")
    order = host.control.send(
        snapshot=fleet_pb2.SnapshotGuest(instance_id="i-0022", image_id="ami-00000000000000009", freeze=True)
    )
    result = await host.control.result(order)
    assert result.ok and result.size_bytes > 0
    assert (await run(host.guest("i-0022"), "/bin/true"))[0] == 0  # thawed
    spec = guest_spec("i-0023")
    spec.image_id, spec.image_builtin = "ami-00000000000000009", False
    host.control.send(start=fleet_pb2.StartGuest(spec=spec))
    await host.start_actor("i-0023")
    await host.control.until_state("i-0023", "running")
    assert await run(host.guest("i-0023"), "/bin/cat", "/root/file") == (0, "from the first\n")


async def test_a_snapshot_that_fails_thaws_the_guest(host: Host) -> None:
    await host.launch("i-0024")
    order = host.control.send(
        snapshot=fleet_pb2.SnapshotGuest(instance_id="i-0024", image_id="../../etc/passwd", freeze=True)
    )
    assert not (await host.control.result(order)).ok
    assert (await run(host.guest("i-0024"), "/bin/true"))[0] == 0


async def test_an_image_that_is_not_there_is_why_the_launch_failed(host: Host) -> None:
    spec = guest_spec("i-0025")
    spec.image_id, spec.image_builtin = "ami-00000000000000007", False
    host.control.send(start=fleet_pb2.StartGuest(spec=spec))
    await host.start_actor("i-0025")
    report = await host.control.until_state("i-0025", "ended")
    assert report.reason.code == "PrepareFailed"
    assert await asyncio.wait_for(host.actors["i-0025", 1].wait(), 60) == 0


# ---------------------------------------------------------------- agents and control planes that come and go


async def test_a_new_agent_adopts_what_goes_on_and_reports_what_ended_meanwhile(host: Host) -> None:
    await host.launch("i-0030")
    await host.launch("i-0031")
    guests = {name: host.record(name)["guest"] for name in ("i-0030", "i-0031")}
    await host.stop_agent()
    assert identify(guests["i-0030"][0]) is not None
    os.kill(guests["i-0031"][0], signal.SIGKILL)
    await host.start_agent()
    report = await host.control.until_state("i-0031", "ended")
    assert (report.reason.code, report.exit_code) == ("GuestExited", 137)
    assert host.record("i-0030")["guest"] == guests["i-0030"]
    assert (await run(host.guest("i-0030"), "/bin/true"))[0] == 0
    assert (await host.control.result(host.end("i-0030"))).ok
    assert identify(guests["i-0030"][0]) is None
    assert await host.actors["i-0030", 1].wait() == 0


async def test_a_guest_whose_actor_died_without_an_agent_is_buried_by_the_next(host: Host) -> None:
    await host.launch("i-0032")
    await host.stop_agent()
    host.actors["i-0032", 1].kill()
    await host.actors["i-0032", 1].wait()
    await host.start_agent()
    report = await host.control.until_state("i-0032", "ended")
    assert report.reason.code == "Server.ActorDied"
    assert host.groups == []


async def test_leftovers_of_guests_that_nobody_knows_are_removed(host: Host) -> None:
    await host.launch("i-0033")
    await host.stop_agent()
    (host.places.host_dir / "guests" / "i-0033.json").unlink()
    await host.start_agent()
    assert await asyncio.wait_for(host.actors["i-0033", 1].wait(), 60) == 0
    assert not host.places.control("i-0033").exists()
    assert host.places.root("i-0033").exists()  # a disk is deleted by order only
    assert host.groups == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("credits", {"earned": 1.0}), ("spec", {"shape": 3}), ("generation", 1 << 40), ("boot", None), (None, [])],
)
async def test_a_damaged_record_costs_its_own_guest_alone_and_is_its_reason(
    host: Host, field: str | None, value: Any
) -> None:
    for name in ("i-0036", "i-0037"):
        await host.launch(name)
    (whole, damaged), pid = (host.record(name) for name in ("i-0036", "i-0037")), host.record("i-0037")["guest"][0]
    await host.stop_agent()
    file = host.places.host_dir / "guests" / "i-0037.json"
    file.write_text(json.dumps({**damaged, field: value} if field else value))
    await host.start_agent()
    generation = 1 if field in ("credits", "spec", "boot") else 0
    report = await host.control.until_state("i-0037", "ended", generation)
    assert report.reason.code == "Server.GuestLost" and "i-0037.broken" in report.reason.message
    assert field is None or f"{field}" in report.reason.message.lower()
    assert await asyncio.wait_for(host.actors["i-0037", 1].wait(), 60) is not None
    await gone(pid)
    assert host.record("i-0036")["guest"] == whole["guest"]
    assert host.groups in ([], [whole["group"] or "i-0036"])
    assert (await run(host.guest("i-0036"), "/bin/true"))[0] == 0
    assert file.with_suffix(".broken").exists() and host.record("i-0037")["phase"] == "ended"
    assert (await host.launch("i-0037", 2)).generation == 2


async def test_ended_guests_are_told_until_they_are_forgotten(host: Host) -> None:
    await host.launch("i-0034")
    assert (await host.control.result(host.end("i-0034"))).ok
    await host.stop_agent()
    await host.start_agent()
    await host.control.until(lambda: len(host.control.hellos) == 2)
    assert [guest.state for guest in host.control.hellos[-1].guests] == ["ended"]
    forget = host.control.send(forget=fleet_pb2.ForgetGuest(instance_id="i-0034", generation=1))
    assert (await host.control.result(forget)).ok
    await host.stop_agent()
    await host.start_agent()
    await host.control.until(lambda: len(host.control.hellos) == 3)
    assert list(host.control.hellos[-1].guests) == []


async def test_guests_do_not_notice_a_restarted_control_plane_and_a_fenced_one_is_not_heard(host: Host) -> None:
    await host.launch("i-0035")
    guest = host.record("i-0035")["guest"]
    await host.control.stop()
    host.control.epoch = 5
    await host.control.start()
    await host.control.until(lambda: len(host.control.hellos) >= 2)
    assert [report.state for report in host.control.hellos[-1].guests] == ["running"]
    known = host.control.send(forget=fleet_pb2.ForgetGuest(instance_id="i-nobody", generation=1))
    await host.control.result(known)  # an order is heard after the welcome: the agent has seen epoch 5
    await host.control.stop()
    host.control.epoch = 4
    order = host.end("i-0035", force=True)
    heard = len(host.control.hellos)
    await host.control.start()
    await host.control.until(lambda: len(host.control.hellos) >= heard + 2)  # it hung up and tried again
    assert order not in host.control.results and identify(guest[0]) is not None
    host.control.epoch = 6
    heard = len(host.control.hellos)
    await host.control.until(lambda: len(host.control.hellos) > heard)
    assert (await host.control.result(host.end("i-0035", force=True))).ok


async def test_a_fence_ends_every_guest_and_the_agent(host: Host) -> None:
    await host.launch("i-0036")
    guest = host.record("i-0036")["guest"]
    host.control.send(fence=fleet_pb2.Fence(reason="given up"))
    assert host._task is not None
    assert await asyncio.wait_for(host._task, 60) == "fenced"
    assert identify(guest[0]) is None and await host.actors["i-0036", 1].wait() == 0
    assert host.places.root("i-0036").exists()
    for part in host._parts:
        part.close()


# ---------------------------------------------------------------- samples, and hosts without privilege


async def test_samples_say_what_a_guest_uses(host: Host) -> None:
    await host.launch("i-0040")
    busy = asyncio.ensure_future(run(host.guest("i-0040"), host.isolation.python.executable, "-c", "while True: pass"))

    def seen() -> Any:
        samples = [s for beat in host.control.beats for s in beat.samples if s.instance_id == "i-0040"]
        return next((s for s in samples if s.cpu_percent > 5 and s.memory_bytes > 0 and s.answers), None)

    sample = await host.control.until(seen)
    assert sample.generation == 1
    busy.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await busy


async def test_a_guest_that_hangs_does_not_answer_and_is_left_alone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "PING_EVERY", 1)
    monkeypatch.setattr(sampler, "PING_S_MAX", 0.5)
    await host.launch("i-0041")
    guest = psutil.Process(host.record("i-0041")["guest"][0])
    processes = [guest, *guest.children(recursive=True)]

    async def until_it(answers: bool) -> None:
        host.control.beats.clear()
        await host.control.until(
            lambda: [one for beat in host.control.beats for one in beat.samples if one.answers is answers]
        )

    await until_it(answers=True)
    for one in processes:
        one.suspend()
    await until_it(answers=False)
    for one in processes:
        one.resume()
    await until_it(answers=True)
    assert host.record("i-0041")["guest"][0] == guest.pid


async def test_without_any_privilege_guests_are_plain_processes_and_memory_is_watched(
    folder: Path, isolation: probing.HostIsolation
) -> None:
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    plain = dataclasses.replace(isolation, driver="process", network="loopback", cgroup_version=0)
    host = Host(folder, control, plain)
    await host.start_agent()
    try:
        report = await host.launch("i-0050", memory_mib=48)
        assert report.private_ip.startswith("127.") and report.isolation.cgroup == "none"
        code = "import time\nparts=[bytearray(20 << 20) for _ in range(1)]\ntime.sleep(60)"
        eaters = [
            asyncio.ensure_future(run(host.guest("i-0050"), host.isolation.python.executable, "-c", code))
            for _ in range(3)
        ]
        ended = await control.until_state("i-0050", "ended")
        assert ended.reason.code == "OutOfMemory"
        await asyncio.gather(*eaters, return_exceptions=True)
    finally:
        await host.close()
        await control.stop()
