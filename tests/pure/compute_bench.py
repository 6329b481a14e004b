"""A compute machine on a bench: virtual time, seeded chance, hosts that say what the test says. No I/O.

After every submit the bench checks the laws that no history may break: replaying the records gives the same state, and
what hosts are said to hold is the sum of what stands on them.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Outcome, Record
from minicloud.base.shape import Shape
from minicloud.compute.commands import GuestSeen, HostSeen, Launch, LaunchSpec
from minicloud.compute.lifecycle import HOLDS_CAPACITY
from minicloud.compute.machine import Compute
from minicloud.compute.model import KINDS, Host, Instance

HOME = Scope()
STRANGER = Scope("111111111111", "us-east-1")


def host(name: str, **changes: Any) -> HostSeen:
    index = ord(name[-1]) - ord("a")
    seen = HostSeen(
        id=f"h-{index:017x}",
        name=name,
        zone=f"us-east-1{name[-1]}",
        session=f"session-{name}-1",
        agent_address="127.0.0.1:1",
        arch="x86_64",
        cores=4,
        memory_mib=32768,
        gpus=0,
        disk_gib=100,
        overcommit_cpu=8,
        overcommit_memory=1,
        overcommit_gpu=1,
    )
    return replace(seen, **changes)


class Bench:
    def __init__(self, *hosts: HostSeen) -> None:
        self.machine = Compute(check_user_data=lambda text: None)
        self.state = self.machine.state
        self.now = 1_000_000.0
        self.rand = random.Random(7)
        self.records: list[Record] = []
        for seen in hosts or (host("host-a"), host("host-b")):
            self.submit(seen)

    def submit(self, command: Any) -> Any:
        outcome: Outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.machine.apply(record)
        self.records += outcome.records
        self.check_laws()
        return outcome.reply

    def launch(self, kind: str = "t3.micro", count: int = 1, scope: Scope = HOME, **fields: Any) -> list[Instance]:
        names = set(LaunchSpec.__dataclass_fields__)
        spec = LaunchSpec(
            image_id=fields.pop("image_id", "base"),
            instance_type=kind,
            **{name: fields.pop(name) for name in list(fields) if name in names},
        )
        made = self.submit(Launch(scope, spec, fields.pop("min_count", count), count, **fields))
        found: list[Instance] = made.instances
        return found

    def running(self, kind: str = "t3.micro", count: int = 1, **fields: Any) -> list[Instance]:
        for instance in (made := self.launch(kind, count, **fields)):
            self.report(instance, "running", private_ip="10.0.0.9")
        return [self.state.instances[one.id] for one in made]

    def report(self, instance: Instance, state: str, **fields: Any) -> Any:
        now = self.state.instances[instance.id]
        return self.submit(GuestSeen(now.id, fields.pop("generation", now.generation), state, **fields))

    def host_of(self, instance: Instance) -> Host:
        return self.state.hosts[instance.host_id]

    def at(self, instance: Instance) -> Instance:
        return self.state.instances[instance.id]

    def check_laws(self) -> None:
        twin = Compute(check_user_data=lambda text: None)
        for record in self.records:
            twin.apply(record)
        for kind in KINDS:
            assert twin.state._tables[kind] == self.state._tables[kind], f"replay differs in {kind}"
        assert twin.state._scoped == {
            key: ids for key, ids in self.state._scoped.items() if ids or key in twin.state._scoped
        }
        assert twin.state._due == self.state._due
        for one in self.state.hosts.values():
            total = Shape()
            for instance in self.state.on_host(one.id):
                if instance.state in HOLDS_CAPACITY:
                    total = total + instance.shape
            assert self.state.used(one.id) == total, f"ledger of {one.name}"
