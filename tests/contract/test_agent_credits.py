"""A burstable guest that burns its credits is throttled to its baseline, for real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.cloud_host import CreditRules
from minicloud.compute.credits import Account
from minicloud.host.ports import Burst
from minicloud.sandbox import probe as probing
from minicloud.wire import fleet_pb2
from tests.contract.agent_side import ControlPlane, Host, run

pytestmark = pytest.mark.timeout(300)
BASELINE_PCT = 10.0


class Poor(CreditRules):
    """Every guest starts with a second of one vCPU."""

    def open(self, burst: Burst, kept: dict[str, Any], now: float) -> dict[str, Any]:
        return Account(0.0, 1 / 60, 0.0, now).body()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcg", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[Host]:
    isolation = probing.probe()
    if not isolation.cgroup_version:
        pytest.skip("needs control groups that can be written")
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    one = Host(folder, control, isolation, credits=Poor())
    await one.start_agent()
    await control.until(lambda: control.hellos)
    yield one
    await one.close()
    await control.stop()


async def test_a_guest_that_burns_its_credits_falls_to_its_baseline_until_it_is_unlimited(host: Host) -> None:
    await host.launch("i-0060", burstable=True, baseline_pct_per_vcpu=BASELINE_PCT, cpu_credits="standard")
    busy = asyncio.ensure_future(run(host.guest("i-0060"), host.isolation.python.executable, "-c", "while True: pass"))
    free = await _sample(host, lambda one: one.cpu_percent > 2 * BASELINE_PCT and not one.throttled)
    assert free.credit_balance < 1 / 60
    dry = await _sample(host, lambda one: one.throttled and one.cpu_percent < 2 * BASELINE_PCT)
    assert dry.credit_balance < 0.01
    host.control.beats.clear()
    host.control.send(update=fleet_pb2.UpdateGuest(instance_id="i-0060", cpu_credits="unlimited"))
    await _sample(host, lambda one: one.cpu_percent > 2 * BASELINE_PCT and not one.throttled)
    busy.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await busy


async def _sample(host: Host, fits: Callable[[fleet_pb2.GuestSample], bool]) -> fleet_pb2.GuestSample:
    def seen() -> Any:
        return next((one for beat in host.control.beats for one in beat.samples if fits(one)), None)

    found: fleet_pb2.GuestSample = await host.control.until(seen)
    return found
