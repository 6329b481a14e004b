"""On which function host the next environment comes up. Pure.

    hosts that are open and have the runtime, with room   -> the one with the least load
    none of them has room                                 -> the least loaded one where idle environments can give way
    none has, even so                                     -> refused, by what is lacking on each

Load is what would be at work there, as a share of the host's memory and of its cores (memory buys CPU), whichever is
more. What is idle is no load: so a function that comes up now and then does so on the near host (the machine of the
functions process, which is first among equals), and a burst is spread over all, in proportion to what they have.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from minicloud.environment.limits import ENVIRONMENTS_MAX, MEMORY_FREE_MIB_MIN, MEMORY_OVERCOMMIT
from minicloud.function.limits import MIB_PER_VCPU


@dataclass(frozen=True, slots=True)
class Site:
    """A host now. `closed`: why it takes no new environments, '' if it does. `promised_mib`: limits of all that are
    there; `at_work_mib`: of those that are at work or coming up; `free_mib`: of the machine's memory, as last heard.
    """

    name: str
    near: bool
    memory_mib: int
    cores: float
    free_mib: int
    closed: str = ""
    promised_mib: int = 0
    at_work_mib: int = 0
    environments: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """`gives_way`: how many idle environments there must end first. `refused`: what is lacking, '' if it can be."""

    site: str
    gives_way: int = 0
    refused: str = ""


def choose(sites: Sequence[Site], memory_mib: int) -> str:
    """The name of the host where an environment of this memory comes up; '': none has room."""
    fit = [one for one in sites if not one.closed and not lacking(one, memory_mib)]
    return min(fit, key=lambda one: _order(one, memory_mib)).name if fit else ""


def make_way(sites: Sequence[Site], spare_mib: Mapping[str, Sequence[int]], memory_mib: int) -> Choice:
    """`spare_mib`: of each host, the limits of the idle environments that may end, in the order in which they would."""
    open_ones = sorted((one for one in sites if not one.closed), key=lambda one: _order(one, memory_mib))
    for site in open_ones:
        count = _enough(site, spare_mib.get(site.name, ()), memory_mib)
        if count is not None:
            return Choice(site.name, count)
    why = refusal(sites, memory_mib)
    for site in open_ones:
        if site.free_mib < MEMORY_FREE_MIB_MIN:  # what is idle goes, for those who come later
            return Choice(site.name, len(spare_mib.get(site.name, ())), why)
    return Choice("", 0, why)


def refusal(sites: Iterable[Site], memory_mib: int) -> str:
    """Host by host; of a single one just what it is."""
    reasons = [(one.name, one.closed or lacking(one, memory_mib)) for one in sites]
    if len(reasons) == 1:
        return reasons[0][1]
    return "; ".join(f"{name}: {reason}" for name, reason in reasons)


def lacking(site: Site, memory_mib: int) -> str:
    """'' where there is room."""
    if site.environments >= ENVIRONMENTS_MAX:
        return f"{ENVIRONMENTS_MAX} environments run"
    if site.promised_mib + memory_mib > MEMORY_OVERCOMMIT * site.memory_mib:
        return f"memory, {memory_mib} MiB are not left"
    if site.free_mib < MEMORY_FREE_MIB_MIN:
        return "memory of the machine"
    return ""


def load(site: Site, memory_mib: int) -> float:
    """With one more environment at work."""
    busy_mib = site.at_work_mib + memory_mib
    return max(busy_mib / max(site.memory_mib, 1), busy_mib / MIB_PER_VCPU / max(site.cores, 0.001))


def _order(site: Site, memory_mib: int) -> tuple[float, bool, str]:
    return load(site, memory_mib), not site.near, site.name


def _enough(site: Site, spare_mib: Sequence[int], memory_mib: int) -> int | None:
    """How many of the spare ones must end; None: all of them would not do."""
    if site.free_mib < MEMORY_FREE_MIB_MIN:
        return None
    over_mib = site.promised_mib + memory_mib - MEMORY_OVERCOMMIT * site.memory_mib
    least = max(site.environments + 1 - ENVIRONMENTS_MAX, 0)
    for count, freed_mib in enumerate(itertools.accumulate(spare_mib, initial=0)):
        if freed_mib >= over_mib and count >= least:
            return count
    return None
