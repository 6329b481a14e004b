"""After a replay: what time did to the messages, then the index over the rows (lines, timers, flights), and live it is.

It runs over every stored message once, so it goes by runs of rows where they are alike.
"""

from __future__ import annotations

import re
from collections import deque

from minicloud.queue.book import COUNTERS, Book, Flight, Queue, new_line
from minicloud.queue.rows import DELAYED, IN_FLIGHT, VISIBLE, Chunk

_VISIBLE_RUN = re.compile(bytes((VISIBLE,)) + b"+")


def start(book: Book, now: float) -> None:
    """Build lines and timers from the rows; from here on the book is live."""
    book.now_ms = max(book.now_ms, round(now * 1000))
    for queue in list(book.queues.values()):
        settle_time(book, queue)
    book.live = True
    book.counters = dict.fromkeys(COUNTERS, 0)  # what a replay counted was long ago
    for queue in list(book.queues.values()):
        _build(book, queue)
        book.expire(queue)


def settle_time(book: Book, queue: Queue) -> None:
    """In a replay: make true what time did to this queue's messages until now_ms."""
    limit = book.now_ms - queue.settings.retention_s * 1000
    fifo, delay_ms = queue.settings.fifo, queue.settings.delay_s * 1000
    gone: list[int] = []
    for chunk in [chunk for chunk in queue.rows.chunks.values() if _is_touched(chunk, limit)]:
        for row, state in enumerate(bytes(chunk.state)):
            if not state:
                continue
            if chunk.sent[row] <= limit:
                gone.append(book.end(queue, chunk.base + row))
                continue
            over = state == VISIBLE
            if state == DELAYED and fifo:
                over = chunk.sent[row] + delay_ms <= book.now_ms
            elif state != VISIBLE:
                over = chunk.touch()[4][row] <= book.now_ms
            if over:
                queue.rows.set_state(chunk, row, VISIBLE)
    book.drop_all([place for place in gone if place])


def _is_touched(chunk: Chunk, limit: int) -> bool:
    """Something in it waits for a time, or is (or, of the dead, may look) too old."""
    return IN_FLIGHT in chunk.state or DELAYED in chunk.state or min(chunk.sent) <= limit


def _build(book: Book, queue: Queue) -> None:
    queue.line = new_line(queue)
    queue.newest_ms = 0
    for flight in _flights(queue):
        book.watch(queue, flight)
    for number in sorted(queue.rows.chunks):
        chunk = queue.rows.chunks[number]
        if queue.is_plain() and DELAYED not in chunk.state and IN_FLIGHT not in chunk.state:
            for run in _VISIBLE_RUN.finditer(chunk.state):
                _arrive(book, queue, chunk, run.span())
            continue
        for row, state in enumerate(bytes(chunk.state)):
            if state == IN_FLIGHT:
                book.note_sent(queue, chunk.sent[row], (chunk.base + row, 1))
            elif state:
                book.settle_arrival(queue, chunk, row)
    _build_dedup(book, queue)


def _arrive(book: Book, queue: Queue, chunk: Chunk, rows: tuple[int, int]) -> None:
    """Visible messages of no group; as none of them was moved here, they lie by the time sent."""
    assert queue.line is not None
    row, to = rows
    queue.newest_ms = chunk.sent[to - 1]
    book.arm_retention(queue, chunk.sent[row])
    queue.line.arrive(chunk.base + row, to - row, None)
    book.awake.add(queue.number)


def _flights(queue: Queue) -> list[Flight]:
    """Receives whose messages are in flight, and how many of each FIFO group."""
    flights: dict[tuple[int, int], Flight] = {}
    for _, chunk in sorted(queue.rows.chunks.items()):
        row = chunk.state.find(IN_FLIGHT)
        while row >= 0:
            assert chunk.number is not None and chunk.deadline is not None
            key = (chunk.number[row], chunk.deadline[row])
            flights.setdefault(key, Flight(*key, [])).seqs.append(chunk.base + row)
            group = queue.group_at(chunk, row)
            if group is not None:
                group.flying += 1
            row = chunk.state.find(IN_FLIGHT, row + 1)
    return list(flights.values())


def _build_dedup(book: Book, queue: Queue) -> None:
    entries = sorted((sent, key) for key, (_, sent) in queue.dedup.items())
    queue.dedup_order = deque(key for _, key in entries) if entries else None
    if entries:
        book.forget(queue)
    known = {seq for seq, _ in queue.dedup.values()}
    for seq in [seq for seq in queue.held if seq not in known]:
        book.log.drop(queue.held.pop(seq))
