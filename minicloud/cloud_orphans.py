"""The sweep after each start: an instance that carries a group's name and is none of its members is ended.

A launch whose answer is still out makes an instance that nobody knows of yet. So those that look like orphans are
suspects until every launch that was under way while they were listed has been answered; launches that begin later
cannot be where they came from. An instance that left its group meanwhile does not carry the name any more: the list is
read again before anything ends.

    list -> suspects -> (all launches of then are answered) -> list again -> ended
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, NotFound
from minicloud.scaling.state import State
from minicloud.shell.background import Background
from minicloud.shell.clock import Clock

log = logging.getLogger("minicloud.autoscaler")

AGAIN_S = 5.0


class Compute(Protocol):
    """Instances, as cloud_launches.Launches has them."""

    def of_groups(self, scope: Scope) -> AsyncIterator[tuple[str, str]]:
        """(instance, group) of every instance that carries the name of one and has not ended."""
        ...

    async def terminate(self, instance_id: str, scope: Scope | None = None) -> None:
        """Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """Who looked like an orphan, and the members that any of them may turn out to be of."""

    suspects: frozenset[str]
    unanswered: frozenset[str]


class OrphanSweep(Background):
    """Every scope that has groups, once. What goes wrong is tried again; one scope keeps no other waiting."""

    def __init__(self, compute: Compute, state: State, clock: Clock) -> None:
        self._compute = compute
        self._state = state
        self._clock = clock
        self._seen: dict[Scope, _Seen] = {}

    async def _run(self) -> None:
        waiting = dict.fromkeys(group.scope for group in self._state.groups.values())
        while waiting:
            waiting = {scope: None for scope in waiting if not await self._is_swept(scope)}
            if waiting:
                await self._clock.sleep(AGAIN_S)

    async def _is_swept(self, scope: Scope) -> bool:
        try:
            return await self._sweep(scope)
        except CloudError as error:
            log.info("the sweep of %s goes on later: %s", scope.key(), error)
        except Exception:
            log.exception("the sweep of %s goes on later", scope.key())
        return False

    async def _sweep(self, scope: Scope) -> bool:
        """False: a launch that was under way is still not answered."""
        if scope not in self._seen:
            self._seen[scope] = _Seen(frozenset(await self._unknown(scope)), self._unanswered(scope))
        seen = self._seen[scope]
        if seen.unanswered & self._unanswered(scope):
            return False
        if seen.suspects:
            nobodys = {one for one in seen.suspects if self._state.member_of(one) is None}
            for instance_id, name in (await self._unknown(scope)).items():
                if instance_id in nobodys:
                    await self._end(instance_id, name, scope)
        return True

    async def _unknown(self, scope: Scope) -> dict[str, str]:
        """Instances with the name of a group that there is, none of its members; and the group."""
        found = {instance_id: name async for instance_id, name in self._compute.of_groups(scope)}
        return {
            instance_id: name
            for instance_id, name in found.items()
            if self._state.member_of(instance_id) is None and scope.key(name) in self._state.groups
        }

    def _unanswered(self, scope: Scope) -> frozenset[str]:
        """Members that wait for their instance."""
        rosters = [self._state.rosters.get(group.key) for group in self._state.of_scope(scope)]
        members = [member for roster in rosters if roster is not None for member in roster.members.values()]
        return frozenset(member.key for member in members if not member.instance_id)

    async def _end(self, instance_id: str, name: str, scope: Scope) -> None:
        log.warning("%s carries the name of the group %s and is none of its members: ended", instance_id, name)
        try:
            await self._compute.terminate(instance_id, scope)
        except NotFound:
            log.info("%s is gone already", instance_id)
