"""Which host can take a need, best first: a short list per (need, kind of host), kept true lazily.

The order of hosts does not depend on the request (`columns.py`), only whether a host fits does. So for each need that
is asked for, a list of the few best hosts is kept together with a bound:

    every host that is not listed, and has not changed since, ranks at or after the bound (or cannot be used at all)

A placement changes one host, and hundreds of lists may exist, so nobody updates lists. A list remembers how much of the
fleet's change log it has seen; when it is asked, it examines anew its own hosts and those that changed since: ten numpy
calls over some two hundred numbers, whatever the size of the fleet. The best of them is the best of all if it ranks
before the bound. Otherwise the list is used up, and is made again from all hosts, which costs some 100 us at 10,000
hosts and happens once in some tens of placements.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minicloud.compute.columns import NEVER, NO_KIND, Columns, Ints, Kind, Slots, Units

_LISTED = 64
_LISTED_MAX = 4 * _LISTED  # hosts that changed join a list; beyond this it is cut back to the best _LISTED
_LISTS_MAX = 4096  # some 2 KiB each; the catalogue has 416 distinct (shape, architecture)
_NEVER = np.array(NEVER)  # a 0-d array spares numpy converting a Python integer, a third of a call's cost here


class _List:
    """The best hosts for one need (with repeats), complete up to the bound."""

    __slots__ = ("admits", "bound", "needs", "seen", "slots", "wanted")

    def __init__(self, need: Units, wanted: Kind) -> None:
        self.wanted = wanted
        # Dimension and amount as a 0-d array; who needs nothing of a dimension lacks nothing of it.
        self.needs = tuple((dimension, np.array(amount)) for dimension, amount in enumerate(need) if amount > 0)
        self.admits = np.empty(0, np.bool_)  # by kind code
        self.slots: Slots = np.empty(0, np.intp)
        self.bound: Ints = _NEVER
        self.seen = -1


class Rankings:
    """The short lists over one set of columns. Pure caches: dropping one changes no answer."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._lists: dict[tuple[Units, Kind], _List] = {}

    def best(self, need: Units, wanted: Kind) -> int | None:
        """The slot that ranks first among the hosts that can take the need now; None: no host can."""
        columns, name = self._columns, (need, wanted)
        listed = self._lists.get(name)
        if listed is None:
            return self._renew(self._start(name))
        changed = columns.changes.since(listed.seen)
        if changed is None or 2 * len(changed) > len(columns.ids):
            return self._renew(listed)
        slots, keys = self._examine(listed, np.concatenate((listed.slots, changed)) if len(changed) else listed.slots)
        listed.slots, listed.seen = slots, columns.changes.end
        if not len(slots):
            return None if listed.bound is _NEVER else self._renew(listed)
        if len(slots) > _LISTED_MAX:
            self._cut(listed, keys)
        return self._first(slots, keys)

    def keys(self, need: Units, wanted: Kind) -> Ints:
        """Rank per slot of all hosts, NEVER where a host cannot take the need now. O(hosts); the caller's to change."""
        return self._examine_all(_List(need, wanted))

    def first(self, keys: Ints) -> int | None:
        """The slot of the smallest key, None if all are NEVER. O(hosts)."""
        at = int(keys.argmin())
        if keys.item(at) == NEVER:
            return None
        return at if not self._columns.ties_shared else self._first(np.arange(len(keys)), keys)

    def _start(self, name: tuple[Units, Kind]) -> _List:
        while len(self._lists) >= _LISTS_MAX:
            del self._lists[next(iter(self._lists))]
        listed = self._lists[name] = _List(*name)
        return listed

    def _cut(self, listed: _List, keys: Ints) -> None:
        _, at = np.unique(listed.slots, return_index=True)
        kept, bound = _smallest(listed.slots[at], keys[at])
        listed.slots = kept
        if bound is not _NEVER:
            listed.bound = bound

    def _examine(self, listed: _List, slots: Slots) -> tuple[Slots, Ints]:
        """Of these slots, those that can take the need and rank before the bound; and their ranks."""
        columns = self._columns
        if len(listed.admits) != len(columns.kinds):
            listed.admits = self._admits(listed.wanted)
        keys = columns.rank.take(slots)
        fits = keys < listed.bound
        fits &= listed.admits.take(columns.kind.take(slots))
        for dimension, amount in listed.needs:
            fits &= columns.free[dimension].take(slots) >= amount
        return slots.compress(fits), keys.compress(fits)

    def _examine_all(self, listed: _List) -> Ints:
        columns = self._columns
        listed.admits = self._admits(listed.wanted)
        fits = listed.admits.take(columns.kind)
        for dimension, amount in listed.needs:
            fits &= columns.free[dimension] >= amount
        return np.where(fits, columns.rank, _NEVER)

    def _admits(self, wanted: Kind) -> npt.NDArray[np.bool_]:
        return np.array([code != NO_KIND and kind.matches(wanted) for code, kind in enumerate(self._columns.kinds)])

    def _renew(self, listed: _List) -> int | None:
        keys = self._examine_all(listed)
        slots = np.flatnonzero(keys != _NEVER)
        keys = keys[slots]
        listed.slots, listed.bound = _smallest(slots, keys)
        listed.seen = self._columns.changes.end
        return self._first(slots, keys) if len(slots) else None

    def _first(self, slots: Slots, keys: Ints) -> int:
        """Where the ties of several hosts collide, the smallest host id decides; they are all in sight, as the bound
        is a rank and the best is before it."""
        at = int(keys.argmin())
        if not self._columns.ties_shared:
            return int(slots[at])
        equals: list[int] = slots[keys == keys[at]].tolist()
        return min(equals, key=lambda slot: self._columns.ids[slot])


def _smallest(slots: Slots, keys: Ints) -> tuple[Slots, Ints]:
    """The slots of the _LISTED smallest keys, and the bound: the smallest key that is left out."""
    if len(keys) <= _LISTED:
        return slots, _NEVER
    order = np.argpartition(keys, _LISTED)
    kept = order[:_LISTED]
    bound = keys[order[_LISTED]]
    return slots[kept[keys[kept] < bound]], np.array(bound)
