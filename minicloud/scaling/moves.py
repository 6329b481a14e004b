"""How one member moves: launched, brought into service, drained, ended.

Reports of the world only write facts into a member (its id, what compute sees, what balancers find). `advance` turns
facts into moves; doing it again changes nothing. So it does not matter in which order reports come, or how often.
"""

from __future__ import annotations

from minicloud.scaling import limits, texts
from minicloud.scaling.commands import InstanceSeen
from minicloud.scaling.lifecycle import ACTIVE, ASIDE, COMING, ENDING, WARM, Event, step
from minicloud.scaling.model import Member
from minicloud.scaling.places import is_stable, launch_failed, round_failed
from minicloud.scaling.state import Turn

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
GONE = frozenset({"shutting-down", "terminated"})
DOWN = frozenset({"stopping", "stopped", *GONE})


def launch(turn: Turn, place: tuple[str, str], cause: str, replaces: str = "", warmed: bool = False) -> Member:
    """A new member; its order to the launcher follows from it."""
    group, refresh = turn.group, turn.refresh()
    config = refresh.config if refresh is not None and refresh.config else {"template": group.template}
    number = group.serial
    turn.change(serial=number + 1)
    member = Member(
        key=f"{group.key}/{number:08d}",
        group=group.key,
        number=number,
        token=f"asg-{group.uid}-{number}",
        state="Warmed:Pending" if warmed else "Pending",
        zone=place[0],
        type=place[1],
        template=config["template"]["id"],
        version=config["template"].get("version", ""),
        created=turn.now,
        replaces=replaces,
        warmed=warmed,
        until=turn.now + limits.PENDING_S_MAX,
        activity=turn.begin(texts.launching(""), cause),
    )
    return turn.put(member)


def terminate(turn: Turn, member: Member, cause: str) -> None:
    """Begin to end a member. Where a balancer may still send to it, it is drained first."""
    turn.progress(member.activity, status="Cancelled", message="The instance is to be terminated.")
    key = turn.begin(texts.terminating(member.instance_id), cause, member.instance_id)
    served = member.drains or member.state == "InService"
    member = turn.put(
        member, state=step(member.state, "terminate"), waits=None, replaces="", starting=False, returning=False,
        activity=key, until=turn.now + limits.DRAIN_S_MAX,
    )  # fmt: skip
    if not served:
        _drained_if_known(turn, member)
    else:
        advance(turn, member)


def give_back(turn: Turn, member: Member, cause: str) -> None:
    """Out of service, into the warm pool again: drained, and after the hooks of an end."""
    key = turn.begin(texts.returning(member.instance_id), cause, member.instance_id)
    member = turn.put(
        member, state=step(member.state, "reuse"), returning=True, replaces="", in_service=None, activity=key,
        until=turn.now + limits.DRAIN_S_MAX,
    )  # fmt: skip
    advance(turn, member)


def _drained_if_known(turn: Turn, member: Member) -> None:
    if member.instance_id:
        drained(turn, member)


def drained(turn: Turn, member: Member) -> None:
    """Nothing reaches this member any more."""
    if member.state == "Detaching":
        turn.progress(member.activity, status="Successful")
        turn.drop(member)
    elif member.state == "EnteringStandby":
        turn.put(member, state=step(member.state, "drained"), until=None)
        turn.progress(member.activity, status="Successful")
    elif member.returning:
        if not begin_wait(turn, member, "started_hooked", TERMINATING):
            _prepare(turn, member)
    elif not begin_wait(turn, member, "drained_hooked", TERMINATING):
        turn.put(member, state=step(member.state, "drained"), until=None)


def into_service(turn: Turn, member: Member) -> None:
    turn.put(
        member,
        state=step(member.state, "started"),
        in_service=turn.now,
        protected=member.protected or turn.group.protect_new,
        until=None,
    )
    turn.progress(member.activity, status="Successful")


def advance(turn: Turn, member: Member) -> float | None:
    """Move as far as the facts allow. Returns when time alone would move it."""
    member = turn.members.get(member.key, member)
    if member.state == "Detaching" and member.seen not in GONE:
        return None  # it is drained when it does not carry the group's name any more
    if member.drains and member.instance_id:
        if not turn.group.target_groups or member.seen in GONE or turn.now >= (member.until or 0.0):
            drained(turn, member)
            return None
        return member.until
    if member.state in ENDING and member.seen in GONE:
        turn.progress(member.activity, status="Successful")
        turn.drop(member)
        return None
    if member.state.endswith(":Wait"):
        return expire_waits(turn, member)
    if member.state in WARM:
        return _advance_warm(turn, member)
    if member.state in ACTIVE:
        return _advance_active(turn, member)
    if member.state in ASIDE and member.seen in GONE:
        terminate(turn, member, texts.unhealthy(turn.now, texts.EC2_CHECK))
    return None


def _advance_active(turn: Turn, member: Member) -> float | None:
    if member.state == "Pending:Proceed":
        into_service(turn, member)
    elif member.state == "Pending" and member.seen == "running" and not member.starting:
        if not begin_wait(turn, member, "started_hooked", LAUNCHING):
            into_service(turn, member)
    elif member.state == "Pending" and member.instance_id and not member.unhealthy:
        if turn.now < (member.until or 0.0):
            return member.until
        round_failed(turn)
        turn.put(member, unhealthy=texts.NEVER_STARTED)
    return None


