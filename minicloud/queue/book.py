"""The state of a broker's queues and the only functions that change it: rows, groups, timers, live accounting.

Truth and index. Rows (rows.py), settings and deduplication entries are the truth: they follow from the frames of the
log. Lines, timers and the set of awakened queues are an index over it, kept while the broker is live, built by `start`
after a replay. Time moves messages without frames (visibility, delay and retention end): live, by one heap of timers
with lazy deletion; in a replay, by looking at the deadlines once at the end. So replay equals live at every instant.

One heap entry serves a whole receive call, a send call with a delay, or a queue's oldest message.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from minicloud.base.arn import Scope
from minicloud.queue import limits
from minicloud.queue.lines import FifoLine, Group, Line, StandardLine
from minicloud.queue.ports import SEGMENT_SHIFT, MessageLog
from minicloud.queue.rows import DEAD, DELAYED, IN_FLIGHT, VISIBLE, Chunk, Rows
from minicloud.queue.settings import Settings
from minicloud.queue.timers import Timers

_DEDUP_MS = limits.DEDUPLICATION_S * 1000
_SENT_SHIFT = 40
COUNTERS = ("sent", "received", "deleted", "expired", "purged", "dead_lettered", "forwarded", "damaged")


@dataclass(slots=True)
class Flight:
    """What one receive call took: the deadline its messages share, until some are changed or deleted."""

    number: int
    deadline_ms: int
    seqs: list[int]


class Moved(NamedTuple):
    """Where a moved message is now, and its new id if it was redriven (tag 0: not)."""

    queue: int
    seq: int
    id_tag: int
    id_seq: int


@dataclass(slots=True, eq=False)
class Queue:
    """One queue. Times in Unix milliseconds; `arn`, `name`, `attributes` and `tags` as users see them.

    `hidden`: made by another slice for itself, under its key as name; no user can name it.
    """

    number: int
    scope: Scope
    name: str
    tag: int
    settings: Settings
    attributes: dict[str, str]
    tags: dict[str, str]
    created_ms: int
    modified_ms: int
    address: int = 0
    purged_ms: int = 0
    rows: Rows = field(default_factory=Rows)
    line: Line | None = None
    groups: dict[int, Group] = field(default_factory=dict)
    group_numbers: dict[bytes, int] = field(default_factory=dict)
    group_last: int = 0
    dedup: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    dedup_order: deque[bytes] | None = None
    held: dict[int, int] = field(default_factory=dict)
    attempts: dict[bytes, tuple[int, Flight]] = field(default_factory=dict)
    delayed: deque[int] | None = None
    strays: list[int] = field(default_factory=list)
    newest_ms: int = 0
    retain_at: int = 0
    hidden: bool = False
    moved_in: bool = False
    documents: bool = False  # copies of fan-outs that are not raw have come: what is handed out is more than its frame

    @property
    def arn(self) -> str:
        return self.scope.arn("sqs", self.name)

    def is_plain(self) -> bool:
        """Its messages have no groups, and none of them was moved here."""
        return not (self.settings.fifo or self.groups or self.moved_in)

    def group_at(self, chunk: Chunk, row: int) -> Group | None:
        number = chunk.group_of(row)
        return self.groups[number] if number else None


@dataclass(slots=True)
class Tally:
    """What a queue did since somebody last asked (metering.py). empty: receives that found nothing."""

    sent: int = 0
    received: int = 0
    deleted: int = 0
    empty: int = 0


class Book:
    def __init__(self, log: MessageLog, secret: bytes, epoch: int) -> None:
        self.log = log
        self.secret = secret
        self.now_ms = 0
        self.live = False
        self.queues: dict[int, Queue] = {}
        self.arns: dict[str, Queue] = {}
        self.queue_last = 0
        self.gone_ms: dict[str, int] = {}
        self.hidden: dict[str, Queue] = {}
        self.moved: dict[int, Moved] = {}
        self.awake: set[int] = set()
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.tallies: dict[int, Tally] = {}  # by queue number, of those that did something
        self._receives = epoch << 40
        self.timers = Timers(self.queues, _is_wanted)

    # --- time

    def advance(self, now: float) -> int:
        """Bring every message to what it is at `now` (Unix seconds). Time never runs backwards here. Returns ms."""
        now_ms = max(self.now_ms, round(now * 1000))
        self.now_ms = now_ms
        self.timers.run(now_ms)
        return now_ms

    def next_receive(self) -> int:
        self._receives += 1
        return self._receives

    def tally(self, queue: Queue) -> Tally:
        found = self.tallies.get(queue.number)
        if found is None:
            found = self.tallies[queue.number] = Tally()
        return found

    # --- arriving

    def put(
        self,
        queue: Queue,
        sent_ms: int,
        stored: tuple[Sequence[int], Sequence[int]],
        delay_s: int,
        groups: Sequence[bytes],
    ) -> int:
        """New messages behind the last: (places, frame lengths); groups: one each, b"" for none, or no group at all.

        Returns the first sequence number.
        """
        places, lengths = stored
        first, count = queue.rows.append(sent_ms, places, lengths, DELAYED if delay_s else VISIBLE), len(places)
        if places[0] >> SEGMENT_SHIFT == places[-1] >> SEGMENT_SHIFT:  # they ascend: of one append
            self.log.keep(places[0], count)
        else:
            self.keep_all(places)
        owners = [_join(queue, name) for name in groups] if any(groups) else []
        if owners:
            queue.rows.set_groups(first, [group.number if group is not None else 0 for group in owners])
        if delay_s:
            self.set_deadlines(queue, range(first, first + count), sent_ms + delay_s * 1000)
        self.counters["sent"] += count
        if self.live:
            self.tally(queue).sent += count
            self._arrive(queue, (first, count), sent_ms, delayed=bool(delay_s), owners=owners)
        return first

    def set_group(self, queue: Queue, seq: int, name: bytes) -> None:
        group = _join(queue, name)
        if group is not None:
            queue.rows.set_groups(seq, [group.number])

    def set_deadlines(self, queue: Queue, seqs: Iterable[int], deadline_ms: int) -> None:
        for seq in seqs:
            found = queue.rows.find(seq)
            if found is not None:
                found[0].touch()[4][found[1]] = deadline_ms

    def settle_arrival(self, queue: Queue, chunk: Chunk, row: int) -> None:
        """The index for a row that was moved here, or found at the start; not for one in flight."""
        owner = queue.group_at(chunk, row)
        delayed = chunk.state[row] == DELAYED
        self._arrive(
            queue, (chunk.base + row, 1), chunk.sent[row], delayed=delayed, owners=[owner] if owner is not None else []
        )

    def _arrive(
        self, queue: Queue, run: tuple[int, int], sent: int, *, delayed: bool, owners: Sequence[Group | None]
    ) -> None:
        """The index for rows that were just added (run: first, count), of one time."""
        first, count = run
        self.note_sent(queue, sent, run)
        if delayed:
            self._delay(queue, first, count)
            return
        assert queue.line is not None
        for seq, group in enumerate(owners, first):
            queue.line.arrive(seq, 1, group)
        if not owners:
            queue.line.arrive(first, count, None)
        self.awake.add(queue.number)

    def note_sent(self, queue: Queue, sent: int, run: tuple[int, int]) -> None:
        """For the retention: messages are old in their order, but for strays."""
        if sent < queue.newest_ms:
            first, count = run
            for seq in range(first, first + count):
                heapq.heappush(queue.strays, sent << _SENT_SHIFT | seq)
        else:
            queue.newest_ms = sent
        self.arm_retention(queue, sent)

    def _delay(self, queue: Queue, first: int, count: int) -> None:
        if not queue.settings.fifo:
            found = queue.rows.find(first)
            assert found is not None
            self.timers.at(found[0].touch()[4][found[1]], self._undelay, queue, (first, count))
            return
        if queue.delayed is None:
            queue.delayed = deque()
        if not queue.delayed:
            self.timers.at(self._fifo_due(queue, first), self._undelay_fifo, queue)
        queue.delayed.extend(range(first, first + count))

    def _undelay(self, queue: Queue, run: tuple[int, int]) -> None:
        first, count = run
        for seq in range(first, first + count):
            self.appear(queue, seq)

    def appear(self, queue: Queue, seq: int) -> None:
        """A delayed message becomes visible."""
        found = queue.rows.find(seq)
        if found is None or found[0].state[found[1]] != DELAYED:
            return
        chunk, row = found
        queue.rows.set_state(chunk, row, VISIBLE)
        if queue.line is not None:
            queue.line.arrive(seq, 1, queue.group_at(chunk, row))
            self.awake.add(queue.number)

    def _fifo_due(self, queue: Queue, seq: int) -> int:
        found = queue.rows.find(seq)
        return found[0].sent[found[1]] + queue.settings.delay_s * 1000 if found else 0

    def _undelay_fifo(self, queue: Queue, _: object) -> None:
        """A FIFO queue's delay is the queue's present one, also for what was sent before it changed."""
        while queue.delayed:
            due = self._fifo_due(queue, queue.delayed[0])
            if due > self.now_ms:
                self.timers.at(due, self._undelay_fifo, queue)
                return
            self.appear(queue, queue.delayed.popleft())

    def delay_changed(self, queue: Queue) -> None:
        if queue.settings.fifo and queue.delayed:
            self._undelay_fifo(queue, None)

    # --- in flight

    def fly(self, queue: Queue, seqs: list[int], number: int, times: tuple[int, int]) -> None:
        """Messages are received: times = (now, deadline)."""
        if seqs:
            queue.rows.fly(seqs, number, times)

    def watch(self, queue: Queue, flight: Flight) -> None:
        """Arm the end of a visibility timeout."""
        self.timers.at(flight.deadline_ms, self._land, queue, flight, len(flight.seqs))

    def _land(self, queue: Queue, flight: Flight) -> None:
        if flight.deadline_ms > self.now_ms:
            return  # prolonged by a repeated attempt, which armed its own timer
        for seq in flight.seqs:
            if is_flying(queue, flight, seq):
                self.land(queue, seq)

    def land(self, queue: Queue, seq: int) -> None:
        """A message in flight becomes visible again."""
        found = queue.rows.find(seq)
        assert found is not None
        chunk, row = found
        queue.rows.set_state(chunk, row, VISIBLE)
        if queue.line is None:
            return
        group = queue.group_at(chunk, row)
        queue.line.give_back(seq, group)
        if group is not None:
            queue.line.landed(group)
        self.awake.add(queue.number)

    # --- ending

    def end(self, queue: Queue, seq: int, *, forget: bool = True) -> int:
        """A message is no more in this queue. `forget`: nor anywhere else. Returns its address, to drop; 0: not yet."""
        found = queue.rows.find(seq)
        assert found is not None
        chunk, row = found
        group, address = queue.group_at(chunk, row), chunk.address[row]
        source, sent = chunk.source_of(row), chunk.sent[row]
        before = queue.rows.set_state(chunk, row, DEAD)
        if source:
            self.moved.pop(address, None)
        if group is not None:
            self._leave(queue, group, before == IN_FLIGHT)
        if queue.settings.fifo and not source and sent + _DEDUP_MS > self.now_ms:
            queue.held[seq] = address
            if forget:
                return 0
            self.log.keep(address)
        return address

    def _leave(self, queue: Queue, group: Group, flew: bool) -> None:
        group.size -= 1
        if queue.line is not None and flew and queue.line.landed(group):
            self.awake.add(queue.number)
        if not group.size:
            del queue.groups[group.number]
            del queue.group_numbers[group.name]

    def keep_all(self, addresses: Sequence[int]) -> None:
        for address, count in _by_segment(addresses):
            self.log.keep(address, count)

    def drop_all(self, addresses: list[int]) -> None:
        for address, count in _by_segment(addresses):
            self.log.drop(address, count)

    # --- retention

    def arm_retention(self, queue: Queue, sent_ms: int) -> None:
        when = sent_ms + queue.settings.retention_s * 1000
        if not queue.retain_at or when < queue.retain_at:
            queue.retain_at = when
            self.timers.at(when, self._retain, queue, when)

    def _retain(self, queue: Queue, when: object) -> None:
        if queue.retain_at == when:
            queue.retain_at = 0
            self.expire(queue)

    def expire(self, queue: Queue) -> None:
        """End every message older than the retention period, and arm the timer for the next."""
        limit = self.now_ms - queue.settings.retention_s * 1000
        gone: list[int] = []
        while queue.strays and queue.strays[0] >> _SENT_SHIFT <= limit:
            entry = heapq.heappop(queue.strays)
            seq = entry & ((1 << _SENT_SHIFT) - 1)
            if queue.rows.find(seq) is not None:
                gone.append(self.end(queue, seq))
        if queue.strays:
            self.arm_retention(queue, queue.strays[0] >> _SENT_SHIFT)
        plain = queue.is_plain()
        while (oldest := queue.rows.oldest()) is not None:
            chunk, row = oldest
            if chunk.sent[row] > limit:
                self.arm_retention(queue, chunk.sent[row])
                break
            if plain:  # thousands may end in one moment: chunk by chunk
                gone += queue.rows.end_plain(chunk.live_until(row, limit))
            else:
                gone.append(self.end(queue, chunk.base + row))
        self.counters["expired"] += len(gone)
        self.drop_all([address for address in gone if address])

    # --- deduplication

    def remember(self, queue: Queue, key: bytes, seq: int, sent_ms: int) -> None:
        if queue.dedup_order is None:
            queue.dedup_order = deque()
        if key not in queue.dedup:
            queue.dedup_order.append(key)
            if self.live and len(queue.dedup_order) == 1:
                self.timers.at(sent_ms + _DEDUP_MS, self.forget, queue)
        queue.dedup[key] = (seq, sent_ms)

    def forget(self, queue: Queue, _: object = None) -> None:
        """Deduplication ids that are over; arms the timer for the next."""
        order = queue.dedup_order
        while order:
            seq, sent_ms = queue.dedup[order[0]]
            if sent_ms + _DEDUP_MS > self.now_ms:
                self.timers.at(sent_ms + _DEDUP_MS, self.forget, queue)
                return
            del queue.dedup[order.popleft()]
            address = queue.held.pop(seq, 0)
            if address:
                self.log.drop(address)

    # --- whole queues

    def untake(self, queue: Queue, seqs: Sequence[int], *, flying: bool = True) -> None:
        """What was taken from the line goes back: nothing came of it. flying: its groups count it as in flight."""
        line = queue.line
        assert line is not None
        for seq in seqs:
            found = queue.rows.find(seq)
            assert found is not None
            group = queue.group_at(*found)
            line.give_back(seq, group)
            if flying and group is not None:
                line.landed(group)

    def clear(self, queue: Queue) -> int:
        """End every message at once. Deduplication ids stay. Returns how many ended."""
        count = queue.rows.live()
        if queue.is_plain():
            for places in queue.rows.places():
                self.drop_all(places)
        else:
            gone = [self.end(queue, seq) for _, _, seq in queue.rows.walk()]
            self.drop_all([address for address in gone if address])
        queue.rows.clear()
        queue.strays.clear()
        queue.delayed = None
        queue.line = new_line(queue) if self.live else None
        queue.attempts.clear()
        return count

    def remove(self, queue: Queue) -> None:
        self.clear(queue)
        self.drop_all(list(queue.held.values()))
        self.log.drop(queue.address)
        del self.queues[queue.number]
        if queue.hidden:
            del self.hidden[queue.name]
        else:
            del self.arns[queue.arn]
            self.gone_ms[queue.arn] = self.now_ms

    def add(self, queue: Queue) -> None:
        self.queues[queue.number] = queue
        self.queue_last = max(self.queue_last, queue.number)
        if queue.hidden:
            self.hidden[queue.name] = queue
        else:
            self.arns[queue.arn] = queue


def _join(queue: Queue, name: bytes) -> Group | None:
    """The group gets one more message."""
    if not name:
        return None
    number = queue.group_numbers.get(name)
    if number is None:
        number = queue.group_last = queue.group_last + 1
        queue.group_numbers[name] = number
        queue.groups[number] = Group(number, name)
    group = queue.groups[number]
    group.size += 1
    return group


def is_flying(queue: Queue, flight: Flight, seq: int) -> bool:
    """Nothing happened to this message of a receive call since."""
    found = queue.rows.find(seq)
    if found is None or found[0].state[found[1]] != IN_FLIGHT:
        return False
    chunk, row = found
    assert chunk.number is not None and chunk.deadline is not None
    return chunk.number[row] == flight.number and chunk.deadline[row] == flight.deadline_ms


def _is_wanted(queue: Queue, what: object) -> bool:
    return not isinstance(what, Flight) or any(is_flying(queue, what, seq) for seq in what.seqs)


def new_line(queue: Queue) -> Line:
    return FifoLine(queue.rows) if queue.settings.fifo else StandardLine(queue.rows)


def _by_segment(addresses: Sequence[int]) -> list[tuple[int, int]]:
    """(one address, how many) for each run of addresses in one segment."""
    if len(addresses) <= 1:
        return [(address, 1) for address in addresses]
    if min(addresses) >> SEGMENT_SHIFT == max(addresses) >> SEGMENT_SHIFT:
        return [(addresses[0], len(addresses))]
    runs: dict[int, tuple[int, int]] = {}
    for address in addresses:
        one, count = runs.get(address >> SEGMENT_SHIFT, (address, 0))
        runs[address >> SEGMENT_SHIFT] = (one, count + 1)
    return list(runs.values())
