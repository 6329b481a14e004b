"""Instance refresh: replace a group's instances a few at a time.

After the EC2 Auto Scaling User Guide, "Instance refresh". Members numbered below the refresh's `before` are to go,
except (skip matching) those that are as the desired configuration wants them. At any time `min_healthy` percent of
desired are in service, healthy and warmed up; above that as many are taken out at once as the group can miss, but
always at least one. With `max_healthy` above 100 replacements are launched first, as far as the group's maximum allows;
then none is taken out because a launch is held back (a back-off, no room in any zone): the refresh waits. It replaces
nothing while Launch or Terminate is suspended.

The last checkpoint is as far as it goes: one below 100 leaves the rest as it is ("Enable checkpoints"). Where all are
replaced the warm pool is too, after them and at once, since it serves nothing; until then nothing is taken out of it
that would be replaced again.

    InProgress --all replaced--> Baking (if asked) --> Successful (the group takes the desired configuration)
               --checkpoint but the last--> waits its delay
               --launches fail, an alarm, an hour without progress--> Failed, or RollbackInProgress with auto rollback
               (the service looks at the alarms of a refresh until it has baked; one that goes off is a failure)
    RollbackInProgress --> RollbackSuccessful, RollbackFailed        cancelled at any time: Cancelled

A rollback is a refresh back to `previous` that skips what matches it; so `previous` must say a version by its number.
That of a desired configuration always is one: whoever asks resolves `$Latest`. A group's own `$Latest` stays as it is;
members are compared with the number that it stood for at the start (`version`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from minicloud.base.errors import CloudError
from minicloud.scaling import limits, moves, replacing, sizing, texts
from minicloud.scaling.checks import configuration, merged
from minicloud.scaling.commands import GroupSettings, StartRefresh
from minicloud.scaling.errors import invalid, no_refresh, refresh_in_progress
from minicloud.scaling.lifecycle import ASIDE, READY, WARM
from minicloud.scaling.model import Member, Refresh, done_percent
from minicloud.scaling.places import next_try, room_for_launches
from minicloud.scaling.state import Turn

ENDED = frozenset({"Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"})
UNSOUND = "No balancer found the new instances healthy within an hour."


# --- requests


def start(turn: Turn, command: StartRefresh) -> str:
    """The refresh's id. Raises InvalidParameterValue, Conflict (InstanceRefreshInProgress)."""
    if turn.group.refresh:
        raise refresh_in_progress()
    _check(command)
    previous = configuration(turn.group)
    config = configuration(merged(turn.group, GroupSettings(template=command.template, types=command.types)))
    if command.auto_rollback and config == previous:
        raise invalid("AutoRollback needs a desired configuration", "auto_rollback")
    if command.auto_rollback and not _is_fixed(previous):
        raise invalid(
            "AutoRollback needs a group whose launch template has a version number, not $Latest or $Default",
            "auto_rollback",
        )
    number = turn.group.refreshes + 1
    made = Refresh(
        key=f"{turn.group.key}/{number:08d}",
        group=turn.group.key,
        id=_uuid(turn.context.hex(32)),
        started=turn.now,
        before=turn.group.serial,
        total=0,
        config=config,
        previous=previous,
        min_healthy=command.min_healthy,
        max_healthy=command.max_healthy,
        warmup_s=command.warmup_s,
        checkpoints=list(command.checkpoints),
        checkpoint_delay_s=_delay(command),
        skip_matching=command.skip_matching,
        auto_rollback=command.auto_rollback,
        protected=command.protected,
        standby=command.standby,
        bake_s=command.bake_s,
        version=command.version,
        alarms=list(command.alarms),
    )
    total = len(_left(turn, made))
    turn.change(refresh=made.key, refreshes=number, failures=0, retry_at=0.0)  # what failed was before
    turn.write(replace(made, total=total, left=total))
    old = turn.roster.refreshes.get(f"{turn.group.key}/{number - limits.REFRESHES_KEPT:08d}")
    if old is not None:
        turn.erase(old)
    return made.id


def cancel(turn: Turn) -> str:
    """Raises NotFound (ActiveInstanceRefreshNotFound). What is being replaced is finished by the group itself."""
    refresh = _active(turn)
    _end(turn, refresh, "Cancelled", "Cancelled by the user.")
    return refresh.id


