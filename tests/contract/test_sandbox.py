"""Real guests in the bwrap and process drivers: what they cannot do, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.sandbox import disk
from minicloud.sandbox.cgroup import CpuMemoryLimits
from minicloud.sandbox.plan import LaunchPlan, SandboxSpec
from minicloud.sandbox.probe import HostIsolation
from minicloud.sandbox.spawn import SETUP_FAILED, spawn
from tests.contract.sandbox_bench import LIMITS, Bench, bench, isolation_or_skip

pytestmark = pytest.mark.root

HERE = Path(__file__).parent
ESCAPES = HERE / "sandbox_escapes.py"
SLEEP = ("/bin/sleep", "60")
READY_THEN_SLEEP = "echo > /run/minicloud/ready; sleep 60"


@pytest.fixture(scope="module")
def isolation() -> HostIsolation:
    return isolation_or_skip()


@pytest.fixture
def guests(isolation: HostIsolation, tmp_path: Path) -> Iterator[Bench]:
    with bench(isolation, tmp_path / "guests") as made:
        yield made


# ------------------------------------------------------------ the escape list

CHECKS = [
    *("host_file", "host_shadow", "sysfs", "cgroupfs", "usr_write", "kernel_switch", "proc_writable", "kernel_log"),
    *("ptrace", "process_vm_readv", "bpf", "io_uring", "perf", "userfaultfd", "keyctl", "module", "kexec", "reboot"),
    *("unshare_user", "unshare_net", "setns", "clone_user", "clone3", "mount", "umount", "new_mount_api", "pivot_root"),
    *("mknod", "chroot", "hostname", "clock", "handle", "quota", "swap", "raw_socket", "vsock", "crypto", "packet"),
    *("tty_injection", "host_process", "pids_seen", "capabilities", "no_new_privileges", "inherited_files", "host_env"),
]


@pytest.fixture(scope="module")
def escapes(isolation: HostIsolation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One guest tries them all: {check: "denied: how" | "ALLOWED: what"}."""
    directory = tmp_path_factory.mktemp("escapes")
    secret = directory / "secret"
    secret.write_text("of the host")
    os.environ["MINICLOUD_TEST_SECRET"] = "of the host"
    sleeper = subprocess.Popen(SLEEP)
    try:
        with bench(isolation, directory / "guests") as guests:
            guests.start(guests.spec("neighbour", *SLEEP))
            status, said = guests.run(guests.python("i-1", ESCAPES.read_text(), str(secret), str(sleeper.pid)))
            lines = said.strip().splitlines()
            assert status == 0, (status, said)
            yield json.loads(lines[-1])
    finally:
        sleeper.kill()
        sleeper.wait()
        del os.environ["MINICLOUD_TEST_SECRET"]


@pytest.mark.parametrize("check", CHECKS)
def test_escape_is_denied(escapes: dict[str, str], check: str) -> None:
    assert escapes[check].startswith("denied"), escapes[check]


def test_every_escape_is_listed(escapes: dict[str, str]) -> None:
    assert sorted(escapes) == sorted(CHECKS)


def test_device_nodes_are_the_guests_own(guests: Bench) -> None:
    if not guests.isolation.own_devices.works:
        pytest.skip(guests.isolation.own_devices.text)
    status, said = guests.run(guests.spec("i-1", "/bin/sh", "-c", "chmod 000 /dev/null && echo done"))
    assert (status, said) == (0, "done\n")
    assert stat.S_IMODE(os.stat("/dev/null").st_mode) == 0o666


def test_memory_file_systems_are_limited(guests: Bench) -> None:
    code = (
        "import sys\n"
        "with open(sys.argv[1] + '/x', 'wb', buffering=0) as f:\n"
        "  try:\n"
        "    for _ in range(64): f.write(bytes(1 << 20))\n"
        "  except OSError as e: print(e.errno)"
    )
    for directory in ("/tmp", "/dev/shm"):
        name = "i" + directory.replace("/", "-")
        assert guests.run(guests.python(name, code, directory)) == (0, "28\n"), directory  # ENOSPC


# ------------------------------------------------------------ an ordinary guest


def test_a_guest_has_a_root_of_its_own_that_lasts(guests: Bench) -> None:
    script = 'cat /etc/hostname /root/kept 2>/dev/null; echo "$WHO" > /root/kept; hostname; echo $$; id -u'
    spec = guests.spec("ip-10-64-0-9", "/bin/sh", "-c", script, env={"WHO": "a 'quoted' $name"})
    assert guests.run(spec) == (0, "ip-10-64-0-9\nip-10-64-0-9\n1\n0\n")
    spec.console.unlink()
    assert guests.run(spec) == (0, "ip-10-64-0-9\na 'quoted' $name\nip-10-64-0-9\n1\n0\n")


