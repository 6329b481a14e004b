"""Which blocks there are, without their contents: 200 bytes for each, and of a stream what a listing says.

Blocks of one size that follow each other are merged, sixteen into one, until one holds BLOCK_BYTES: so an event that is
put alone is written three or four times over in the end, and the blocks of a stream are few.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

from minicloud.logs import limits
from minicloud.logs.block import Head

SEALED = 255  # the level of a block that is not merged any more


@dataclass(slots=True)
class Kept:
    """The blocks of one stream, in the order in which they came. `next`: the number of the next event."""

    group: str = ""
    heads: list[Head] = field(default_factory=list)
    next: int = 0
    low_ms: int = 0
    high_ms: int = 0
    taken_ms: int = 0
    text: int = 0


class Index:
    """`group_of`: the key of the group that a stream is in. `texts`: what a group holds, by its key."""

    def __init__(self, group_of: Callable[[int], str] = lambda _stream: "") -> None:
        self.streams: dict[int, Kept] = {}
        self.size = 0
        self.texts: Counter[str] = Counter()
        self._group_of = group_of

    def restore(self, heads: Sequence[Head]) -> None:
        """All there are, in the order of their keys."""
        for head in heads:
            self.add(head)

    def add(self, head: Head) -> None:
        kept = self._kept(head.stream)
        insort(kept.heads, head)  # most often the last
        kept.next = max(kept.next, head.first + head.events)
        kept.text += head.text
        self.texts[kept.group] += head.text
        self.size += head.size
        kept.low_ms = min(kept.low_ms or head.low_ms, head.low_ms)
        kept.high_ms = max(kept.high_ms, head.high_ms)
        kept.taken_ms = max(kept.taken_ms, head.taken_ms)

    def _kept(self, stream: int) -> Kept:
        kept = self.streams.get(stream)
        if kept is None:
            kept = self.streams[stream] = Kept(self._group_of(stream))
        return kept

    def _shrink(self, group: str, size: int) -> None:
        self.texts[group] -= size
        if not self.texts[group]:
            del self.texts[group]

    def reserve(self, stream: int, count: int) -> int:
        """Numbers for events that are to be written: the first of them."""
        kept = self._kept(stream)
        first, kept.next = kept.next, kept.next + count
        return first

    def drop_stream(self, stream: int) -> list[Head]:
        kept = self.streams.pop(stream, Kept())
        self._shrink(kept.group, kept.text)
        self.size -= sum(head.size for head in kept.heads)
        return kept.heads

    def drop(self, gone: Sequence[Head]) -> None:
        """Of streams that stay: their next number does too."""
        doomed = set(gone)
        for stream in {head.stream for head in gone}:
            kept = self.streams[stream]
            before = kept.text
            kept.heads = [head for head in kept.heads if head not in doomed]
            self._sum_up(kept)
            self._shrink(kept.group, before - kept.text)
        self.size -= sum(head.size for head in gone)

    def replace(self, old: Sequence[Head], new: Head) -> bool:
        """Neighbours become one block. False: some of them are gone."""
        kept = self.streams.get(new.stream)
        if kept is None or not set(old) <= set(kept.heads):
            return False
        at = kept.heads.index(old[0])
        kept.heads[at : at + len(old)] = [new]
        self.size += new.size - sum(head.size for head in old)
        return True

    def has(self, head: Head) -> bool:
        kept = self.streams.get(head.stream)
        return kept is not None and head in kept.heads

    def to_merge(self, stream: int) -> list[Head]:
        """The oldest neighbours of one size, where there are enough of them behind the last sealed block; else none."""
        kept = self.streams.get(stream)
        if kept is None or len(kept.heads) < limits.MERGED_AT:
            return []
        oldest: list[Head] = []
        run: list[Head] = []
        for head in reversed(kept.heads):
            if head.level == SEALED:
                break
            if run and (head.level != run[-1].level or not _follows(head, run[-1])):
                run = []
            run.append(head)
            if len(run) >= limits.MERGED_AT:
                oldest = run[-limits.MERGED_AT :]
        return oldest[::-1]

    def expired(self, stream: int, before_ms: int) -> list[Head]:
        """Blocks in which every event is older than that."""
        kept = self.streams.get(stream)
        if kept is None or kept.low_ms >= before_ms:
            return []
        return [head for head in kept.heads if head.high_ms < before_ms]

    def oldest(self, size: int, owner: Callable[[int], str], gone: Collection[Head]) -> list[Head]:
        """Blocks of this size together: one by one, the oldest of whoever has most then. `gone` are not there."""
        of_each: dict[str, list[Head]] = defaultdict(list)
        for stream, kept in self.streams.items():
            of_each[owner(stream)] += [head for head in kept.heads if head not in gone]
        most = [(-sum(head.size for head in heads), name) for name, heads in of_each.items()]
        heapify(most)
        for heads in of_each.values():
            heads.sort(key=lambda head: head.taken_ms, reverse=True)
        found: list[Head] = []
        while size > 0 and most and of_each[most[0][1]]:
            total, name = most[0]
            head = of_each[name].pop()
            found.append(head)
            size -= head.size
            heapreplace(most, (total + head.size, name))
        return found

    @staticmethod
    def _sum_up(kept: Kept) -> None:
        kept.low_ms = min((head.low_ms for head in kept.heads), default=0)
        kept.high_ms = max((head.high_ms for head in kept.heads), default=0)
        kept.text = sum(head.text for head in kept.heads)


def _follows(one: Head, two: Head) -> bool:
    """Not where a batch between them could not be written."""
    return one.first + one.events == two.first


def level_of(size: int, level: int) -> int:
    return SEALED if size >= limits.BLOCK_BYTES else level
