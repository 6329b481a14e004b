"""In which order the visible messages of a queue are handed out. An index over the rows: rebuilt, never stored.

Standard: fresh messages in the order of their arrival; those that came back in the order of their return; a receive
takes from both by turns, so neither starves the other. Messages with a group id are tenants of a fair queue: the lane
without a group and each tenant's lane are served round robin, so a quiet tenant waits one round, however long a
noisy one's backlog is.

FIFO: a group is `ready` (in the ring), `flying` (messages of it are in flight: nothing more of it is handed out) or
empty. Returned messages of a group go before its waiting ones, ordered by sequence number.

Entries may be stale: a message that expired or was purged stays in its lane until it is popped and skipped there.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

from minicloud.queue.ranges import Ranges
from minicloud.queue.rows import BITS, ROWS, VISIBLE, Rows


class Group:
    """A FIFO message group or a tenant of a fair queue. `size` counts its live messages in any state."""

    __slots__ = ("flying", "name", "number", "ready", "returned", "size", "waiting")

    def __init__(self, number: int, name: bytes) -> None:
        self.number = number
        self.name = name
        self.size = 0
        self.flying = 0
        self.ready = False
        self.waiting: deque[int] | list[int] = []
        self.returned: list[int] = []

    def push(self, seq: int) -> None:
        if len(self.waiting) == 64 and isinstance(self.waiting, list):
            self.waiting = deque(self.waiting)  # a deque costs 600 bytes empty: only long lines get one
        self.waiting.append(seq)

    def pop(self) -> int:
        """The lower of both heads: after a restart a returned message waits among the others. IndexError when empty."""
        waiting = self.waiting
        if self.returned and (not waiting or self.returned[0] < waiting[0]):
            return self.returned.pop(0)
        return waiting.popleft() if isinstance(waiting, deque) else waiting.pop(0)

    def __bool__(self) -> bool:
        return bool(self.returned or self.waiting)


Taken = tuple[list[int], list[int]]
_EMPTY: deque[Group | None] = deque(maxlen=0)  # what idle queues share: most of a large number are idle


class StandardLine:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._fresh = Ranges()
        self._back = Ranges()
        self._odd = 0
        self._ring: deque[Group | None] = _EMPTY  # None: the lane without a group
        self._plain_ready = False

    def arrive(self, start: int, count: int, group: Group | None) -> None:
        if group is None:
            self._fresh.push(start, count)
            self._ready_plain()
            return
        for seq in range(start, start + count):
            group.push(seq)
        self._ready(group)

    def give_back(self, seq: int, group: Group | None) -> None:
        if group is None:
            self._back.push(seq, 1)
            self._ready_plain()
        else:
            group.push(seq)
            self._ready(group)

    def landed(self, group: Group) -> bool:
        """Nothing of a standard queue waits for another message to end."""
        return False

    def take(self, want: int, receives_max: int, *, fly: bool = True) -> Taken:
        """Up to `want` visible messages, and those met on the way that were received `receives_max` times already.

        `fly`: they go in flight (else they leave the queue); it makes no difference here.
        """
        taken: list[int] = []
        spent: list[int] = []
        while len(taken) < want and self._ring:
            left = want - len(taken)
            share = left if len(self._ring) == 1 else max(1, left // len(self._ring))
            group = self._ring.popleft()
            if group is None:
                self._plain_ready = False
                self._take_plain(share, receives_max, (taken, spent))
                if self._fresh or self._back:
                    self._ready_plain()
            else:
                group.ready = False
                take_group(self._rows, group, (share, receives_max), (taken, spent))
                if group:
                    self._ready(group)
        return taken, spent

    def _take_plain(self, want: int, receives_max: int, out: Taken) -> None:
        goal = len(out[0]) + want
        if self._back:
            share = want if not self._fresh else (want + self._odd) // 2
            self._odd ^= 1
            self._take_run(self._back, share, receives_max, out)
        if self._fresh:
            self._take_run(self._fresh, goal - len(out[0]), receives_max, out)
        if self._back and len(out[0]) < goal:
            self._take_run(self._back, goal - len(out[0]), receives_max, out)

    def _take_run(self, line: Ranges, want: int, receives_max: int, out: Taken) -> None:
        taken, spent = out
        while want > 0 and line:
            start, count = line.head()
            chunk = self._rows.chunks.get(start >> BITS)
            step = min(count, ROWS - (start & (ROWS - 1)))
            if chunk is None or start < chunk.base:
                line.cut(step if chunk is None else min(step, chunk.base - start))
                continue
            step = min(step, want)
            row = start - chunk.base
            if chunk.state.count(VISIBLE, row, row + step) == step and (not receives_max or chunk.count is None):
                taken.extend(range(start, start + step))
                want -= step
            else:
                for seq in range(start, start + step):
                    if chunk.state[seq - chunk.base] == VISIBLE:
                        over = receives_max and chunk.count_of(seq - chunk.base) >= receives_max
                        (spent if over else taken).append(seq)
                        want -= not over
            line.cut(step)

    def _ready_plain(self) -> None:
        if not self._plain_ready:
            self._plain_ready = True
            self._enter(None)

    def _ready(self, group: Group) -> None:
        if not group.ready:
            group.ready = True
            self._enter(group)

    def _enter(self, lane: Group | None) -> None:
        if self._ring is _EMPTY:
            self._ring = deque()
        self._ring.append(lane)


class FifoLine:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._ring: deque[Group] = deque()

    def arrive(self, start: int, count: int, group: Group | None) -> None:
        assert group is not None
        for seq in range(start, start + count):
            group.push(seq)
        self._ready(group)

    def give_back(self, seq: int, group: Group | None) -> None:
        """A message in flight is visible again; `landed` follows."""
        assert group is not None
        insort(group.returned, seq)
        self._ready(group)

    def landed(self, group: Group) -> bool:
        """One message of the group is in flight no more. True when more of the group can be received now."""
        group.flying -= 1
        self._ready(group)
        return group.ready

    def take(self, want: int, receives_max: int, *, fly: bool = True) -> Taken:
        """As many messages of one group as there are, then the next group. `fly`: those groups are in flight then."""
        taken: list[int] = []
        spent: list[int] = []
        while len(taken) < want and self._ring:
            group = self._ring.popleft()
            group.ready = False
            before = len(taken)
            take_group(self._rows, group, (want - before, receives_max), (taken, spent))
            if fly:
                group.flying += len(taken) - before
            self._ready(group)
        return taken, spent

    def _ready(self, group: Group) -> None:
        if group and not group.flying and not group.ready:
            group.ready = True
            self._ring.append(group)


Line = StandardLine | FifoLine


def take_group(rows: Rows, group: Group, most: tuple[int, int], out: Taken) -> None:
    """Pop up to most[0] visible messages; those received most[1] times already (0: no limit) go to out[1]."""
    want, receives_max = most
    taken, spent = out
    while want > 0 and group:
        seq = group.pop()
        found = rows.find(seq)
        if found is None or found[0].state[found[1]] != VISIBLE:
            continue
        if receives_max and found[0].count_of(found[1]) >= receives_max:
            spent.append(seq)
        else:
            taken.append(seq)
            want -= 1