def test_the_interpreter_and_the_workers_are_there(guests: Bench) -> None:
    from minicloud.sandbox import bwrap

    where = bwrap.layout(guests.isolation.python)
    argv = where.python_module("minicloud_workers")
    code = argv[4].replace(
        "runpy.run_module('minicloud_workers',run_name='__main__')", "import minicloud_workers,ssl;print(1)"
    )
    assert guests.run(guests.spec("i-1", *argv[:4], code)) == (0, "1\n")


def test_the_exit_status_is_the_guests(guests: Bench) -> None:
    assert guests.run(guests.spec("i-1", "/bin/sh", "-c", "exit 7"))[0] == 7


def test_secrets_do_not_show_in_the_process_list(guests: Bench) -> None:
    ready = guests.fifo("i-1")
    guest = guests.start(guests.spec("i-1", "/bin/sh", "-c", READY_THEN_SLEEP, env={"TOKEN": "hunter2"}))
    ready.read_text()
    line = Path(f"/proc/{guest.pid}/cmdline").read_bytes()
    assert b"sleep" in line
    assert b"hunter2" not in line
    assert b"hunter2" not in Path(f"/proc/{guest.pid}/environ").read_bytes()


def test_a_plan_survives_json(guests: Bench) -> None:
    plan = guests.plan(guests.spec("i-1", "/bin/true"))
    assert LaunchPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_control_group_that_is_gone_fails_the_start_and_says_so(guests: Bench) -> None:
    spec = guests.spec("i-1", "/bin/true", cgroup_files=("/sys/fs/cgroup/nowhere/tasks",))
    status, said = guests.run(spec)
    assert status == SETUP_FAILED
    assert "/sys/fs/cgroup/nowhere/tasks" in said


def test_a_program_that_is_not_there_fails_the_start_and_says_so(guests: Bench) -> None:
    status, said = guests.run(guests.spec("i-1", "/no/such/program"))
    assert status == 1
    assert "/no/such/program" in said


def test_a_console_that_is_a_link_is_refused(guests: Bench, tmp_path: Path) -> None:
    spec = guests.spec("i-1", "/bin/true")
    spec.console.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels"):
        spawn(guests.plan(spec).to_json())
    assert not (tmp_path / "elsewhere").exists()


# ------------------------------------------------------------ limits


def test_memory_kills_the_offender_alone(guests: Bench) -> None:
    ready = guests.fifo("neighbour")
    neighbour = guests.start(guests.spec("neighbour", "/bin/sh", "-c", READY_THEN_SLEEP))
    ready.read_text()
    spec = guests.python("offender", "x = bytearray(256 << 20)", limits=replace(LIMITS, memory_mib=64))
    group = guests.group("offender")
    events = group.oom_events()
    try:
        offender = guests.start(spec)
        assert select.select([events], [], [], 20)[0], "nobody was told of the memory limit"
    finally:
        os.close(events)
    assert offender.wait(20) != 0
    assert group.usage().oom_kills >= 1
    assert guests.group("neighbour").usage().oom_kills == 0
    with pytest.raises(TimeoutError):
        neighbour.wait(0)


def test_cpu_quota_holds_and_can_be_lowered(guests: Bench) -> None:
    code = (  # burns for so many seconds, and says what it got in them
        "import sys, time\nbegan, had = time.monotonic(), time.process_time()\n"
        "while time.monotonic() - began < float(sys.argv[1]): pass\n"
        "print((time.process_time() - had) / (time.monotonic() - began))"
    )
    spec = guests.python("i-1", code, "2.0", limits=replace(LIMITS, vcpus=0.3))
    assert 0 < share(guests, spec) < 0.4
    guests.group("i-1").throttle(0.1)
    assert 0 < share(guests, spec) < 0.2
    assert guests.group("i-1").usage().throttled_s > 0.1


def share(guests: Bench, spec: SandboxSpec) -> float:
    status, said = guests.run(spec)
    assert status == 0, said
    return float(said.splitlines()[-1])


def test_more_vcpus_than_the_machine_has_are_accepted(guests: Bench) -> None:
    assert guests.run(guests.spec("i-1", "/bin/true", limits=replace(LIMITS, vcpus=512)))[0] == 0


def test_processes_are_limited(guests: Bench) -> None:
    code = (
        "import os,time\nn=0\ntry:\n"
        "  while True:\n    if os.fork()==0: time.sleep(60)\n    n+=1\n"
        "except OSError as e: print(e.errno, n)"
    )
    status, said = guests.run(guests.python("i-1", code, limits=replace(LIMITS, pids=20)))
    errno_, count = map(int, said.split())
    assert (status, errno_) == (0, 11)  # EAGAIN
    assert 10 <= count < 20


