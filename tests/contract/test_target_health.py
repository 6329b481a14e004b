"""How targets fare: what the autoscaler hears of a balancer process that goes and comes back."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minicloud import cloud_streams
from minicloud.balancer.model import Group, Target
from minicloud.balancer.targets_rpc import DESCRIPTOR, TargetServicer
from minicloud.base.arn import Scope
from minicloud.base.errors import Unavailable
from minicloud.base.machine import Touched
from minicloud.cloud_calls import Calls
from minicloud.cloud_targets import TargetHealth
from minicloud.rpc import fleet_auth
from minicloud.rpc.door import Entry, door
from minicloud.rpc.server import Listen, RpcServer
from minicloud.settings import BALANCER, CloudSettings, ShardSettings
from tests.turns import turn, until

SECRET = bytes(range(32))
GROUP = Scope().arn("elasticloadbalancing", "targetgroup/web/0123456789abcdef")
OTHER = Scope().arn("elasticloadbalancing", "targetgroup/api/0123456789abcdef")


class Balancers:
    """The balancer service, as TargetServicer sees it, behind a server that can be ended."""

    def __init__(self, path: Path) -> None:
        self.followers: set[Callable[[Touched], None]] = set()
        self.targets: dict[tuple[str, str, int], str] = {}
        self.groups = {GROUP, OTHER}
        self._path = path

    async def start(self) -> None:
        entry = Entry(fleet_auth.fleet_door(SECRET), lambda: "id")
        servicer = TargetServicer(self)  # type: ignore[arg-type]
        self.server = RpcServer([door(servicer, DESCRIPTOR, entry)], lambda: "id", Listen(socket=str(self._path)))
        await self.server.start()

    async def shown(self, look: Callable[[Any], Any]) -> Any:
        return look(self)

    def targets_of(self, group: str) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(group=arn, id=id_, port=port, state=state)
            for (arn, id_, port), state in self.targets.items()
            if arn == group
        ]

    def put(self, group: str, instance_id: str, state: str, port: int = 80) -> None:
        if state:
            self.targets[group, instance_id, port] = state
        else:
            del self.targets[group, instance_id, port]
        for follower in self.followers:
            follower(Touched(Target.kind, "", None, SimpleNamespace(group=group)))

    def delete(self, group: str) -> None:
        self.groups.discard(group)
        self.targets = {key: state for key, state in self.targets.items() if key[0] != group}
        for follower in self.followers:
            follower(Touched(Group.kind, group, SimpleNamespace(arn=group), None))


@dataclass
class Finder:
    groups: list[str] = field(default_factory=lambda: [GROUP, OTHER])
    fared: dict[str, bool] = field(default_factory=dict)
    passed: dict[str, bool] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    refusals: int = 0
    health: TargetHealth | None = None

    def target_groups(self) -> Iterable[str]:
        return self.groups

    async def fares(self, instance_id: str, healthy: bool, passed: bool) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the disk is full")
        self.fared[instance_id] = healthy
        self.passed[instance_id] = passed

    def let_go(self, instance_id: str) -> None:
        self.left.append(instance_id)

    async def gone(self, target_group: str) -> None:
        self.lost.append(target_group)
        self.groups.remove(target_group)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudSettings]:
    monkeypatch.setattr(cloud_streams, "PAUSE_S", (0.01, 0.05))
    with tempfile.TemporaryDirectory(prefix="mc-", dir="/tmp") as folder:
        settings = CloudSettings("0" * 8, folder, balancers=(ShardSettings(1, 2),))
        settings.socket_path.mkdir(parents=True)
        yield settings


@pytest.fixture
async def balancers(cloud: CloudSettings) -> AsyncIterator[Balancers]:
    made = Balancers(cloud.shard_socket(BALANCER, 0))
    await made.start()
    yield made
    await made.server.stop(0)


@pytest.fixture
async def finder(cloud: CloudSettings, balancers: Balancers) -> AsyncIterator[Finder]:
    made, calls = Finder(), Calls(cloud, SECRET, "autoscaler-0")
    health = made.health = TargetHealth(cloud, SECRET, calls, "autoscaler-0")
    health.start(made)
    await until(lambda: balancers.followers)
    yield made
    await health.close()
    await calls.close()


async def test_what_changes_comes_by_itself(balancers: Balancers, finder: Finder) -> None:
    balancers.put(GROUP, "i-1", "initial")
    await until(lambda: finder.fared == {"i-1": True})
    assert finder.passed == {"i-1": False}
    balancers.put(GROUP, "i-1", "unhealthy")
    await until(lambda: finder.fared == {"i-1": False})
    balancers.put(GROUP, "i-1", "healthy")
    await until(lambda: finder.fared == {"i-1": True} == finder.passed)
    balancers.put(OTHER, "i-1", "initial")
    await until(lambda: finder.passed == {"i-1": False})
    balancers.put(OTHER, "i-1", "unused")
    await until(lambda: finder.passed == {"i-1": True})
    balancers.put(OTHER, "i-1", "")
    assert not finder.left
    balancers.put(GROUP, "i-1", "")
    await until(lambda: finder.passed == {"i-1": False})


async def test_a_group_that_it_leaves_has_no_say_in_whether_it_passed(balancers: Balancers, finder: Finder) -> None:
    balancers.put(GROUP, "i-1", "healthy")
    balancers.put(OTHER, "i-1", "initial")
    await until(lambda: finder.passed == {"i-1": False})
    balancers.put(OTHER, "i-1", "draining")
    await until(lambda: finder.passed == {"i-1": True})
    balancers.put(GROUP, "i-1", "draining")
    await until(lambda: finder.passed == {"i-1": False})


async def test_one_group_that_finds_it_unhealthy_is_enough(balancers: Balancers, finder: Finder) -> None:
    balancers.put(GROUP, "i-1", "healthy")
    balancers.put(OTHER, "i-1", "unhealthy", 81)
    await until(lambda: finder.fared == {"i-1": False})
    balancers.put(GROUP, "i-1", "draining")
    balancers.put(OTHER, "i-1", "", 81)
    await until(lambda: finder.fared == {"i-1": True} and finder.left == ["i-1"])


async def test_who_becomes_a_member_is_told_of_though_nothing_changes(balancers: Balancers, finder: Finder) -> None:
    balancers.put(GROUP, "i-1", "unhealthy")
    await until(lambda: finder.fared == {"i-1": False})
    finder.fared.clear()
    assert finder.health is not None
    finder.health.repeat("i-2")
    finder.health.repeat("i-1")
    await until(lambda: finder.fared == {"i-1": False})


async def test_a_new_stream_tells_what_happened_meanwhile(balancers: Balancers, finder: Finder) -> None:
    balancers.put(GROUP, "i-1", "healthy")
    balancers.put(GROUP, "i-2", "healthy")
    await until(lambda: finder.fared == {"i-1": True, "i-2": True})
    await balancers.server.stop(0)
    balancers.put(GROUP, "i-1", "unhealthy")
    balancers.put(GROUP, "i-2", "")
    await balancers.start()
    await until(lambda: not finder.fared["i-1"] and finder.left == ["i-2"])


async def test_a_target_group_that_is_deleted_is_told_of_now_or_on_the_next_stream(
    balancers: Balancers, finder: Finder
) -> None:
    balancers.put(GROUP, "i-1", "healthy")
    balancers.put(OTHER, "i-1", "unhealthy")
    await until(lambda: finder.fared == {"i-1": False})
    balancers.delete(OTHER)
    await until(lambda: finder.lost == [OTHER])
    assert finder.fared == {"i-1": True} and finder.left == ["i-1"]
    await balancers.server.stop(0)
    balancers.delete(GROUP)
    await balancers.start()
    await until(lambda: finder.lost == [OTHER, GROUP])


async def test_what_could_not_be_recorded_is_told_again(balancers: Balancers, finder: Finder) -> None:
    balancers.put(GROUP, "i-1", "healthy")
    for instance_id in ("i-1", "i-2", "i-3"):
        balancers.put(OTHER, instance_id, "unhealthy")
    await until(lambda: finder.fared == {"i-1": False, "i-2": False, "i-3": False})
    finder.refusals = 1
    balancers.put(OTHER, "i-3", "")
    await until(lambda: finder.left == ["i-3"])
    finder.refusals = 1
    balancers.delete(OTHER)
    await until(lambda: finder.lost == [OTHER])
    assert finder.fared == {"i-1": True, "i-2": True, "i-3": True}
    balancers.put(GROUP, "i-1", "unhealthy")
    await until(lambda: not finder.fared["i-1"])


async def test_without_proof_nothing_is_told(cloud: CloudSettings, balancers: Balancers) -> None:
    made, calls = Finder(), Calls(cloud, SECRET, "autoscaler-0")
    health = TargetHealth(cloud, b"another", calls, "autoscaler-0")
    health.start(made)
    balancers.put(GROUP, "i-1", "healthy")
    await turn(50)
    assert not balancers.followers and not made.fared
    await health.close()
    await calls.close()