def roll_back(turn: Turn, why: str, by_alarm: bool = False) -> str:
    """Raises NotFound (ActiveInstanceRefreshNotFound), InvalidParameterValue (IrreversibleInstanceRefresh)."""
    refresh = _active(turn)
    if by_alarm:
        _fail(turn, refresh, why)
    elif refresh.config == refresh.previous or refresh.status == "RollbackInProgress":
        raise _irreversible("The desired configuration must be specified for a rollback.")
    elif not _is_fixed(refresh.previous):
        raise _irreversible("The launch template of the group had $Latest or $Default as its version.")
    else:
        _turn_back(turn, refresh, why)
    return refresh.id


def _is_fixed(config: dict[str, Any]) -> bool:
    return bool(config["template"].get("version", "").isdigit())


def _irreversible(why: str) -> CloudError:
    error = invalid(why, "group")
    return type(error)(error.message, code="IrreversibleInstanceRefresh", field="group")


def _active(turn: Turn) -> Refresh:
    refresh = turn.refresh()
    if refresh is None:
        raise no_refresh()
    return refresh


def _delay(command: StartRefresh) -> int:
    if command.checkpoint_delay_s is not None:
        return command.checkpoint_delay_s
    return limits.CHECKPOINT_DELAY_S_DEFAULT


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _check(command: StartRefresh) -> None:
    low, high = command.min_healthy, command.max_healthy
    if not 0 <= low <= 100 or not 100 <= high <= 200 or high - low > 100:
        raise invalid(
            "MinHealthyPercentage must be 0 to 100, MaxHealthyPercentage 100 to 200, at most 100 apart", "min_healthy"
        )
    points = command.checkpoints
    if list(points) != sorted(set(points)) or any(not 1 <= point <= 100 for point in points):
        raise invalid("CheckpointPercentages must ascend within 1 to 100, each once", "checkpoints")
    if command.checkpoint_delay_s is not None and not points:
        raise invalid("CheckpointDelay needs CheckpointPercentages", "checkpoint_delay_s")
    if not 0 <= _delay(command) <= limits.CHECKPOINT_DELAY_S_MAX or not 0 <= command.bake_s <= limits.BAKE_S_MAX:
        raise invalid("CheckpointDelay and BakeTime must be 0 to 172800", "checkpoint_delay_s")
    if len(command.alarms) > limits.REFRESH_ALARMS_MAX or len(set(command.alarms)) != len(command.alarms):
        raise invalid(f"AlarmSpecification: at most {limits.REFRESH_ALARMS_MAX} alarms, each once", "alarms")
    if command.protected not in ("Refresh", "Ignore", "Wait"):
        raise invalid("ScaleInProtectedInstances must be Refresh, Ignore or Wait", "protected")
    if command.standby not in ("Terminate", "Ignore", "Wait"):
        raise invalid("StandbyInstances must be Terminate, Ignore or Wait", "standby")


# --- the reconciler


def advance(turn: Turn) -> float | None:
    """One look at the refresh under way. Returns when to look again on time's account."""
    refresh = turn.refresh()
    if refresh is None:
        return None
    if not turn.allows("InstanceRefresh"):
        return _rest(turn, refresh)
    if turn.group.failures >= limits.REFRESH_FAILURES_MAX:
        return _fail(turn, refresh, "The launches of replacements failed.")
    left = _left(turn, refresh)
    refresh = _progress(turn, refresh, len(left))
    if refresh.pause_until is not None and turn.now < refresh.pause_until:
        return refresh.pause_until
    if refresh.live_percent >= refresh.goal:
        return _finish(turn, refresh)
    if not (turn.allows("Launch") and turn.allows("Terminate")):
        return _rest(turn, refresh)
    able = [one for one in left if _may_go(refresh, one)]
    if not able:
        return _wait(turn, refresh, "Instances that are protected or in standby were not released within an hour.")
    return _replace_some(turn, refresh, able, len(left))


def _left(turn: Turn, refresh: Refresh) -> list[Member]:
    """Members that are still to be replaced, those that wait for one included."""
    found = [one for one in turn.base() if one.number < refresh.before]
    found += [one for one in turn.members.values() if one.state in ASIDE and one.number < refresh.before]
    if refresh.protected == "Ignore":
        found = [one for one in found if not one.protected]
    if refresh.standby == "Ignore":
        found = [one for one in found if one.state not in ASIDE]
    if refresh.skip_matching:
        found = [one for one in found if not replacing.matches(one, refresh)]
    return sorted(found, key=lambda one: (one.state == "InService", one.number))


