"""Functions on two hosts of a real cloud: bursts on both, one drained, a function host and an agent killed at work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.errors import CloudError, Unavailable
from minicloud.client import AsyncClient, Client
from tests.doors.test_functions import children, package
from tests.machine_time import within
from tests.real_cloud import RealCloud, ends, kill, real_cloud, until

pytestmark = [pytest.mark.timeout(480), pytest.mark.ray]

CODE = """
import subprocess
def handler(event, context):
    subprocess.run(["sleep", str(event)])
    return event
"""
NEAR, FAR = "host-a", "host-b"
PER = 2  # processes of one environment: its first, and the runtime


@pytest.fixture(scope="module")
def cloud() -> Iterator[RealCloud]:
    with real_cloud("--hosts", "2", "--overcommit-memory", "2") as made:
        yield made


@pytest.fixture(scope="module")
def client(cloud: RealCloud) -> Iterator[Client]:
    with cloud.client() as made:
        yield made


@pytest.fixture
def function(cloud: RealCloud, client: Client) -> Iterator[str]:
    name = f"f{time.monotonic_ns():x}"
    client.functions.create(name, package(CODE), runtime="python3.11", handler="app.handler", timeout_s=60)
    until(lambda: attached(cloud), 30)
    yield name
    client.functions.delete(name)
    for host in (NEAR, FAR):
        client.hosts.uncordon(host)


def function_hosts(cloud: RealCloud) -> list[int]:
    return [pid for pid, line in cloud._processes() if "minicloud.cloud_function_host" in line]


def attached(cloud: RealCloud) -> bool:
    """The host's process has a zygote, and the functions process has heard of it."""
    (log,) = (cloud.data / "log").glob("functions-0.log")
    said = [line for line in log.read_text().splitlines() if f"function host {FAR}" in line]
    return bool(said) and "gone" not in said[-1] and len(function_hosts(cloud)) == 1


def environments(pid: int) -> list[int]:
    """Of one function host: processes in network namespaces that are not its own, below it."""
    own = namespace(pid)
    return [one for one in children(pid) if namespace(one) not in ("", own)]


def at_work(pid: int, seconds: float) -> int:
    """How many handlers of one function host have begun to sleep for so long."""
    command = f"sleep\0{seconds}\0".encode()
    return sum(command_of(one) == command for one in children(pid))


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def at_once(cloud: RealCloud, function: str, count: int, seconds: float) -> list[Any]:
    """So many invocations together: what each returned or raised."""

    async def run() -> list[Any]:
        async with AsyncClient(cloud.endpoint) as client:
            calls = (client.functions.invoke(function, seconds) for _ in range(count))
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(run())


def test_a_burst_is_spread_over_both_hosts_and_a_drained_one_gets_nothing_new(
    cloud: RealCloud, client: Client, function: str
) -> None:
    (functions,), (far,) = cloud.actor_pids("Functions"), function_hosts(cloud)
    assert client.functions.invoke(function, 0).json() == 0  # where the code was deployed it comes up first
    assert environments(functions) and not environments(far)
    answers = at_once(cloud, function, 8, 4.0)
    assert [answer.json() for answer in answers] == [4.0] * 8
    until(lambda: len(environments(functions)) + len(environments(far)) == 8 * PER, 5, "one for each")
    assert 3 * PER <= len(environments(far)) <= 5 * PER
    near, there = shown(cloud)
    assert [near["name"], near["state"], there["name"], there["state"]] == [NEAR, "open", FAR, "open"]
    assert near["environments_warm"] + there["environments_warm"] == 8
    client.hosts.drain(FAR)
    other = f"{function}-other"
    client.functions.create(other, package(CODE), runtime="python3.11", handler="app.handler", timeout_s=60)
    try:
        until(lambda: not environments(far), 10)
        assert not [one for one in at_once(cloud, other, 4, 0.5) if isinstance(one, BaseException)]
        assert not environments(far)
        there = shown(cloud)[1]
        assert (there["state"], there["environments_busy"] + there["environments_warm"]) == ("drained", 0)
    finally:
        client.functions.delete(other)
    assert code_of(cloud, FAR) == 1  # unpacked once, for all that ran there


def shown(cloud: RealCloud) -> list[dict[str, Any]]:
    """The function hosts in `minicloud status`."""
    report = json.loads(cloud.cli("status", "--data-dir", str(cloud.data), "--output", "json").stdout)
    found: list[dict[str, Any]] = report["function_hosts"]
    return found


def code_of(cloud: RealCloud, host: str) -> int:
    return len(list((cloud.data / "hosts" / host / "functions" / "store" / "code").iterdir()))


def test_a_killed_function_host_is_a_typed_error_and_events_run_elsewhere(
    cloud: RealCloud, client: Client, function: str
) -> None:
    queue = client.queues.create(f"{function}-done")
    client.triggers.set_event_invoke(function, on_success=queue.arn)
    client.hosts.cordon(NEAR)
    (far,) = function_hosts(cloud)
    request_id = client.functions.invoke_async(function, 8.0)
    until(lambda: at_work(far, 8.0), 10, "the event runs there")

    async def killed() -> list[Any]:
        async with AsyncClient(cloud.endpoint) as others:
            calls = [asyncio.ensure_future(others.functions.invoke(function, 30.0)) for _ in range(3)]
            await asyncio.to_thread(until, lambda: at_work(far, 30.0) == 3, 10, "they run there as well")
            await others.hosts.uncordon(NEAR)
            with ends(environments(far), 20):  # nothing runs on
                kill(far)
                with within(1.0):
                    return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(killed())
    assert [type(one) for one in found] == [Unavailable] * 3  # they may have run: nobody repeats them

    def record() -> dict[str, Any]:
        for message in client.queues.receive(queue.name, wait_s=1):
            told: dict[str, Any] = json.loads(message.body)
            return told
        return {}

    done = until(record, 30, "the event's result")
    assert done["requestContext"]["requestId"] == request_id
    assert done["responsePayload"] == 8.0
    until(lambda: attached(cloud), 30, "another function host")
    assert function_hosts(cloud) != [far]
    client.hosts.cordon(NEAR)
    until(lambda: answer_of(client, function) == 0, 10, "it takes invocations")
    client.queues.delete(queue.name)


def answer_of(client: Client, function: str) -> Any:
    try:
        return client.functions.invoke(function, 0).json()
    except CloudError:
        return None


def test_no_environment_outlives_its_host_agent(cloud: RealCloud, client: Client, function: str) -> None:
    client.hosts.cordon(NEAR)
    assert not [one for one in at_once(cloud, function, 4, 0.5) if isinstance(one, BaseException)]
    (far,) = function_hosts(cloud)
    guests = environments(far)
    assert len(guests) >= PER
    agent = int(Path(f"/proc/{far}/stat").read_text().rpartition(")")[2].split()[1])
    assert agent in cloud.actor_pids("HostAgent")
    with ends((far, *guests), 20):
        kill(agent)
    until(lambda: attached(cloud) and function_hosts(cloud) != [far], 30, "agent and function host are back")
    until(lambda: answer_of(client, function) == 0, 10, "it takes invocations")