def test_a_frozen_guest_stands_still(guests: Bench) -> None:
    ready = guests.fifo("i-1")
    guest = guests.start(guests.spec("i-1", "/bin/sh", "-c", "echo > /run/minicloud/ready; while :; do :; done"))
    ready.read_text()
    group = guests.group("i-1")
    group.freeze()
    before = group.usage().cpu_s
    with pytest.raises(TimeoutError):
        guest.wait(0.2)
    assert group.usage().cpu_s == before
    group.thaw()
    with pytest.raises(TimeoutError):
        guest.wait(0.2)
    assert group.usage().cpu_s > before


def test_a_fork_bomb_ends_and_its_group_goes(guests: Bench) -> None:
    ready = guests.fifo("bomb")
    code = "import os\nopen('/run/minicloud/ready','w').close()\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    guest = guests.start(guests.python("bomb", code, limits=replace(LIMITS, pids=40, vcpus=0.5)))
    ready.read_text()
    group = guests.group("bomb")
    group.kill()
    assert guest.wait(10) != 0
    assert group.pids() == []
    group.destroy()
    group.destroy()
    assert guests.groups.existing(f"{guests.prefix}/h") == []


def test_limits_of_a_guest_that_an_agent_before_us_started_are_adopted(guests: Bench) -> None:
    ready = guests.fifo("i-1")
    code = "import time\nopen('/run/minicloud/ready','w').close()\ntime.sleep(60)"
    guests.start(guests.python("i-1", code))
    ready.read_text()
    assert guests.groups.existing(guests.prefix) == [f"{guests.prefix}/h/i-1"]
    adopted = guests.groups.open(f"{guests.prefix}/h/i-1")
    adopted.limit(CpuMemoryLimits(vcpus=0.5, memory_mib=96, pids=10))
    assert adopted.pids()
    adopted.kill()
    assert guests.guests["i-1"].wait(10) != 0


# ------------------------------------------------------------ the end


@pytest.mark.parametrize("driver", ["bwrap", "process"])
def test_a_guest_ends_with_the_process_that_started_it(guests: Bench, driver: str) -> None:
    ready = guests.fifo("i-1")
    inner = ready if driver == "process" else Path("/run/minicloud/ready")
    escapee = f"setsid sleep 60 & echo > {inner}; sleep 60"
    plan = guests.plan(guests.spec("i-1", "/bin/sh", "-c", escapee), driver)
    code = (
        "import json,sys\nfrom minicloud.sandbox.spawn import spawn\nspawn(json.loads(sys.argv[1]))\nsys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(plan.to_json())], stdin=subprocess.PIPE)
    ready.read_text()
    group = guests.group("i-1")
    inside = [os.pidfd_open(pid) for pid in group.pids()]
    assert len(inside) >= 2  # the shell and the escapee at least
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    if driver == "process":
        group.kill()  # what has left the session is the control group's to end
    for fd in inside:
        assert select.select([fd], [], [], 5)[0], "a process of the guest lives on"
        os.close(fd)
    assert parent.stdin is not None
    parent.stdin.close()


# ------------------------------------------------------------ the driver without isolation


def test_process_driver_has_a_home_and_limits(guests: Bench) -> None:
    script = 'echo "$HOME"; pwd; ulimit -c; id -u; cat /proc/self/cgroup | grep -c i-1'
    spec = guests.spec("i-1", "/bin/sh", "-c", script)
    status, said = guests.run(spec, "process")
    home, here, core, user, groups = said.split()
    assert status == 0
    assert home == str(spec.disk_root / "root")
    assert here == str(spec.disk_root)
    assert (core, user) == ("0", str(os.geteuid()))
    assert int(groups) >= 1


def test_process_driver_without_control_groups_limits_memory_of_each_process(guests: Bench) -> None:
    spec = guests.python("i-1", "bytearray(512 << 20)", cgroup_files=())
    status, said = guests.run(spec, "process")
    assert status == 1
    assert "MemoryError" in said


def test_names_of_the_cloud_lead_where_this_host_says_at_every_boot(guests: Bench, tmp_path: Path) -> None:
    spec = guests.spec("names", "/bin/true")
    hosts = spec.disk_root / "etc" / "hosts"

    def boot(gateway: str) -> None:
        names = {"minicloud.internal": gateway}
        disk.prepare(spec, guests.isolation.python, "10.0.0.9", names=names)

    boot("10.0.0.1")
    assert hosts.read_text().splitlines()[-2:] == [f"10.0.0.9 {spec.hostname}", "10.0.0.1 minicloud.internal"]
    hosts.write_text(hosts.read_text() + "10.0.0.4 db # mine")
    boot("10.64.0.1")
    assert hosts.read_text().splitlines()[1:] == [
        f"10.0.0.9 {spec.hostname}",
        "10.0.0.4 db # mine",
        "10.64.0.1 minicloud.internal",
    ]
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    hosts.unlink()
    hosts.symlink_to(outside)
    boot("10.64.0.1")
    assert outside.read_text() == "untouched"
