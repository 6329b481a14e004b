"""Provisioned concurrency: environments that are kept warm follow what is configured.

Each version that a configuration leads to (its own, or its alias's) is prepared with the sum of what is asked for. A
preparation that fails is tried again, after a pause that doubles; its reason is shown meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from minicloud.base.errors import CloudError
from minicloud.function.invoking import Specs
from minicloud.function.model import Provisioned
from minicloud.function.ports import Environments
from minicloud.function.state import State

log = logging.getLogger(__name__)

IN_PROGRESS, READY, FAILED = "IN_PROGRESS", "READY", "FAILED"
PAUSE_S = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class Warm:
    """How far a configuration is."""

    available: int
    status: str
    reason: str = ""


class Warmth:
    def __init__(self, state: State, specs: Specs, environments: Environments) -> None:
        self._state = state
        self._specs = specs
        self._environments = environments
        self._there: dict[str, Warm] = {}  # version ARN -> how many of it
        self._asked: dict[str, tuple[str, int]] = {}  # version ARN -> revision, count
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def shown(self, one: Provisioned) -> Warm:
        found = self._there.get(self._version(one))
        if found is None:
            return Warm(0, IN_PROGRESS)
        return Warm(min(found.available, one.count), found.status, found.reason)

    def follow(self) -> None:
        """Call it whenever configurations, aliases or versions may have changed."""
        wanted: Counter[str] = Counter()
        for one in self._state.provisioned.values():
            wanted[self._version(one)] += one.count
        for arn in [*wanted, *(arn for arn in self._asked if arn not in wanted)]:
            version = self._state.versions.get(arn)
            asked = None if version is None else (version.revision, wanted[arn])
            if version is None or asked == self._asked.get(arn, (version.revision, 0)):
                if version is None:
                    self._forget(arn)
                continue
            assert asked is not None
            self._forget(arn)
            if wanted[arn]:
                self._asked[arn] = asked
            self._tasks[arn] = asyncio.create_task(self._prepare(arn, wanted[arn]))

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _forget(self, arn: str) -> None:
        self._asked.pop(arn, None)
        self._there.pop(arn, None)
        task = self._tasks.pop(arn, None)
        if task is not None:
            task.cancel()

    def _version(self, one: Provisioned) -> str:
        alias = self._state.aliases.get(one.arn)
        return one.arn if alias is None else f"{one.function}:{alias.version}"

    async def _prepare(self, arn: str, count: int) -> None:
        pause_s = PAUSE_S[0]
        while (version := self._state.versions.get(arn)) is not None:
            spec = self._specs.of(self._state, version)
            try:
                there = await self._environments.prepare(spec, count)
                if not count or there >= count:
                    self._there[arn] = Warm(there, READY)
                    return
                reason = f"{there} of {count} environments came up"
                self._there[arn] = Warm(there, FAILED, reason)
            except CloudError as error:
                self._there[arn] = Warm(0, FAILED, error.message)
                log.warning("provisioned concurrency of %s: %s", arn, error)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])
