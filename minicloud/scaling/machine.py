"""The machine of auto scaling groups: requests and reports in, records and effects out.

    groups.py membership.py hooks.py rules.py refreshing.py     what users ask
    moves.py                                                    one member: launched, in service, drained, ended
    sizing.py replacing.py places.py termination.py             how many, where, which
    reconcile.py                                                the steps from what is to what should be

Every command writes facts or wishes into one group and then lets the reconciler take every step that follows. Effects
say which entities changed; what is to be done in the world follows from the records (orders.py).

Never: more members in service or on their way than max; two instances for one member (a member has one client token for
ever); an instance without a member, except where the launcher has not answered yet, and then it is asked again; a group
that launches again and again what dies at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from minicloud.base.machine import Context, Outcome, Record, Tick
from minicloud.scaling import commands, groups, hooks, limits, membership, moves, reconcile, refreshing, rules, texts
from minicloud.scaling.errors import no_such_instance
from minicloud.scaling.lifecycle import LEAVING
from minicloud.scaling.model import KINDS, Listener, Member, Scheduled
from minicloud.scaling.places import launch_failed, place_worked
from minicloud.scaling.state import State, Stumbled, Turn

Rule = Callable[[Turn, Any], Any]


class Scaling:
    """Implements base.machine.Machine."""

    def __init__(self) -> None:
        self.state = State()
        self._of_group: dict[type[Any], Rule] = {
            commands.UpdateGroup: groups.update,
            commands.DeleteGroup: groups.delete,
            commands.SetDesired: groups.set_desired,
            commands.ChangeTargets: groups.change_targets,
            commands.TagGroup: groups.tag,
            commands.CollectMetrics: groups.collect_metrics,
            commands.SetNotifications: groups.set_notifications,
            commands.SuspendProcesses: groups.suspend,
            commands.PutWarmPool: groups.put_warm_pool,
            commands.DeleteWarmPool: lambda turn, _: turn.change(warm=None),
            commands.PutHook: hooks.put,
            commands.DeleteHook: hooks.delete,
            commands.EndWait: hooks.answer,
            commands.Attach: membership.attach,
            commands.Detach: membership.detach,
            commands.EnterStandby: membership.enter_standby,
            commands.ExitStandby: membership.exit_standby,
            commands.Protect: membership.protect,
            commands.StartRefresh: refreshing.start,
            commands.CancelRefresh: lambda turn, _: refreshing.cancel(turn),
            commands.RollbackRefresh: _roll_back,
            commands.PutPolicy: rules.put_policy,
            commands.DeletePolicy: rules.delete_policy,
            commands.ExecutePolicy: rules.execute,
            commands.Evaluate: rules.evaluate,
            commands.ForecastMade: rules.forecast_made,
            commands.PutScheduled: rules.put_scheduled,
            commands.DeleteScheduled: rules.delete_scheduled,
        }
        self._of_instance: dict[type[Any], Rule] = {
            commands.SetHealth: membership.set_health,
            commands.TerminateMember: membership.terminate,
        }
        self._reports: dict[type[Any], Callable[[Turn, Member, Any], None]] = {
            commands.InstanceSeen: lambda turn, member, seen: moves.note_seen(turn, member, seen),
            commands.TargetSeen: _target_seen,
            commands.Drained: _drained,
            commands.HookTold: _hook_told,
        }

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(KINDS)

    def decide(self, command: Any, context: Context) -> Outcome:
        kind = type(command)
        if kind in self._of_group:
            group = self.state.group(command.scope, command.name)
            return self._settled(Turn(self.state, group, context), self._of_group[kind], command)
        if kind in self._of_instance:
            return self._settled(self._turn_of(command, context), self._of_instance[kind], command)
        if kind in self._reports:
            return self._report(command, context)
        if kind is commands.CreateGroup:
            turn = groups.create(self.state, command, context)
            reconcile.settle(turn)
            return turn.outcome(turn.group)
        if kind in (commands.Launched, commands.LaunchFailed):
            return self._answer(command, context)
        if kind in (commands.TargetsLeft, commands.TargetsGone, commands.Told):
            return self._done(command, context)
        if kind in (commands.Listen, commands.Unheard):
            return self._listen(command, context)
        if kind is commands.Sweep:
            return self._sweep(command.observed, context)
        assert kind is Tick, kind
        return self._tick(context)

    def apply(self, record: Record) -> None:
        self.state.apply(record)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self.state.lookup(kind, key)

    def due(self) -> float | None:
        return self.state.due()

    # --- requests

    def _settled(self, turn: Turn, rule: Rule, command: Any) -> Outcome:
        reply = rule(turn, command)
        if not turn.changes and reconcile.is_quiet(turn.group, turn.roster, turn.now):
            return Outcome(turn.group if reply is None else reply)
        reconcile.settle(turn)
        return turn.outcome(turn.group if reply is None else reply)

    def _turn_of(self, command: commands.SetHealth | commands.TerminateMember, context: Context) -> Turn:
        member = self.state.member_of(command.instance_id)
        group = self.state.groups.get(member.group) if member is not None else None
        if group is None or group.scope != command.scope:
            raise no_such_instance(command.instance_id)
        return Turn(self.state, group, context)

    # --- reports

    def _report(self, command: Any, context: Context) -> Outcome:
        """About an instance; of one that is nobody's member there is nothing to say."""
        member = self.state.member_of(command.instance_id)
        group = self.state.groups.get(member.group) if member is not None else None
        if member is None or group is None:
            return Outcome()
        turn = Turn(self.state, group, context)
        self._reports[type(command)](turn, member, command)
        if not turn.changes:
            return Outcome()
        reconcile.settle(turn)
        return turn.outcome()

    def _answer(self, command: commands.Launched | commands.LaunchFailed, context: Context) -> Outcome:
        """The launcher's answer, which may come twice, or after the member has been told to go."""
        group = self.state.groups.get(command.group)
        if group is None:
            return Outcome()
        turn = Turn(self.state, group, context)
        member = turn.members.get(f"{command.group}/{command.number:08d}")
        if member is None or member.instance_id:
            return Outcome()
        if isinstance(command, commands.Launched):
            _launched(turn, member, command)
        else:
            _launch_failed(turn, member, command)
        reconcile.settle(turn)
        return turn.outcome()

    def _done(self, command: commands.TargetsLeft | commands.TargetsGone | commands.Told, context: Context) -> Outcome:
        """Something that the group itself had to do in the world, and what it found there."""
        group = self.state.groups.get(command.group)
        if group is None:
            return Outcome()
        turn = Turn(self.state, group, context)
        if isinstance(command, commands.Told):
            groups.told(turn, command)
        elif isinstance(command, commands.TargetsGone):
            groups.targets_gone(turn, command)
        else:
            groups.targets_left(turn, command)
        if turn.group.deleting:
            reconcile.settle(turn)
        return turn.outcome()

    def _listen(self, command: commands.Listen | commands.Unheard, context: Context) -> Outcome:
        """A scope stops to listen only where nobody has said `Listen` since it was asked: the number says so."""
        key = command.scope.key()
        known = self.state.listeners.get(key)
        if isinstance(command, commands.Listen):
            number = 1 + (int(context.now * 1e6) if known is None else known.number)
            return Outcome(records=[Record(Listener.kind, key, Listener(key, number).body())])
        if known is None or known.number != command.number:
            return Outcome()
        return Outcome(records=[Record(Listener.kind, key, None)])

    # --- all groups

    def _tick(self, context: Context) -> Outcome:
        """Scheduled actions and groups whose time has come. One over which it stumbles keeps no other waiting."""
        made = Outcome()
        acted: dict[str, list[Scheduled]] = {}
        for entity in self.state.overdue(context.now):
            key = entity.group if isinstance(entity, Scheduled) else entity.key
            acted.setdefault(key, [])
            if isinstance(entity, Scheduled):
                acted[key].append(entity)
        for key, actions in acted.items():
            try:
                turn = Turn(self.state, self.state.groups[key], context)
                for action in actions:
                    rules.run_scheduled(turn, action)
                reconcile.settle(turn)
                _join(made, turn.outcome())
            except Exception as error:  # noqa: BLE001 - of one group: all others go on, and whoever takes effects logs it
                _join(made, self._put_off(key, actions, context))
                made.effects.append(Stumbled(key, error))
        return made

    def _put_off(self, key: str, actions: Iterable[Scheduled], context: Context) -> Outcome:
        turn, later = Turn(self.state, self.state.groups[key], context), context.now + limits.STUMBLED_S
        turn.change(wake=later)
        for action in actions:
            turn.write(replace(action, next=later))
        return turn.outcome()

    def _sweep(self, observed: Mapping[str, Mapping[str, str]], context: Context) -> Outcome:
        """Every group against everything that compute has; for start-up, and now and then against lost reports."""
        made = Outcome()
        nothing: dict[str, str] = {}
        for key, group in self.state.groups.items():
            roster = self.state.rosters.get(key)
            seen = observed.get(key, nothing)
            same = seen == (roster.running if roster is not None else nothing)
            if same and reconcile.is_quiet(group, roster, context.now):
                continue
            turn = Turn(self.state, group, context)
            _compare(turn, seen)
            reconcile.settle(turn)
            _join(made, turn.outcome())
        return made


