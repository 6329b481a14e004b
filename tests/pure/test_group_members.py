"""What is told of members' instances: how they ended, and status checks that have failed for a while."""

from __future__ import annotations

from typing import Any

import pytest

from minicloud.cloud_members import IMPAIRED_S, MemberInstances
from minicloud.scaling import commands as c
from minicloud.scaling.model import Member
from minicloud.shell.clock import VirtualClock
from minicloud.wire import fleet_pb2 as pb
from tests.pure.scaling_world import SCOPE, World


class Watch:
    """The stream's end, without a stream: what comes is handed in."""

    def __init__(self) -> None:
        self.world, self.clock = World(), VirtualClock()
        self.world.create(desired=1, grace_s=0)
        self.world.work()
        self.reports: list[c.InstanceSeen] = []
        self.watch = MemberInstances(None, (), self.world.machine.state, self._submit, self.clock)  # type: ignore[arg-type]

    async def _submit(self, report: c.InstanceSeen) -> Any:
        self.reports.append(report)
        return self.world.do(report)

    @property
    def member(self) -> Member:
        return self.world.members()[0]

    async def says(self, state: str = "running", reason: str = "", impaired: bool = False) -> None:
        self.world.instances[self.member.instance_id].state = state or "terminated"
        place = pb.InstancePlace(instance_id=self.member.instance_id, state=state, reason=reason, impaired=impaired)
        await self.watch._heard(place)


async def test_a_guest_that_is_slow_for_once_is_left_alone() -> None:
    one = Watch()
    await one.says(impaired=True)
    await one.clock.advance(IMPAIRED_S - 1)
    await one.says()
    await one.clock.advance(IMPAIRED_S)
    assert not one.reports


async def test_one_that_fails_its_checks_is_replaced() -> None:
    one = Watch()
    before = one.member
    await one.says(impaired=True)
    await one.clock.advance(IMPAIRED_S + 1)
    assert [report.impaired for report in one.reports] == [True]
    one.world.work()
    assert one.member.instance_id != before.instance_id and one.member.state == "InService"
    causes = [activity.cause for activity in one.world.machine.state.rosters[SCOPE.key("web")].activities.values()]
    assert any("status checks failure" in cause for cause in causes)


async def test_one_that_recovers_in_its_grace_period_stays() -> None:
    one = Watch()
    one.world.do(c.UpdateGroup(SCOPE, "web", c.GroupSettings(grace_s=3600)))
    await one.says(impaired=True)
    await one.clock.advance(IMPAIRED_S + 1)
    assert one.member.impaired and one.member.state == "InService"
    await one.says()
    assert not one.member.impaired and one.member.plain


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("GuestExited", False),
        ("OutOfMemory", False),
        ("Server.HostFailure", True),
        ("Client.UserInitiatedShutdown", True),
    ],
)
async def test_whose_fault_an_end_is(reason: str, fault: bool) -> None:
    one = Watch()
    await one.says("stopped", reason)
    assert [(report.state, report.fault) for report in one.reports] == [("stopped", fault)]


@pytest.mark.parametrize(
    ("reason", "unplaced"),
    [
        ("Server.HostFailure", True),
        ("Server.InsufficientInstanceCapacity", True),
        ("Server.InternalError", False),
        ("Client.UserInitiatedShutdown", False),
    ],
)
async def test_whether_its_place_failed_it(reason: str, unplaced: bool) -> None:
    one = Watch()
    await one.says("terminated", reason)
    assert [report.unplaced for report in one.reports] == [unplaced]


async def test_what_is_not_there_is_terminated() -> None:
    one = Watch()
    await one.says("")
    assert one.reports[0].state == "terminated"
