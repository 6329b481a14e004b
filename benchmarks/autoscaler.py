"""How long does the autoscaler's core take to look at everything when nothing has changed?

10,000 groups of 100 instances, all in service. One pass is one `Sweep`: every group is compared with everything that
compute has (a million instances, by group), and reconciled. Then the same with a few instances gone, so that it is seen
that the pass does find them. One core. Target (issue 4): below 1 s for 10,000 groups, and linear in the groups.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from minicloud.base.machine import Context, Outcome
from minicloud.scaling.commands import Sweep
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Group, Member

ZONES = ["us-east-1a", "us-east-1b", "us-east-1c"]
PASS_S_TARGET = 1.0
NOW = 1_700_000_000.0
PASSES = 5
Observed = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Result:
    groups: int
    pass_s: float
    found: int
    found_s: float


def build(groups: int, each: int) -> tuple[Scaling, Observed]:
    """The machine, and what compute has; the texts of both are not the same objects."""
    machine, observed = Scaling(), {}
    for number in range(groups):
        key = f"000000000000/us-east-1/group-{number:05d}"
        group = Group(
            key=key, name=f"group-{number:05d}", account="000000000000", region="us-east-1", uid=f"{number:016x}",
            created=NOW, min_size=0, max_size=2 * each, desired=each, zones=ZONES, template={"id": "lt-1"},
            serial=each + 1,
        )  # fmt: skip
        machine.state._tables[Group.kind][key] = group
        machine.state._index(group)
        for index in range(1, each + 1):
            member = _member(group, number * each, index)
            machine.state._tables[Member.kind][member.key] = member
            machine.state._index(member)
        observed[key] = {f"i-{number * each + index:017x}": "running" for index in range(1, each + 1)}
    return machine, observed


def _member(group: Group, first: int, index: int) -> Member:
    return Member(
        key=f"{group.key}/{index:08d}", group=group.key, number=index, token=f"asg-{group.uid}-{index}",
        state="InService", zone=ZONES[index % 3], created=NOW, template="lt-1", version="1",
        instance_id=f"i-{first + index:017x}", seen="running", in_service=NOW,
    )  # fmt: skip


def once(machine: Scaling, observed: Observed) -> tuple[float, Outcome]:
    began = time.process_time()
    outcome = machine.decide(Sweep(observed), Context(NOW + 60, random.Random(1)))
    return time.process_time() - began, outcome


def measure(groups: int, each: int) -> Result:
    machine, observed = build(groups, each)
    gc.collect()
    gc.freeze()
    times = []
    for _ in range(PASSES):
        took, outcome = once(machine, observed)
        assert not outcome.records
        times.append(took)
    for key in list(observed)[:: max(1, groups // 10)]:
        observed[key].popitem()
    took, outcome = once(machine, observed)
    lost = sum(record.kind == Member.kind and record.body is None for record in outcome.records)
    gc.unfreeze()
    return Result(groups, min(times), lost, took)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100, help="instances a group")
    given = parser.parse_args(argv)
    print(f"{'groups':>8}{'instances':>12}{'one pass':>12}{'a group':>12}{'with losses':>14}{'found':>7}")
    results = [measure(groups, given.each) for groups in (given.groups // 10, given.groups // 3, given.groups)]
    for one in results:
        print(
            f"{one.groups:>8,}{one.groups * given.each:>12,}{one.pass_s * 1e3:>9.1f} ms"
            f"{one.pass_s / one.groups * 1e6:>9.1f} us{one.found_s * 1e3:>11.1f} ms{one.found:>7}"
        )
    last = results[-1]
    growth = (last.pass_s / last.groups) / (results[0].pass_s / results[0].groups)
    met = last.pass_s < PASS_S_TARGET and last.found > 0
    print(f"a group costs {growth:.2f} times as much in the largest cloud as in the smallest")
    print(f"{last.groups:,} groups in {last.pass_s:.3f} s ({'met' if met else 'NOT MET'}: below {PASS_S_TARGET:.0f} s)")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
