"""Requests about a group's instances: attach, detach, standby, protection, health, termination.

Each names its instances; all are checked before any is changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from minicloud.scaling import groups, limits, moves, texts
from minicloud.scaling.commands import Attach, Detach, EnterStandby, ExitStandby, Protect, SetHealth, TerminateMember
from minicloud.scaling.errors import activity_in_progress, invalid, no_such_instance
from minicloud.scaling.lifecycle import ACTIVE, ASIDE, Event, may, step
from minicloud.scaling.model import Member
from minicloud.scaling.state import Turn


def find(turn: Turn, ids: Iterable[str], most: int) -> list[Member]:
    """The members with these instance ids, each once. Raises InvalidParameterValue, NotFound."""
    wanted = list(dict.fromkeys(ids))
    if not 1 <= len(wanted) <= most:
        raise invalid(f"InstanceIds: 1 to {most}", "instance_ids")
    by_id = {member.instance_id: member for member in turn.members.values() if member.instance_id}
    for instance_id in wanted:
        if instance_id not in by_id:
            raise no_such_instance(instance_id)
    return [by_id[instance_id] for instance_id in wanted]


def _check_event(members: Iterable[Member], event: Event, verb: str) -> None:
    for member in members:
        if not may(member.state, event):
            raise invalid(
                f"The instance {member.instance_id} is in {member.state} and can't be {verb}.", "instance_ids"
            )


def attach(turn: Turn, command: Attach) -> None:
    """Running instances become members; desired grows by as many. Raises InvalidParameterValue."""
    groups.check_alive(turn)
    found, group = command.instances, turn.group
    if not 1 <= len(found) <= limits.ATTACH_MAX or len({one.instance_id for one in found}) != len(found):
        raise invalid(f"InstanceIds: 1 to {limits.ATTACH_MAX}, each once", "instance_ids")
    for one in found:
        if one.state != "running":
            raise invalid(f"Invalid Instance ID(s): {one.instance_id} (it is {one.state})", "instance_ids")
        if turn.state.member_of(one.instance_id) is not None:
            raise invalid(f"Instance {one.instance_id} is already part of an AutoScalingGroup.", "instance_ids")
        if one.zone not in group.zones:
            raise invalid(
                f"The instance {one.instance_id} is in zone {one.zone}, which the group does not use.", "zones"
            )
    _check_sizes(turn, len(found), "attach")
    for one in found:
        number = turn.group.serial
        cause = f"At {texts.stamp(turn.now)} an instance was added in response to user request."
        key = turn.begin(f"Attaching an existing EC2 instance: {one.instance_id}", cause, one.instance_id)
        turn.change(serial=number + 1)
        turn.put(
            Member(
                key=f"{group.key}/{number:08d}",
                group=group.key,
                number=number,
                token=f"asg-{group.uid}-{number}",
                state="Pending",
                zone=one.zone,
                created=turn.now,
                type=one.type,
                template=one.template,
                version=one.version,
                instance_id=one.instance_id,
                seen="running",
                activity=key,
            )
        )
    turn.change(desired=group.desired + len(found), changed=turn.now)


def _check_sizes(turn: Turn, count: int, verb: str) -> None:
    """Growing by `count`, or (detach, place into standby) shrinking by it, stays within min and max."""
    group = turn.group
    after = group.desired + (count if verb in ("attach", "exit standby") else -count)
    if not group.min_size <= after <= group.max_size:
        raise invalid(
            f"AutoScalingGroup {group.name} has min-size={group.min_size}, max-size={group.max_size}, and "
            f"desired-size={group.desired}. To {verb} {count} more instance(s), please update the AutoScalingGroup "
            "sizes appropriately.",
            "desired",
        )
    if after > group.desired and len(turn.active()) + count > group.max_size:
        raise activity_in_progress("Instances of the group are being replaced or terminated; retry when it is done.")


def detach(turn: Turn, command: Detach) -> None:
    """Raises InvalidParameterValue, NotFound."""
    members = find(turn, command.ids, limits.ATTACH_MAX)
    _check_event(members, "detach", "detached")
    counted = sum(member.state in ACTIVE for member in members)
    if command.decrement:
        _check_sizes(turn, counted, "detach")
        turn.change(desired=turn.group.desired - counted, changed=turn.now)
    for member in members:
        cause = f"At {texts.stamp(turn.now)} instance {member.instance_id} was detached in response to a user request."
        key = turn.begin(f"Detaching EC2 instance: {member.instance_id}", cause, member.instance_id)
        _leave(turn, member, "detach", key)


def enter_standby(turn: Turn, command: EnterStandby) -> None:
    """Raises InvalidParameterValue, NotFound."""
    members = find(turn, command.ids, limits.ATTACH_MAX)
    _check_event(members, "standby", "moved to standby")
    if command.decrement:
        _check_sizes(turn, len(members), "place into standby")
        turn.change(desired=turn.group.desired - len(members), changed=turn.now)
    for member in members:
        stamp = texts.stamp(turn.now)
        cause = f"At {stamp} instance {member.instance_id} was moved to standby in response to a user request."
        key = turn.begin(f"Moving EC2 instance to Standby: {member.instance_id}", cause, member.instance_id)
        _leave(turn, member, "standby", key)


def _leave(turn: Turn, member: Member, event: Event, activity: str) -> None:
    until = turn.now + limits.DRAIN_S_MAX
    after = turn.put(member, state=step(member.state, event), replaces="", activity=activity, until=until)
    moves.advance(turn, after)


def exit_standby(turn: Turn, command: ExitStandby) -> None:
    """Back into service; desired grows by as many. Raises InvalidParameterValue, NotFound."""
    members = find(turn, command.ids, limits.ATTACH_MAX)
    _check_event(members, "resume", "moved out of standby")
    _check_sizes(turn, len(members), "exit standby")
    turn.change(desired=turn.group.desired + len(members), changed=turn.now)
    for member in members:
        stamp = texts.stamp(turn.now)
        cause = f"At {stamp} instance {member.instance_id} was moved out of standby in response to a user request."
        key = turn.begin(f"Moving EC2 instance out of Standby: {member.instance_id}", cause, member.instance_id)
        after = turn.put(member, state=step(member.state, "resume"), activity=key)
        moves.into_service(turn, after)


def protect(turn: Turn, command: Protect) -> None:
    """Raises InvalidParameterValue, NotFound."""
    for member in find(turn, command.ids, limits.PROTECT_MAX):
        if member.state not in ACTIVE and member.state not in ASIDE:
            raise invalid(f"The instance {member.instance_id} is not in InService or Standby.", "instance_ids")
        turn.put(member, protected=command.protected)


def set_health(turn: Turn, command: SetHealth) -> None:
    """Raises InvalidParameterValue, NotFound."""
    member = find(turn, [command.instance_id], 1)[0]
    if command.status not in ("Healthy", "Unhealthy"):
        raise invalid("HealthStatus must be Healthy or Unhealthy", "status")
    in_grace = member.in_service is not None and turn.now < member.in_service + turn.group.grace_s
    if command.status == "Unhealthy" and command.respect_grace and in_grace:
        return
    turn.put(member, unhealthy=texts.USER_CHECK if command.status == "Unhealthy" else "")


def terminate(turn: Turn, command: TerminateMember) -> None:
    """Protection from scale-in does not count here. Raises InvalidParameterValue, NotFound."""
    member = find(turn, [command.instance_id], 1)[0]
    _check_event([member], "terminate", "terminated")
    if command.decrement and member.state in ACTIVE:
        _check_sizes(turn, 1, "terminate")
        turn.change(desired=turn.group.desired - 1, changed=turn.now)
    moves.terminate(turn, member, texts.unhealthy(turn.now, texts.USER_TERMINATE))