def _advance_warm(turn: Turn, member: Member) -> float | None:
    pool = turn.group.warm or {}
    if member.seen in GONE or (member.seen in DOWN and pool.get("state") != "Stopped"):
        terminate(turn, member, texts.unhealthy(turn.now, texts.EC2_CHECK))
    elif member.state == "Warmed:Pending" and member.seen == "running":
        if not begin_wait(turn, member, "started_hooked", LAUNCHING):
            _prepare(turn, member)
    elif member.state == "Warmed:Pending:Proceed":
        event: Event = "stopped" if pool.get("state") == "Stopped" else "started"
        if event == "started" or member.seen == "stopped":
            turn.put(
                member, state=step(member.state, event), until=None, warmed=True, returning=False, unhealthy="",
                target_bad=False, target_passed=False, impaired=False,
            )  # fmt: skip
            turn.progress(member.activity, status="Successful")
    elif member.until is not None and member.instance_id:
        if turn.now < member.until:
            return member.until
        round_failed(turn)
        terminate(turn, member, texts.unhealthy(turn.now, texts.NEVER_STARTED))
    return None


def _prepare(turn: Turn, member: Member) -> None:
    """There are no hooks to wait for: it becomes what the pool keeps."""
    until = turn.now + limits.PENDING_S_MAX
    turn.put(member, state=step(step(member.state, "started_hooked"), "proceed"), until=until)


def enter(turn: Turn, member: Member, cause: str) -> None:
    """Out of the warm pool, into service."""
    key = turn.begin(texts.launching(member.instance_id) + " from the warm pool", cause, member.instance_id)
    member = turn.put(
        member,
        state=step(member.state, "enter"),
        starting=member.seen != "running",
        activity=key,
        until=turn.now + limits.PENDING_S_MAX,
    )
    advance(turn, member)


def note_seen(turn: Turn, member: Member, report: InstanceSeen) -> None:
    """Write what compute sees now. An instance that died young without another's fault tells on its template.

    One that never ran, for want of a host, tells on its place.
    """
    state = report.state
    if member.impaired != report.impaired:
        member = turn.put(member, impaired=report.impaired)
    if member.seen == state:
        return
    begins = member.state in ACTIVE or (member.state in COMING and not member.returning)
    died = begins and state in DOWN and member.seen not in DOWN
    turn.put(member, seen=state, starting=member.starting and state != "running")
    if died and not report.fault and not is_stable(member, turn.now):
        round_failed(turn)
    elif died and report.unplaced and member.seen != "running":
        launch_failed(turn, member, "place")


# --- waiting for lifecycle hooks


def begin_wait(turn: Turn, member: Member, event: Event, transition: str) -> bool:
    """Make a member wait for the hooks of a transition. False: there are none (or the group is being deleted)."""
    names = [name for name, hook in turn.group.hooks.items() if hook["transition"] == transition]
    if not names or turn.group.deleting:
        return False
    waits = {}
    for name in names:
        timeout = turn.group.hooks[name]["timeout_s"]
        total = min(limits.HOOK_TOTAL_S_MAX, limits.HOOK_HEARTBEATS_MAX * timeout)
        waits[name] = {"token": turn.context.hex(32), "deadline": turn.now + timeout, "end": turn.now + total}
    turn.put(member, state=step(member.state, event), waits=waits, until=None)
    turn.progress(member.activity, status="MidLifecycleAction", progress=50)
    return True


def expire_waits(turn: Turn, member: Member) -> float | None:
    """End what has waited too long with the hook's default. Returns the next deadline."""
    for name, wait in sorted((member.waits or {}).items()):
        if wait["deadline"] <= turn.now:
            default = turn.group.hooks.get(name, {}).get("default", "ABANDON")
            end_wait(turn, member, name, default, "Heartbeat Timeout")
            after = turn.members.get(member.key)
            return expire_waits(turn, after) if after is not None and after.state == member.state else None
    return min((wait["deadline"] for wait in (member.waits or {}).values()), default=None)


def end_wait(turn: Turn, member: Member, hook: str, result: str, why: str) -> None:
    """One hook of a waiting member has ended."""
    waits = dict(member.waits or {})
    token = waits.pop(hook)["token"]
    launching = member.state in ("Pending:Wait", "Warmed:Pending:Wait")
    if result == "ABANDON" and launching:
        message = (
            f"Instance failed to complete user's Lifecycle Action: Lifecycle Action with token {token} was abandoned: "
            f"{why}"
        )
        turn.progress(member.activity, status="Cancelled", message=message)
        if not member.returning:
            round_failed(turn)
        terminate(turn, member, texts.unhealthy(turn.now, "an abandoned lifecycle action"))
        return
    if result == "ABANDON":
        waits = {}
    if waits:
        turn.put(member, waits=waits)
        return
    until = turn.now + limits.PENDING_S_MAX if member.state == "Warmed:Pending:Wait" else None
    after = turn.put(member, waits=None, state=step(member.state, "proceed"), until=until)
    advance(turn, after)
