"""A function host as the functions process keeps count of it: what is there, and what makes more.

What is counted is what was promised and is not over yet: from the choice of a host until an environment's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from minicloud.environment import choice
from minicloud.environment.member import BUSY, IDLE, STARTING, Member
from minicloud.function.ports import Counts, EnvironmentSpec


class Makes(Protocol):
    """What makes environments on a host: maker.Maker here, far.FarHost elsewhere."""

    @property
    def runtimes(self) -> Sequence[str]: ...

    def free_mib(self) -> int:
        """Of the machine's memory, as last heard."""
        ...

    async def make(self, spec: EnvironmentSpec, *, provisioned: bool) -> Member:
        """Ordered; the owner hears of it, not before this returns. Raises CloudError, OSError."""
        ...


class SiteNow(NamedTuple):
    """For people. `state`: open, cordoned, drained."""

    name: str
    state: str
    environments: Counts
    memory_mib: int
    promised_mib: int


def _stays() -> None:
    return None


class Site:
    """`closed`: why nothing new comes up there, '' if it does."""

    def __init__(
        self,
        name: str,
        makes: Makes,
        capacity: tuple[int, float],
        *,
        near: bool = False,
        lost: Callable[[], None] = _stays,
    ) -> None:
        """`capacity`: memory in MiB, cores. `lost`: ends what is known of its environments, when the host is gone."""
        self.name = name
        self.makes = makes
        self.near = near
        self.lost = lost
        self.closed = ""
        self.members: set[Member] = set()
        self._memory_mib, self._cores = capacity
        self._promised_mib = 0
        self._ordered_mib: list[int] = []  # of each environment that is not a member yet

    async def make(self, spec: EnvironmentSpec, *, provisioned: bool) -> Member:
        """Counted from now on. Raises CloudError, OSError."""
        self._promised_mib += spec.memory_mib
        self._ordered_mib.append(spec.memory_mib)
        try:
            member = await self.makes.make(spec, provisioned=provisioned)
        except BaseException:
            self._promised_mib -= spec.memory_mib
            raise
        finally:
            self._ordered_mib.remove(spec.memory_mib)
        self.members.add(member)
        return member

    def uncount(self, member: Member) -> None:
        """It is going: what it has is free for others. Idempotent."""
        if member.counted:
            member.counted = False
            self._promised_mib -= member.spec.memory_mib

    def gone(self, member: Member) -> None:
        self.uncount(member)
        self.members.discard(member)

    def now(self) -> SiteNow:
        states = [one.state for one in self.members]
        starting = states.count(STARTING) + len(self._ordered_mib)
        counts = Counts(states.count(BUSY), states.count(IDLE), starting)
        return SiteNow(self.name, self.closed or "open", counts, self._memory_mib, self._promised_mib)

    def seen(self, runtime: str) -> choice.Site:
        """As it is now, for an environment of this runtime."""
        at_work = sum(one.spec.memory_mib for one in self.members if one.state in (STARTING, BUSY))
        return choice.Site(
            name=self.name,
            near=self.near,
            memory_mib=self._memory_mib,
            cores=self._cores,
            free_mib=self.makes.free_mib(),
            closed=self.closed or ("" if runtime in self.makes.runtimes else f"it has no {runtime}"),
            promised_mib=self._promised_mib,
            at_work_mib=at_work + sum(self._ordered_mib),
            environments=len(self.members) + len(self._ordered_mib),
        )


def by_site(idle: Iterable[tuple[str, Member]]) -> dict[str, list[Member]]:
    """{host: its idle environments}, those that were idle longest first."""
    found: dict[str, list[Member]] = {}
    for name, member in sorted(idle, key=lambda pair: pair[1].idle_since):
        found.setdefault(name, []).append(member)
    return found
