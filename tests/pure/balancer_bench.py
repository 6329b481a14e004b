"""A balancer machine on a bench: virtual time, seeded chance. No I/O.

After every submit the bench checks the laws that no history may break: replaying the records gives the same state; a
group serves exactly the balancer whose rules name it; only targets of such groups are in service.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from minicloud.balancer import commands as ask
from minicloud.balancer.commands import TargetSpec
from minicloud.balancer.health import SERVED
from minicloud.balancer.machine import Balancers
from minicloud.balancer.model import Action, Balancer, Group, Listener, Rule, Target, Weighted
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context, Outcome, Record, Tick

HOME = Scope()
STRANGER = Scope("111111111111", "us-east-1")


class Bench:
    def __init__(self, machine: Balancers | None = None) -> None:
        self.machine = machine or Balancers()
        self.state = self.machine.state
        self.now = 1_000_000.0
        self.rand = random.Random(7)
        self.records: list[Record] = []

    def submit(self, command: Any) -> Any:
        outcome: Outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.machine.apply(record)
        self.records += outcome.records
        self.check_laws()
        return outcome.reply

    def refused(self, code: str, command: Any, text: str = "") -> CloudError:
        """The command is refused with this code, and nothing is written."""
        with pytest.raises(CloudError) as caught:
            self.machine.decide(command, Context(self.now, self.rand))
        assert caught.value.code == code, caught.value
        assert text in caught.value.message
        return caught.value

    def check_laws(self) -> None:
        twin = Balancers()
        for record in self.records:
            twin.apply(record)
        assert twin.state.tables == self.state.tables
        assert twin.due() == self.machine.due()
        users: dict[str, set[str]] = {}
        for rule in self.state.rules.values():
            for one in rule.action.groups:
                users.setdefault(one.group, set()).add(self.state.listeners[rule.listener].balancer)
        for group in self.state.groups.values():
            assert users.get(group.arn, set()) == ({group.balancer} if group.balancer else set())
            for target in self.state.targets_of(group.arn):
                assert target.state not in SERVED or (group.balancer and target.address)
                assert (target.state == "draining") == bool(target.until)
        for listener in self.state.listeners.values():
            priorities = [rule.priority for rule in self.state.rules_of(listener.arn)]
            assert priorities[-1] == 0 and len(set(priorities)) == len(priorities)

    # --- shorthand

    def balancer(self, name: str = "web", **fields: Any) -> Balancer:
        made: Balancer = self.submit(ask.CreateBalancer(HOME, name, **fields))
        return made

    def group(self, name: str = "app", protocol: str = "HTTP", **fields: Any) -> Group:
        fields.setdefault("target_type", "ip")
        made: Group = self.submit(ask.CreateGroup(HOME, name, protocol, fields.pop("port", 80), **fields))
        return made

    def listener(self, balancer: Balancer, action: Action, **fields: Any) -> Listener:
        command = ask.CreateListener(HOME, balancer.arn, fields.pop("protocol", "HTTP"), fields.pop("port", 80), action)
        made: tuple[Listener, Rule] = self.submit(replace(command, **fields))
        return made[0]

    def register(self, group: Group, *ids: str) -> list[Target]:
        made: list[Target] = self.submit(ask.RegisterTargets(HOME, group.arn, tuple(TargetSpec(one) for one in ids)))
        return made

    def health(self, group: Group) -> dict[str, tuple[str, str]]:
        return {one.id: (one.state, one.reason) for one in self.state.targets_of(group.arn)}

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.submit(Tick())


def forward(*groups: Group, **fields: Any) -> Action:
    return Action("forward", tuple(Weighted(group.arn) for group in groups), **fields)
