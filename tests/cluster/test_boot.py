"""Bringing a cloud up and down, and the death of its processes: real Ray, real HAProxy, stand-in control plane.

Two clouds run side by side for the whole module; whatever is done to the first, the second must not notice.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from minicloud.cli.lifecycle.daemon import Daemon, read_state
from minicloud.cluster.processes import marked
from minicloud.flags import UpFlags, resolve
from minicloud.settings import SHARD_KINDS, CloudSettings, EntryPoints
from tests.machine_time import Limit
from tests.stand_in import __name__ as STAND_IN

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
HOST_RESTART_AFTER_S = 4.0  # longer than a dead raylet takes to be noticed


@dataclass
class Cloud:
    """One running cloud and what its supervisor said."""

    settings: CloudSettings
    daemon: Daemon
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.settings.data_path

    def follow(self) -> None:
        threading.Thread(target=lambda: self.events.extend(self.daemon.events()), daemon=True).start()

    def get(self, path: str = "/_minicloud/health", **headers: str) -> tuple[int, Any]:
        state = read_state(self.data)
        assert state is not None
        connection = HTTPConnection("127.0.0.1", state.settings.http_port, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            text = reply.read()
            return reply.status, json.loads(text) if text.startswith(b"{") else text
        finally:
            connection.close()

    def pid(self, role: str) -> int:
        state = read_state(self.data)
        assert state is not None
        return next(record.pid for record in state.processes if record.role == role)

    def control_plane(self) -> int | None:
        """Its pid, when it answers."""
        status, body = self.get()
        return int(body["pid"]) if status == 200 else None

    def lives(self, host: str) -> list[tuple[int, str]]:
        """(pid, Ray node) of each agent that this host had."""
        lines = (self.settings.log_path / f"{host}.lives").read_text().splitlines()
        return [(int(line.split()[0]), line.split()[1]) for line in lines]


def until(what: Callable[[], Any], seconds: float, story: str) -> tuple[Any, float]:
    """The first true answer, and how long it took. seconds: what a quiet machine needs at most."""
    began, limit = time.monotonic(), Limit(seconds)
    while not (answer := what()):
        assert not limit.is_over(), f"after {seconds} s: not {story}"
        time.sleep(0.05)
    return answer, time.monotonic() - began


def start(data: Path, hosts: int | None, address: str | None = None) -> Cloud:
    settings = resolve(UpFlags(data_dir=str(data), hosts=hosts, grpc_port=0, http_port=0, address=address))
    entry_points = EntryPoints(
        control_plane=f"{STAND_IN}:run_control_plane",
        host_agent=f"{STAND_IN}:run_host_agent",
        **{kind.name.replace("-", "_"): f"{STAND_IN}:run_shard" for kind in SHARD_KINDS},
    )
    settings = replace(settings, entry_points=entry_points, host_restart_after_s=HOST_RESTART_AFTER_S)
    cloud = Cloud(settings, Daemon(settings, lifeline=True))
    began = time.monotonic()
    for event in cloud.daemon.events():
        assert event["event"] != "failed", event
        if event["event"] == "ready":
            break
    print(f"up with {hosts} hosts: {time.monotonic() - began:.1f} s")
    cloud.follow()
    return cloud


def end(cloud: Cloud) -> int:
    cloud.daemon.ask_to_end()
    return cloud.daemon.wait()


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minicloud.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def left_of(cloud: Cloud) -> list[str]:
    """Command lines that are still about this cloud, by mark or by data directory."""
    by_mark = [str(record.pid) for record in marked(cloud.settings)]
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(cloud.data) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return by_mark + found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mcb-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def other(folder: Path) -> Iterator[Cloud]:
    made = start(folder / "other", 1)
    pids = {role: made.pid(role) for role in ("gcs", "raylet:host-a", "front-door")}
    control_plane = made.control_plane()
    yield made
    assert control_plane == made.control_plane(), "the cloud beside did not notice anything"
    assert pids == {role: made.pid(role) for role in pids}
    assert end(made) == 0
    assert left_of(made) == []


@pytest.fixture(scope="module")
def cloud(folder: Path, other: Cloud) -> Iterator[Cloud]:
    made = start(folder / "cloud", 2)
    yield made
    assert end(made) == 0
    assert left_of(made) == []
    assert not made.settings.run_path.exists()
    assert (made.data / "was-asked").exists(), "the control plane was asked to stop its guests"


def test_two_clouds_answer_each_at_its_own_door(cloud: Cloud, other: Cloud) -> None:
    assert cloud.control_plane() != other.control_plane()
    assert cloud.settings.cloud_id != other.settings.cloud_id
    assert [event["event"] for event in cloud.events if event["event"] == "died"] == []


def test_everything_listens_on_loopback_only(cloud: Cloud) -> None:
    pids = {record.pid for record in marked(cloud.settings)}
    ports = [
        tuple(connection.laddr)
        for connection in psutil.net_connections("tcp")
        if connection.pid in pids and connection.status == psutil.CONN_LISTEN
    ]
    assert len(ports) >= 8  # gcs, two raylets with two each, three actors, front door
    assert {address[0] for address in ports} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_the_token_stays_in_the_cloud(cloud: Cloud) -> None:
    token = cloud.settings.socket_path / "ray" / "token"
    assert token.stat().st_mode & 0o077 == 0
    for record in marked(cloud.settings):
        command = Path(f"/proc/{record.pid}/cmdline").read_bytes()
        assert token.read_bytes() not in command


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_front_door_knows_whom_to_let_in(cloud: Cloud, headers: dict[str, str], status: int) -> None:
    assert cloud.get(**headers)[0] == status


def test_internal_paths_are_not_for_outside(cloud: Cloud) -> None:
    assert cloud.get("/_minicloud/internal/shutdown")[0] == 404


def test_slow_heads_are_cut(cloud: Cloud) -> None:
    state = read_state(cloud.data)
    assert state is not None
    began = time.monotonic()
    doors = (state.settings.http_port, state.settings.grpc_port)
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for port in doors]
    slow[0].sendall(b"GET / HTTP/1.1\r\nHost: lo")
    for connection in slow:
        with connection:
            while connection.recv(4096):
                pass
    assert 9 < time.monotonic() - began < 30


def test_status_tells_what_runs(cloud: Cloud) -> None:
    reply = cli("status", "--data-dir", str(cloud.data), "--output", "json")
    report = json.loads(reply.stdout)
    assert reply.returncode == 0
    assert (report["phase"], report["healthy"]) == ("ready", True)
    assert [host["name"] for host in report["hosts"]] == ["host-a", "host-b"]
    assert report["function_hosts"] == []  # a stand-in has none
    table = cli("status", "--data-dir", str(cloud.data)).stdout
    assert "FUNCTION HOST" in table and "WARM" in table
    assert {"supervisor", "gcs", "front-door"} <= {process["role"] for process in report["processes"]}


def test_second_up_on_the_same_data_is_refused(cloud: Cloud) -> None:
    reply = cli("up", "--data-dir", str(cloud.data), "--grpc-port", "0", "--http-port", "0", "--detach")
    assert reply.returncode == 1
    assert "already up" in reply.stderr


def test_taken_port_is_named(cloud: Cloud, folder: Path) -> None:
    port = str(read_state(cloud.data).settings.http_port)  # type: ignore[union-attr]
    reply = cli("up", "--data-dir", str(folder / "third"), "--grpc-port", "0", "--http-port", port, "--detach")
    assert reply.returncode == 1
    assert port in reply.stderr and "--http-port" in reply.stderr
    assert not (folder / "third" / "run").exists()


def test_binding_beyond_loopback_needs_auth_and_tls(folder: Path) -> None:
    reply = cli("up", "--data-dir", str(folder / "open"), "--bind", "0.0.0.0", "--no-auth")
    assert reply.returncode == 2
    assert "authentication" in reply.stderr
    assert not (folder / "open").exists()


def test_killed_control_plane_comes_back(cloud: Cloud) -> None:
    before = cloud.control_plane()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    _, took = until(lambda: cloud.control_plane() not in (None, before), 10, "back")
    print(f"control plane back after {took:.1f} s")


def test_killed_front_door_opens_again(cloud: Cloud) -> None:
    before = cloud.pid("front-door")
    os.kill(before, signal.SIGKILL)

    def opened() -> bool:
        try:
            return cloud.pid("front-door") != before and cloud.get()[0] == 200
        except (OSError, StopIteration):
            return False

    _, took = until(opened, 5, "open")
    print(f"front door open after {took:.1f} s")


def test_killed_gcs_goes_on_where_it_was(cloud: Cloud) -> None:
    before, agents = cloud.control_plane(), [cloud.lives(host) for host in ("host-a", "host-b")]
    os.kill(cloud.pid("gcs"), signal.SIGKILL)
    _, took = until(lambda: restarts(cloud, "gcs"), 10, "gcs back")
    print(f"GCS back after {took:.1f} s")
    assert cloud.control_plane() == before, "actors do not notice"
    os.kill(cloud.lives("host-b")[-1][0], signal.SIGKILL)
    until(lambda: len(cloud.lives("host-b")) > len(agents[1]), 10, "agent restarted by the cluster that came back")
    assert cloud.lives("host-a") == agents[0]


def test_killed_raylet_is_noticed_and_replaced(cloud: Cloud) -> None:
    seen = len(cloud.get()[1]["alive"])
    node = cloud.lives("host-b")[-1][1]
    os.kill(cloud.pid("raylet:host-b"), signal.SIGKILL)

    def noticed() -> bool:
        return any(hosts == ["host-a"] for _, hosts in cloud.get()[1]["alive"][seen:])

    _, took = until(noticed, 5, "noticed by the control plane")
    print(f"dead raylet noticed after {took:.1f} s")
    until(lambda: cloud.lives("host-b")[-1][1] != node, 15, "agent on the new node")
    until(lambda: cloud.get()[1]["alive"][-1][1] == ["host-a", "host-b"], 5, "both hosts alive")


def test_killed_head_raylet_brings_control_plane_back(cloud: Cloud) -> None:
    before = cloud.control_plane()
    os.kill(cloud.pid("raylet:host-a"), signal.SIGKILL)
    _, took = until(lambda: cloud.control_plane() not in (None, before), 15, "back on the new head")
    print(f"control plane back after {took:.1f} s on a new head")
    until(lambda: len({node for _, node in cloud.lives("host-a")}) == 2, 10, "agent of the head too")


def test_frozen_head_raylet_is_killed_and_replaced(cloud: Cloud) -> None:
    """Ray gives a stopped node up and starts the control plane nowhere else: it is pinned to the head."""
    before, frozen = cloud.control_plane(), cloud.pid("raylet:host-a")
    os.kill(frozen, signal.SIGSTOP)
    _, took = until(lambda: cloud.control_plane() not in (None, before), 20, "back on a head that lives")
    print(f"control plane back {took:.1f} s after its raylet froze")
    until(lambda: not psutil.pid_exists(frozen), 5, "the frozen one killed")


def restarts(cloud: Cloud, role: str) -> int:
    return sum(event["event"] == "restarted" and event["role"] == role for event in cloud.events)


def test_gcs_that_cannot_live_is_started_anew_with_everything(cloud: Cloud) -> None:
    before = cloud.control_plane()

    def given_up() -> bool:
        return any(event["event"] == "rebooting" for event in cloud.events)

    for _ in range(6):
        if given_up():
            break
        count, pid = restarts(cloud, "gcs"), cloud.pid("gcs")
        os.kill(pid, signal.SIGKILL)
        until(lambda count=count: given_up() or restarts(cloud, "gcs") > count, 10, "gcs back")  # type: ignore[misc]
    until(lambda: restarts(cloud, "ray"), 40, "all of Ray started anew")
    assert cloud.control_plane() not in (None, before)


def test_supervisor_killed_then_down_leaves_nothing(folder: Path) -> None:
    made = start(folder / "orphaned", 1)
    os.kill(made.pid("supervisor"), signal.SIGKILL)
    made.daemon.wait()
    assert made.control_plane() is not None, "the cloud goes on without its supervisor"
    assert cli("status", "--data-dir", str(made.data)).returncode == 1
    reply = cli("down", "--data-dir", str(made.data), "--output", "json")
    assert (reply.returncode, json.loads(reply.stdout)["was_up"]) == (0, True), reply.stderr
    assert left_of(made) == []
    assert not made.settings.run_path.exists()
    assert (made.data / "was-asked").exists()
    again = cli("down", "--data-dir", str(made.data), "--output", "json")
    assert (again.returncode, json.loads(again.stdout)["was_up"]) == (0, False)


def test_up_after_a_crash_cleans_and_finds_the_same_cloud(folder: Path) -> None:
    crashed = start(folder / "crashed", 1)
    old = {record.pid for record in marked(crashed.settings)}
    os.kill(crashed.pid("supervisor"), signal.SIGKILL)
    crashed.daemon.wait()
    again = start(folder / "crashed", 1)
    assert again.settings.cloud_id == crashed.settings.cloud_id
    assert not old & {record.pid for record in marked(again.settings)}
    assert end(again) == 0
    assert left_of(again) == []


@pytest.fixture
def foreign_ray(folder: Path) -> Iterator[str]:
    """The address of a Ray cluster that is not ours."""
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(folder / "r"), "PYTHONPATH": str(root)}
    command = [sys.executable, str(Path(__file__).with_name("foreign_ray.py"))]
    with open(folder / "foreign.log", "w") as log:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdin is not None and process.stdout is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(120)


def test_a_joined_cluster_is_used_and_left_as_it_was(
    folder: Path, foreign_ray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = start(folder / "joined", None, foreign_ray)
    state = read_state(made.data)
    assert state is not None
    (host,) = state.settings.hosts
    assert (host.cores, host.memory_mib) == (1.0, 1024)
    assert not [record for record in state.processes if record.role.startswith(("gcs", "raylet"))]
    until((made.settings.log_path / f"{host.name}.lives").exists, 10, "agent runs")
    pids = [made.control_plane(), made.lives(host.name)[0][0]]
    assert end(made) == 0
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids if pid), 5, "actors ended")
    with socket.create_connection((foreign_ray.split(":")[0], int(foreign_ray.split(":")[1])), timeout=5):
        pass  # the cluster itself goes on


def test_cloud_ends_with_the_terminal_that_it_was_started_in(folder: Path) -> None:
    made = start(folder / "lifeline", 1)
    assert made.daemon._process.stdin is not None
    made.daemon._process.stdin.close()
    assert made.daemon.wait() == 0
    assert left_of(made) == []
