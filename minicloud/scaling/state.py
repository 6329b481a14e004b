"""The tables of auto scaling, their indexes, and the turn in which one group's decision is written.

`State.apply` is the only mutator. A `Turn` is a group as it will be: reads see what the decision has written so far,
and the records are those of the entities that came out other than they were.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Outcome, Record, Tables
from minicloud.scaling import limits
from minicloud.scaling.errors import no_such_group
from minicloud.scaling.lifecycle import ACTIVE
from minicloud.scaling.model import KINDS, Activity, Entity, Group, Listener, Member, Policy, Refresh, Scheduled
from minicloud.scaling.notices import bus_of, event_of


class Touched(NamedTuple):
    """The effect of every record: this entity is another one now (None: gone). The service acts on it."""

    kind: str
    key: str
    entity: Entity | None


class Stumbled(NamedTuple):
    """The effect of a mistake of ours: this group could not be looked at, all others were."""

    group: str
    error: Exception


@dataclass(slots=True)
class Roster:
    """What belongs to one group. `plain` counts plain members by zone, `running` has their ids, `odd` the others."""

    members: dict[str, Member] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    odd: set[str] = field(default_factory=set)
    policies: dict[str, Policy] = field(default_factory=dict)
    scheduled: dict[str, Scheduled] = field(default_factory=dict)
    activities: dict[str, Activity] = field(default_factory=dict)
    refreshes: dict[str, Refresh] = field(default_factory=dict)


class State(Tables):
    """All groups of the cloud."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.rosters: dict[str, Roster] = defaultdict(Roster)
        self.listeners: dict[str, Listener] = {}  # by scope
        self._group_of: dict[str, str] = {}  # instance id -> member key
        tables: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        super().__init__(KINDS, tables | {Group.kind: self.groups, Listener.kind: self.listeners})
        self._due: list[tuple[float, str, str]] = []

    # --- questions

    def group(self, scope: Scope, name: str) -> Group:
        """Raises NotFound (ValidationError)."""
        found = self.groups.get(scope.key(name))
        if found is None:
            raise no_such_group(name)
        return found

    def of_scope(self, scope: Scope) -> list[Group]:
        return [group for group in self.groups.values() if group.scope == scope]

    def member_of(self, instance_id: str) -> Member | None:
        key = self._group_of.get(instance_id)
        return None if key is None else self._tables[Member.kind].get(key)

    def due(self) -> float | None:
        return self._due[0][0] if self._due else None

    def overdue(self, now: float) -> list[Entity]:
        """Groups and scheduled actions whose time has come, earliest first."""
        end = bisect_right(self._due, now, key=lambda entry: entry[0])
        return [self._tables[kind][key] for _, kind, key in self._due[:end]]

    # --- indexes

    def _index(self, entity: Entity) -> None:
        due = _due(entity)
        if due is not None:
            insort(self._due, (due, entity.kind, entity.key))
        if isinstance(entity, Group | Listener):
            return
        roster = self.rosters[entity.group]  # type: ignore[attr-defined]
        if isinstance(entity, Member):
            roster.members[entity.key] = entity
            self._index_member(roster, entity)
        else:
            _shelf(roster, entity)[entity.key] = entity

    def _unindex(self, entity: Entity) -> None:
        due = _due(entity)
        if due is not None:
            del self._due[bisect_left(self._due, (due, entity.kind, entity.key))]
        if isinstance(entity, Group | Listener):
            return
        roster = self.rosters[entity.group]  # type: ignore[attr-defined]
        if isinstance(entity, Member):
            del roster.members[entity.key]
            self._unindex_member(roster, entity)
        else:
            del _shelf(roster, entity)[entity.key]
        if not any((roster.members, roster.policies, roster.scheduled, roster.activities, roster.refreshes)):
            del self.rosters[entity.group]  # type: ignore[attr-defined]

    def _index_member(self, roster: Roster, member: Member) -> None:
        if member.instance_id:
            self._group_of[member.instance_id] = member.key
        if member.plain:
            roster.plain[member.zone] = roster.plain.get(member.zone, 0) + 1
            roster.running[member.instance_id] = "running"
        else:
            roster.odd.add(member.key)

    def _unindex_member(self, roster: Roster, member: Member) -> None:
        self._group_of.pop(member.instance_id, None)
        roster.odd.discard(member.key)
        if member.plain:
            roster.running.pop(member.instance_id, None)
            left = roster.plain[member.zone] - 1
            if left:
                roster.plain[member.zone] = left
            else:
                del roster.plain[member.zone]


def _due(entity: Entity) -> float | None:
    if isinstance(entity, Group):
        return entity.wake
    return entity.next if isinstance(entity, Scheduled) else None


def _shelf(roster: Roster, entity: Entity) -> dict[str, Any]:
    if isinstance(entity, Policy):
        return roster.policies
    if isinstance(entity, Scheduled):
        return roster.scheduled
    return roster.activities if isinstance(entity, Activity) else roster.refreshes