def _join(made: Outcome, more: Outcome) -> None:
    made.records += more.records
    made.effects += more.effects


def _compare(turn: Turn, seen: Mapping[str, str]) -> None:
    for member in _known(turn.members.values()):
        state = seen.get(member.instance_id, "terminated")
        moves.note_seen(turn, member, commands.InstanceSeen(member.instance_id, state, fault=True))


def _known(members: Iterable[Member]) -> list[Member]:
    return sorted((one for one in members if one.instance_id), key=lambda one: one.number)


def _target_seen(turn: Turn, member: Member, seen: commands.TargetSeen) -> None:
    turn.put(member, target_bad=not seen.healthy, target_passed=seen.passed)


def _drained(turn: Turn, member: Member, command: commands.Drained) -> None:
    if member.drains:
        moves.drained(turn, member)


def _hook_told(turn: Turn, member: Member, command: commands.HookTold) -> None:
    wait = (member.waits or {}).get(command.hook)
    if wait is not None and wait["token"] == command.token:
        turn.put(member, waits={**(member.waits or {}), command.hook: {**wait, "told": True}})


def _roll_back(turn: Turn, command: commands.RollbackRefresh) -> str:
    why = f"The alarm {command.alarm} went off." if command.alarm else "Rolled back by the user."
    return refreshing.roll_back(turn, why, by_alarm=bool(command.alarm))


def _launched(turn: Turn, member: Member, command: commands.Launched) -> None:
    place_worked(turn, member.zone, member.type)
    turn.put(
        member,
        instance_id=command.instance_id,
        zone=command.zone,
        type=command.type or member.type,
        version=command.version or member.version,
    )
    if member.state in LEAVING:
        return  # it has been told to go meanwhile; the reconciler sees to it
    turn.progress(
        member.activity,
        description=texts.launching(command.instance_id),
        status="PreInService",
        instance_id=command.instance_id,
        progress=30,
    )


def _launch_failed(turn: Turn, member: Member, command: commands.LaunchFailed) -> None:
    """Nothing was launched."""
    turn.drop(member)
    status = "Cancelled" if member.state in LEAVING else "Failed"
    turn.progress(
        member.activity,
        status=status,
        description=texts.launch_failed(command.message),
        message=f"{command.message}  Launching EC2 instance failed."[:255],
    )
    if member.state in LEAVING:
        return
    launch_failed(turn, member, command.blames)