def _pool_left(turn: Turn, refresh: Refresh) -> int:
    """How many the warm pool lacks of what is new and ready."""
    if refresh.goal < 100:
        return 0
    fresh = sum(one.state in READY and not replacing.is_stale(turn, one) for one in turn.members.values())
    return max(0, sizing.warm_target(turn) - fresh)


def _may_go(refresh: Refresh, member: Member) -> bool:
    if member.state in ASIDE:
        return refresh.standby == "Terminate"
    return not member.protected or refresh.protected == "Refresh"


def _progress(turn: Turn, refresh: Refresh, left: int) -> Refresh:
    """Count, and stop at a checkpoint that has been reached: its instances are replaced and have warmed up."""
    pool_left = _pool_left(turn, refresh)
    total, pool_total = max(refresh.total, left), max(refresh.pool_total, pool_left)
    stands = (left, pool_left) == (refresh.left, refresh.pool_left)
    stands = stands and (refresh.waiting_for != UNSOUND or _awaits_balancers(turn, refresh))
    after = replace(
        refresh, total=total, left=left, pool_total=pool_total, pool_left=pool_left,
        percent=done_percent(total + pool_total, left + pool_left),
        waiting_until=refresh.waiting_until if stands else None,
    )  # fmt: skip
    ahead, done = after.checkpoints[after.passed :], after.live_percent
    if ahead and ahead[0] <= done < after.goal and _ready(turn, after) >= turn.group.desired:
        passed = after.passed + sum(point <= done for point in ahead)
        after = replace(after, passed=passed, pause_until=turn.now + after.checkpoint_delay_s)
    if after != refresh:
        turn.write(after)
    return after


