"""A world around the machine of groups: a launcher with faults, hosts that die, reports that get lost, a clock.

What the service will do is done here by hand: orders are derived from the records of members, carried out against
`instances`, and what comes of it is reported. Every step checks what must always hold.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context, Record, Tick
from minicloud.scaling import commands as c
from minicloud.scaling.lifecycle import ACTIVE, WARM
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Activity, Group, Member
from minicloud.scaling.orders import Deregister, Launch, Order, Start, Stop, Terminate, orders

SCOPE = Scope()
ZONES = ["us-east-1a", "us-east-1b", "us-east-1c"]
T0 = 1_700_000_000.0
BLAMES = {"InsufficientInstanceCapacity": "place", "Unsupported": "type", "NoSuchZone": "zone"}


@dataclass
class Instance:
    id: str
    zone: str
    state: str = "pending"


@dataclass
class World:
    """`answering`: what is registered is found healthy. `broken`: what a launch answers instead of an id, by zone/type,
    /type, or zone ("" is every zone)."""

    seed: int = 0
    now: float = T0
    machine: Scaling = field(default_factory=Scaling)
    journal: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    dies_at_once: bool = False
    answering: bool = True
    let_go: set[str] = field(default_factory=set)
    registered: set[str] = field(default_factory=set)
    targets: set[tuple[str, str]] = field(default_factory=set)
    told: list[tuple[str, str]] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.rand = random.Random(self.seed)

    # --- the machine

    def do(self, command: Any) -> Any:
        before = {key: self.active(key) for key in self.machine.state.groups}
        outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self._commit(record)
        self.check(before)
        return outcome.reply

    def _commit(self, record: Record) -> None:
        self.machine.apply(record)
        if record.body is None:
            self.journal.pop((record.kind, record.key), None)
        else:
            self.journal[(record.kind, record.key)] = record.body

    def create(self, name: str = "web", **settings: Any) -> Group:
        given = {"min_size": 0, "max_size": 10, "zones": ZONES, "template": {"id": "lt-1", "version": "1"}, **settings}
        group: Group = self.do(c.CreateGroup(SCOPE, name, c.GroupSettings(**given)))
        return group

    def group(self, name: str = "web") -> Group:
        return self.machine.state.group(SCOPE, name)

    def members(self, name: str = "web") -> list[Member]:
        roster = self.machine.state.rosters.get(SCOPE.key(name))
        return sorted(roster.members.values(), key=lambda one: one.number) if roster else []

    def states(self, name: str = "web") -> list[str]:
        return [member.state for member in self.members(name)]

    def active(self, key: str) -> int:
        roster = self.machine.state.rosters.get(key)
        return sum(one.state in ACTIVE for one in roster.members.values()) if roster else 0

    def check(self, before: dict[str, int]) -> None:
        """What must hold after every decision."""
        ids: list[str] = []
        for key, group in self.machine.state.groups.items():
            now = self.active(key)
            assert now <= max(group.max_size, before.get(key, 0)), "more members than max"
            assert group.min_size <= group.desired <= group.max_size
            roster = self.machine.state.rosters.get(key)
            for member in roster.members.values() if roster else ():
                ids += [member.instance_id] if member.instance_id else []
                assert member.state.endswith(":Wait") == bool(member.waits), member
            assert not set(group.leaving) & set(group.target_groups) and set(group.local_tags) <= set(group.tags)
            assert group.wake is None or group.wake > self.now, "due again at once"
        assert len(ids) == len(set(ids)), "an instance has two members"
        tokens = {member.token for member in self.machine.state._tables["scaling-member"].values()}
        for token, instance_id in self.tokens.items():
            if self.instances[instance_id].state != "terminated" and instance_id not in self.let_go:
                assert token in tokens, "an instance has no member"

    def crash(self) -> None:
        """A new machine from the journal must be what the old one was."""
        fresh = Scaling()
        records = [Record(kind, key, body) for (kind, key), body in self.journal.items()]
        self.rand.shuffle(records)
        for record in records:
            fresh.apply(record)
        for kind, key in self.journal:
            assert fresh.lookup(kind, key) == self.machine.lookup(kind, key)
        assert fresh.due() == self.machine.due()
        for name, roster in self.machine.state.rosters.items():
            other = fresh.state.rosters[name]
            assert (roster.plain, roster.running, roster.odd) == (other.plain, other.running, other.odd)
        self.machine = fresh

    # --- the world

    def pending(self) -> list[Order]:
        found: list[Order] = []
        for key, group in self.machine.state.groups.items():
            roster = self.machine.state.rosters.get(key)
            for member in sorted(roster.members.values(), key=lambda one: one.number) if roster else ():
                found += orders(group, member)
        return found

    def carry_out(self, order: Order, answer_lost: bool = False) -> None:
        if isinstance(order, Launch):
            self._launch(order, answer_lost)
        elif isinstance(order, Terminate):
            self._set(order.instance_id, "terminated", answer_lost)
        elif isinstance(order, Start):
            self._set(order.instance_id, "running", answer_lost)
        elif isinstance(order, Stop):
            self._set(order.instance_id, "stopped", answer_lost)
        elif isinstance(order, Deregister):
            self.registered.discard(order.instance_id)
            self.targets = {pair for pair in self.targets if pair != (pair[0], order.instance_id)}
            if not answer_lost:
                self.do(c.Drained(order.instance_id))
        elif self.instances[order.instance_id].state == "running":  # balancers take no others
            self.registered.add(order.instance_id)
            self.targets |= {(target_group, order.instance_id) for target_group in order.target_groups}
            self.do(c.TargetSeen(order.instance_id, True, passed=self.answering))

    def settle(self) -> None:
        """What groups themselves have to do: target groups that they left forget, topics are told."""
        for key, group in list(self.machine.state.groups.items()):
            for target_group in group.leaving:
                self.targets = {pair for pair in self.targets if pair[0] != target_group}
                self.do(c.TargetsLeft(key, target_group))
        for activity in list(self.machine.state._tables["scaling-activity"].values()):
            for topic in activity.tell:
                self.told.append((topic, activity.id))
                self.do(c.Told(activity.group, activity.key, topic))

    def _launch(self, order: Launch, answer_lost: bool) -> None:
        self.calls += 1
        places = (f"{order.zone}/{order.type}", f"/{order.type}", order.zone, "")
        code = next((self.broken[place] for place in places if place in self.broken), "")
        if order.token not in self.tokens and (code or order.token in self.failed):
            self.failed.add(order.token)
            if not answer_lost:
                code = code or "InsufficientInstanceCapacity"
                self.do(c.LaunchFailed(order.group, order.number, code, f"{code} here", BLAMES.get(code, "group")))
            return
        if order.token not in self.tokens:
            instance_id = f"i-{len(self.instances):017x}"
            self.tokens[order.token] = instance_id
            self.instances[instance_id] = Instance(instance_id, order.zone)
        if not answer_lost:
            instance = self.instances[self.tokens[order.token]]
            self.do(c.Launched(order.group, order.number, instance.id, instance.zone, order.type, order.version))
            self.report(instance.id)

    def _set(self, instance_id: str, state: str, lost: bool) -> None:
        instance = self.instances[instance_id]
        if instance.state != "terminated":
            instance.state = state
        if state == "terminated":  # balancers follow instances by themselves
            self.targets = {pair for pair in self.targets if pair[1] != instance_id}
        if not lost:
            self.report(instance_id)

    def report(self, instance_id: str, fault: bool = False, unplaced: bool = False) -> None:
        self.do(c.InstanceSeen(instance_id, self.instances[instance_id].state, fault, unplaced=unplaced))

    def boot(self, instance_id: str, lost: bool = False) -> None:
        if self.instances[instance_id].state == "pending":
            self._set(instance_id, "terminated" if self.dies_at_once else "running", lost)

    def kill(self, instance_id: str, lost: bool = False) -> None:
        if self.instances[instance_id].state in ("pending", "running"):
            self._set(instance_id, "stopped" if self.rand.random() < 0.5 else "terminated", lost)

    def sweep(self) -> None:
        observed: dict[str, dict[str, str]] = {key: {} for key in self.machine.state.groups}
        for member in self.machine.state._tables["scaling-member"].values():
            if member.instance_id:
                observed[member.group][member.instance_id] = self.instances[member.instance_id].state
        self.do(c.Sweep(observed))

    def wait(self, seconds: float) -> None:
        """Time passes; the machine's timer rings when it should."""
        end = self.now + seconds
        for _ in range(1_000):
            due = self.machine.due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.do(Tick())
        else:
            raise AssertionError("the timer rings without end")
        self.now = end

    def work(self, rounds: int = 30, seconds: float = 5.0) -> None:
        """Everything works: orders are carried out, instances boot, time passes."""
        for _ in range(rounds):
            for order in self.pending():
                self.carry_out(order)
            self.settle()
            for instance in list(self.instances.values()):
                self.boot(instance.id)
            self.wait(seconds)

    # --- the end

    def check_converged(self, name: str = "web") -> None:
        """As many as desired, even over the zones, nothing left over."""
        group = self.group(name)
        members = self.members(name)
        serving = [one for one in members if one.state == "InService"]
        assert len(serving) == group.desired, (self.states(name), group)
        assert all(one.state in ("InService", "Standby") or one.state in WARM for one in members), self.states(name)
        counts = [sum(one.zone == zone for one in serving) for zone in group.zones]
        if not any(one.protected for one in serving):
            assert sum(counts) == len(serving) and max(counts) - min(counts) <= 1, counts
        held = {one.instance_id for one in members}
        assert self.targets == {(arn, one.instance_id) for arn in group.target_groups for one in serving}
        alive = {one.id for one in self.instances.values() if one.state not in ("terminated",)}
        assert alive - held <= self.let_go, "an orphan"
        assert {one.id for one in self.instances.values() if one.state == "running"} >= {
            one.instance_id for one in serving
        }
        self.sweep()
        quiet = self.machine.decide(Tick(), Context(self.now, self.rand))
        assert not quiet.records


# --- for tests of one thing at a time


def running(count: int, **extra: Any) -> World:
    """A group whose instances are all in service."""
    world = World()
    world.create(**{"desired": count, "max_size": 10, **extra})
    world.work()
    assert world.states() == ["InService"] * count
    return world


def history(world: World, name: str = "web") -> list[Activity]:
    roster = world.machine.state.rosters[SCOPE.key(name)]
    return [roster.activities[key] for key in sorted(roster.activities)]


def refused(world: World, command: Any, text: str, code: str = "ValidationError") -> None:
    before = dict(world.journal)
    with pytest.raises(CloudError, match=text) as caught:
        world.do(command)
    assert caught.value.code == code
    assert world.journal == before


def in_service(world: World) -> list[Member]:
    return [one for one in world.members() if one.state == "InService"]
