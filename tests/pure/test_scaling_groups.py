"""Groups under every history that we can think of: they converge, and never do what must not happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import CloudError
from minicloud.scaling import commands as c
from minicloud.scaling.moves import LAUNCHING, TERMINATING
from minicloud.scaling.notices import EVENTS
from tests.pure.scaling_world import SCOPE, ZONES, World

FAULTS = ("lost", "capacity", "template", "kill", "host", "crash", "sweep", "dies")
WISHES = ("desired", "sizes", "zones", "standby", "back", "detach", "terminate", "protect", "suspend", "hook", "answer",
          "refresh", "rollback", "cancel", "warm", "unhealthy", "target", "lifetime", "targets", "topics",
          "tags")  # fmt: skip
WORK = ("order", "order", "order", "boot", "boot", "wait", "long", "run")
Step = tuple[str, int]
STEPS = st.lists(st.tuples(st.sampled_from(WORK * 4 + FAULTS + WISHES), st.integers(0, 1_000)), max_size=60)


def pick(things: list[str], number: int) -> str:
    return things[number % len(things)] if things else "i-none"


def work(world: World, what: str, number: int) -> None:
    if what == "order" and (found := world.pending()):
        world.carry_out(found[number % len(found)])
    elif what == "boot" and world.instances:
        world.boot(pick(sorted(world.instances), number))
    elif what == "wait":
        world.wait(number % 30)
    elif what == "long":
        world.wait(number * 4)
    elif what == "run":
        world.work(number % 4, number / 20)


def fault(world: World, what: str, number: int) -> None:
    if what == "lost" and (found := world.pending()):
        world.carry_out(found[number % len(found)], answer_lost=True)
    elif what == "capacity":
        world.broken = {ZONES[number % 3]: "InsufficientInstanceCapacity"} if number % 4 else {}
    elif what == "template":
        world.broken = {"": "InvalidAMIID.NotFound"} if number % 2 else {}
    elif what == "kill" and world.instances:
        world.kill(pick(sorted(world.instances), number), lost=bool(number % 2))
    elif what == "host":
        for instance in [one for one in world.instances.values() if one.zone == ZONES[number % 3]]:
            world.kill(instance.id, lost=bool(number % 2))
    elif what == "crash":
        world.crash()
    elif what == "sweep":
        world.sweep()
    elif what == "dies":
        world.dies_at_once = bool(number % 2)


def wish(world: World, what: str, number: int) -> None:
    ids = [one.instance_id for one in world.members() if one.instance_id]
    one = pick(ids, number)
    odd = bool(number % 2)
    sizes = c.GroupSettings(min_size=number % 3, max_size=number % 3 + number % 8)
    hooks = {"timeout_s": 60, "transition": (LAUNCHING, TERMINATING)[number % 2]}
    template = {"id": "lt-1", "version": str(number % 4)}
    made: dict[str, Callable[[], Any]] = {
        "desired": lambda: c.SetDesired(SCOPE, "web", number % 9),
        "sizes": lambda: c.UpdateGroup(SCOPE, "web", sizes),
        "zones": lambda: c.UpdateGroup(SCOPE, "web", c.GroupSettings(zones=ZONES[: 1 + number % 3])),
        "standby": lambda: c.EnterStandby(SCOPE, "web", (one,), odd),
        "back": lambda: c.ExitStandby(SCOPE, "web", (one,)),
        "detach": lambda: c.Detach(SCOPE, "web", (one,), odd),
        "terminate": lambda: c.TerminateMember(SCOPE, one, odd),
        "protect": lambda: c.Protect(SCOPE, "web", (one,), odd),
        "suspend": lambda: c.SuspendProcesses(SCOPE, "web", ("Launch", "Terminate", "AZRebalance")[: number % 4], odd),
        "hook": lambda: c.PutHook(SCOPE, "web", f"h{number % 3}", default=("CONTINUE", "ABANDON")[number % 2], **hooks),
        "answer": lambda: c.EndWait(SCOPE, "web", f"h{number % 3}", ("CONTINUE", "ABANDON")[number % 2], "", one),
        "refresh": lambda: c.StartRefresh(
            SCOPE, "web", template, min_healthy=number % 101, skip_matching=odd, checkpoints=(30, 60)[: number % 3]
        ),
        "rollback": lambda: c.RollbackRefresh(SCOPE, "web"),
        "cancel": lambda: c.CancelRefresh(SCOPE, "web"),
        "warm": lambda: c.PutWarmPool(
            SCOPE, "web", number % 3, number % 3 + number % 7, ("Stopped", "Running")[odd], bool(number % 5)
        ),
        "unhealthy": lambda: c.SetHealth(SCOPE, one, "Unhealthy", odd),
        "target": lambda: c.TargetSeen(one, odd),
        "lifetime": lambda: c.UpdateGroup(SCOPE, "web", c.GroupSettings(max_lifetime_s=86_400 * (number % 2))),
    }
    both = tuple(f"tg-{one}" for one in (1, 2) if number % 3 in (one, 0))
    now = world.group().target_groups
    made |= {
        "targets": lambda: c.ChangeTargets(SCOPE, "web", both, tuple(arn for arn in now if arn not in both and odd)),
        "topics": lambda: c.SetNotifications(SCOPE, "web", f"t{number % 3}", EVENTS[: number % 5]),
        "tags": lambda: c.TagGroup(SCOPE, "web", {f"k{number % 3}": "v"}, (f"k{number % 3}",)[:odd], ("k0",)),
    }
    if what == "detach":
        world.let_go.add(one)
    world.do(made[what]())


def play(world: World, steps: list[Step]) -> None:
    for what, number in steps:
        try:
            if what in WORK:
                work(world, what, number)
            elif what in FAULTS:
                fault(world, what, number)
            else:
                wish(world, what, number)
        except CloudError:
            pass  # a wish that cannot be granted changes nothing; the checks after the next step see to that


def heal(world: World) -> None:
    """All faults and limits end; whatever is left to do is done."""
    world.broken, world.dies_at_once, world.failed = {}, False, set()
    world.do(c.SuspendProcesses(SCOPE, "web", (), resume=True))
    for hook in list(world.group().hooks):
        world.do(c.DeleteHook(SCOPE, "web", hook))
    for member in world.members():
        if member.target_bad:
            world.do(c.TargetSeen(member.instance_id, True))
    if world.group().refresh:
        world.do(c.CancelRefresh(SCOPE, "web"))
    world.sweep()
    world.work(60, 20.0)
    world.sweep()
    world.work(40, 60.0)
    world.wait(7_200)
    world.work(20, 10.0)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.booleans(), st.integers(0, 5))
def test_any_history_converges_when_the_faults_stop(steps: list[Step], balanced: bool, desired: int) -> None:
    world = World()
    extra = {"target_groups": ["tg-1"], "health_types": ["EC2", "ELB"]} if balanced else {}
    world.create(desired=desired, **extra)
    play(world, steps)
    heal(world)
    if len(world.members()) and any(one.protected for one in world.members()):
        free = [one.instance_id for one in world.members() if one.protected and one.state in ("InService", "Standby")]
        for instance_id in free:
            world.do(c.Protect(SCOPE, "web", (instance_id,), False))
        world.work(60, 60.0)
    world.check_converged()
    world.crash()


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 5))
def test_a_deleted_group_leaves_nothing(steps: list[Step], desired: int) -> None:
    world = World()
    world.create(desired=desired, target_groups=["tg-1"])
    play(world, steps)
    world.broken, world.dies_at_once, world.failed = {}, False, set()
    world.do(c.DeleteGroup(SCOPE, "web", force=True))
    for _ in range(5):
        world.sweep()
        world.work(10, 10.0)
    assert not world.machine.state.groups
    assert not world.journal
    left = {one.id for one in world.instances.values() if one.state != "terminated"}
    assert left <= world.let_go


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10), st.integers(60, 3_600))
def test_a_broken_template_is_tried_ever_more_rarely(desired: int, minutes: int) -> None:
    """Whether the launch fails or the instance dies at once: one short-lived instance a back-off, not ten a second."""
    for trouble in ("launch", "death"):
        world = World()
        world.broken = {"": "InvalidAMIID.NotFound"} if trouble == "launch" else {}
        world.dies_at_once = trouble == "death"
        world.create(desired=desired)
        world.work(360, 10.0)
        assert world.calls <= 2 * desired + 16
        world.broken, world.dies_at_once, world.failed = {}, False, set()
        world.work(90, 20.0)
        world.check_converged()