def _replace_some(turn: Turn, refresh: Refresh, able: list[Member], left: int) -> float | None:
    """Take out what the group can miss, or launch ahead where it may be larger for a while."""
    group = turn.group
    replaced = {one.replaces for one in turn.active() if one.replaces}
    count = max(0, min(len(able), _until_checkpoint(refresh, left)) - len(replaced))
    aside = [one for one in able if one.state in ASIDE]
    for member in aside[:count]:
        moves.terminate(turn, member, texts.replaced(turn.now, texts.REFRESH))
    able = [one for one in able if one.state not in ASIDE and one.key not in replaced][: max(0, count - len(aside))]
    most = min(group.max_size, group.desired * refresh.max_healthy // 100)
    held_back = False
    for member in list(able[: max(0, most - len(turn.active()))]):
        if not room_for_launches(turn) or not replacing.replace_one(turn, member, texts.REFRESH):
            held_back = True
            break
        able.remove(member)
    spare = _ready(turn, refresh) - math.ceil(group.desired * refresh.min_healthy / 100)
    if spare <= 0 and replacing.is_settled(turn) and _ready(turn, refresh) >= group.desired:
        if held_back:
            until = _wait(turn, refresh, "Replacements could not be launched within an hour.")
            return _earliest(next_try(turn), until)
        spare = 1
    for member in able:
        if member.state == "InService" and spare <= 0:
            break
        spare -= member.state == "InService"
        moves.terminate(turn, member, texts.replaced(turn.now, texts.REFRESH))
    return _earliest(_next_sound(turn, refresh), next_try(turn) if held_back else None)


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _until_checkpoint(refresh: Refresh, left: int) -> int:
    """How many may still be begun before the next checkpoint."""
    ahead = refresh.checkpoints[refresh.passed :]
    if not ahead:
        return left
    return max(0, math.ceil(refresh.total * ahead[0] / 100) - (refresh.total - left))


def _ready(turn: Turn, refresh: Refresh) -> int:
    """Members in service and healthy; those launched by the refresh only once their balancers found them healthy, where
    the group asks those, and they have warmed up."""
    warmup = replacing.warmup_s(turn, refresh)
    return sum(
        one.state == "InService"
        and not one.unhealthy
        and (
            one.number < refresh.before
            or (turn.now >= (one.in_service or 0.0) + warmup and not replacing.is_awaited(turn, one))
        )
        for one in turn.active()
    )


def _next_sound(turn: Turn, refresh: Refresh) -> float | None:
    """When what was launched has warmed up; or, where balancers do not find it healthy, the end of waiting for that."""
    wake = _next_ready(turn, refresh)
    if not _awaits_balancers(turn, refresh):
        return wake
    return _earliest(wake, _wait(turn, refresh, UNSOUND))


def _awaits_balancers(turn: Turn, refresh: Refresh) -> bool:
    new = [one for one in turn.active() if one.in_service and one.number >= refresh.before]
    return any(replacing.is_awaited(turn, one) for one in new)


def _next_ready(turn: Turn, refresh: Refresh) -> float | None:
    warmup = replacing.warmup_s(turn, refresh)
    ends = [one.in_service + warmup for one in turn.active() if one.in_service and one.number >= refresh.before]
    return min((end for end in ends if end > turn.now), default=None)


def _finish(turn: Turn, refresh: Refresh) -> float | None:
    """Enough are replaced: wait until they are ready, renew the pool, bake, and keep the desired configuration."""
    if len(turn.base()) < turn.group.desired or _ready(turn, refresh) < turn.group.desired:
        return _next_sound(turn, refresh)
    if refresh.pool_left and refresh.status != "Baking":
        return _renew_pool(turn, refresh)
    if refresh.bake_s and refresh.status == "InProgress":
        refresh = replace(refresh, status="Baking", pause_until=turn.now + refresh.bake_s)
        turn.write(refresh)
        return refresh.pause_until
    done = "RollbackSuccessful" if refresh.status == "RollbackInProgress" else "Successful"
    turn.change(**refresh.config)
    _end(turn, refresh, done, "")
    return None


def _renew_pool(turn: Turn, refresh: Refresh) -> float | None:
    """End what the warm pool has from before; it is filled again as ever, and the refresh waits for that."""
    if not (turn.allows("Launch") and turn.allows("Terminate")):
        return _rest(turn, refresh)
    old = [one for one in turn.members.values() if one.state in WARM and replacing.is_stale(turn, one)]
    for member in sorted(old, key=lambda one: one.number):
        moves.terminate(turn, member, texts.replaced(turn.now, texts.REFRESH))
    return _wait(turn, refresh, "The warm pool could not be filled within an hour.")


def _wait(turn: Turn, refresh: Refresh, why: str) -> float | None:
    """For instances that are protected or in standby, or for room: an hour without progress, for one reason."""
    until = refresh.waiting_until if refresh.waiting_for == why else None
    if until is None:
        until = turn.now + limits.REFRESH_WAIT_S
        turn.write(replace(refresh, waiting_until=until, waiting_for=why))
    if turn.now >= until:
        return _fail(turn, refresh, why)
    return until


def _rest(turn: Turn, refresh: Refresh) -> float | None:
    """Suspended: the hour of `_wait` begins anew after it."""
    if refresh.waiting_until is not None:
        turn.write(replace(refresh, waiting_until=None))
    return None


def _fail(turn: Turn, refresh: Refresh, why: str) -> float | None:
    _end_ahead(turn, refresh)
    if refresh.status == "RollbackInProgress":
        _end(turn, refresh, "RollbackFailed", why)
    elif refresh.auto_rollback:
        _turn_back(turn, refresh, why)
    else:
        _end(turn, refresh, "Failed", why)
    return None


def _end_ahead(turn: Turn, refresh: Refresh) -> None:
    """What was launched ahead and has not taken over goes again: what it was to replace serves on."""
    for member in turn.active():
        if member.replaces and member.number >= refresh.before:
            moves.terminate(turn, member, texts.unhealthy(turn.now, "an instance refresh that goes no further"))


def _turn_back(turn: Turn, refresh: Refresh, why: str) -> None:
    _end_ahead(turn, refresh)
    turn.change(failures=0, retry_at=0.0)
    turn.write(
        replace(
            refresh,
            status="RollbackInProgress",
            reason=why,
            config=refresh.previous,
            version=refresh.previous["template"].get("version", ""),
            before=turn.group.serial,
            skip_matching=True,
            total=0,
            pool_total=0,
            passed=len(refresh.checkpoints),
            pause_until=None,
            waiting_until=None,
        )
    )


def _end(turn: Turn, refresh: Refresh, status: str, reason: str) -> None:
    assert status in ENDED
    turn.write(replace(refresh, status=status, reason=reason or refresh.reason, ended=turn.now, pause_until=None))
    turn.change(refresh="")