class Turn:
    """One group within one decision."""

    def __init__(self, state: State, group: Group, context: Context) -> None:
        self.state, self.context, self.now = state, context, context.now
        self._before = state.groups.get(group.key)
        self.group = group
        self.roster = state.rosters.get(group.key) or Roster()
        self.members: dict[str, Member] = dict(self.roster.members)
        self._others: dict[tuple[str, str], Entity | None] = {}
        self._ended = False
        self.changes = 0  # counted, so that the reconciler sees when nothing changes any more

    # --- reading

    def active(self) -> list[Member]:
        """Members that count or will count for desired, in the order of their numbers."""
        found = [member for member in self.members.values() if member.state in ACTIVE]
        return sorted(found, key=lambda member: member.number)

    def base(self) -> list[Member]:
        """Those of them that count for desired now."""
        return [member for member in self.active() if not member.replaces]

    def allows(self, process: str) -> bool:
        return process not in self.group.suspended

    def refresh(self) -> Refresh | None:
        """The refresh under way."""
        if not self.group.refresh:
            return None
        written = self._others.get((Refresh.kind, self.group.refresh))
        found = written or self.roster.refreshes.get(self.group.refresh)
        return found if isinstance(found, Refresh) else None

    # --- writing

    def change(self, **fields: Any) -> None:
        after = replace(self.group, **fields)
        if after != self.group:
            self.group = after
            self.changes += 1

    def put(self, member: Member, **fields: Any) -> Member:
        after = replace(member, **fields) if fields else member
        self.changes += self.members.get(after.key) != after
        self.members[after.key] = after
        return after

    def drop(self, member: Member) -> None:
        self.members.pop(member.key, None)
        self.changes += 1

    def write(self, entity: Entity) -> None:
        """A policy, scheduled action, activity or refresh."""
        self._others[(entity.kind, entity.key)] = entity
        self.changes += 1

    def end(self) -> None:
        """The group is gone, with everything that was its own."""
        self._ended = True
        roster = self.roster
        self._others = {}
        for shelf in (roster.policies, roster.scheduled, roster.activities, roster.refreshes):
            for entity in shelf.values():
                self.erase(entity)

    def erase(self, entity: Entity) -> None:
        self._others[(entity.kind, entity.key)] = None
        self.changes += 1

    def activity(self, key: str) -> Activity | None:
        if (Activity.kind, key) in self._others:
            found = self._others[(Activity.kind, key)]
        else:
            found = self.roster.activities.get(key)
        return found if isinstance(found, Activity) else None

    def begin(self, description: str, cause: str, instance_id: str = "") -> str:
        """A new activity of the group; the oldest beyond those kept is forgotten. Returns its key."""
        number = self.group.activities + 1
        self.change(activities=number)
        key = f"{self.group.key}/{number:012d}"
        self.write(
            Activity(
                key, self.group.key, self.context.hex(32), description, cause[:1023], self.now, instance_id=instance_id
            )
        )
        old = self.activity(f"{self.group.key}/{number - limits.ACTIVITIES_KEPT:012d}")
        if old is not None:
            self.erase(old)
        return key

    def progress(self, key: str, **fields: Any) -> None:
        """Tell how an activity goes on; `status` Successful, Failed and Cancelled end it."""
        found = self.activity(key)
        if found is None or found.end is not None:
            return
        if fields.get("status") in ("Successful", "Failed", "Cancelled"):
            fields = {"end": self.now, "progress": 100, **fields}
        after = replace(found, **fields)
        event = event_of(after.description, after.status)
        told = [topic for topic, events in self.group.notifications.items() if event in events]
        if event and self.group.scope.key() in self.state.listeners:
            told.append(bus_of(self.group.scope))
        self.write(replace(after, tell=told) if told else after)

    def is_told(self) -> bool:
        """Every topic, and the event bus, knows how every activity ended."""
        keys = {*self.roster.activities, *(key for kind, key in self._others if kind == Activity.kind)}
        return not any(found.tell for key in keys if (found := self.activity(key)) is not None)

    # --- the outcome

    def outcome(self, reply: Any = None, also: Iterable[Record] = ()) -> Outcome:
        made = Outcome(reply, list(also))
        if self._ended:
            made.records.append(Record(Group.kind, self.group.key, None))
            made.effects.append(Touched(Group.kind, self.group.key, None))
        elif self.group != self._before:
            self._add(made, self.group)
        for key, member in self.members.items():
            before = self.roster.members.get(key)
            if before is not member and before != member:
                self._add(made, member)
        for key in self.roster.members:
            if key not in self.members:
                made.records.append(Record(Member.kind, key, None))
                made.effects.append(Touched(Member.kind, key, None))
        for (kind, key), entity in self._others.items():
            if entity is not None:
                self._add(made, entity)
            elif self.state.lookup(kind, key) is not None:
                made.records.append(Record(kind, key, None))
                made.effects.append(Touched(kind, key, None))
        return made

    def _add(self, made: Outcome, entity: Entity) -> None:
        made.records.append(Record(entity.kind, entity.key, entity.body()))
        made.effects.append(Touched(entity.kind, entity.key, entity))
