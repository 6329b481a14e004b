"""Events in the order of their times, over the blocks of one or many streams. Pure.

Each event has a place: (time, number of its stream, its own number). A reading goes on behind a place, or before it.
Blocks are opened as their times come up, so no more of them are in memory than overlap.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from minicloud.logs import limits
from minicloud.logs.block import Head
from minicloud.logs.model import Event

Open = Callable[[Head], list[Event]]


class Place(NamedTuple):
    time_ms: int
    stream: int
    number: int


class Found(NamedTuple):
    """event None: a reading stops here, for there is no more work it may do in this call."""

    place: Place
    event: Event | None


WORK_MAX = 1 << 62
START, END = Place(-(1 << 62), 0, 0), Place(1 << 62, 0, 0)


class Page(NamedTuple):
    """`more`: something was left out. `reached`: behind this place the next reading goes on."""

    found: list[Found]
    more: bool
    reached: Place | None


def forward(heads: Sequence[Head], open_: Open, after: Place, until_ms: int, work: int = WORK_MAX) -> Iterator[Found]:
    """Places behind `after`, times before `until_ms`, oldest first. work: bytes of messages that are opened."""
    waiting = sorted((head for head in heads if head.high_ms >= after.time_ms and head.low_ms < until_ms), key=_low)
    ready: list[tuple[Place, Event]] = []
    at = 0
    while at < len(waiting) or ready:
        while at < len(waiting) and (not ready or waiting[at].low_ms <= ready[0][0].time_ms):
            head = waiting[at]
            if work <= 0 and not ready and head.low_ms > after.time_ms:
                yield Found(Place(head.low_ms, -1, -1), None)
                return
            work -= head.text
            for event in open_(head):
                place = Place(event.time_ms, head.stream, event.number)
                if after < place and event.time_ms < until_ms:
                    heapq.heappush(ready, (place, event))
            at += 1
        if ready:
            yield Found(*heapq.heappop(ready))


def backward(heads: Sequence[Head], open_: Open, before: Place, from_ms: int) -> Iterator[Found]:
    """Places before `before`, times from `from_ms` on, newest first."""
    waiting = sorted((head for head in heads if head.low_ms <= before.time_ms and head.high_ms >= from_ms), key=_high)
    ready: list[tuple[tuple[int, int, int], Event]] = []
    while waiting or ready:
        while waiting and (not ready or waiting[-1].high_ms >= -ready[0][0][0]):
            head = waiting.pop()
            for event in open_(head):
                place = Place(event.time_ms, head.stream, event.number)
                if place < before and event.time_ms >= from_ms:
                    heapq.heappush(ready, ((-place.time_ms, -place.stream, -place.number), event))
        if ready:
            (time_ms, stream, number), event = heapq.heappop(ready)
            yield Found(Place(-time_ms, -stream, -number), event)


def page(events: Iterator[Found], most: int, matches: Callable[[str], bool] | None = None) -> Page:
    """As many as were asked for, as fit into one answer, and as one call may look at."""
    found: list[Found] = []
    size, reached = 0, None
    for looked, one in enumerate(events):
        if one.event is None:
            return Page(found, True, one.place)
        length = len(one.event.message) + limits.EVENT_BYTES
        wanted = matches is None or matches(one.event.message)
        full = len(found) >= most or (found and size + length > limits.REPLY_BYTES_MAX)
        if looked >= limits.LOOKED_AT_MAX or (wanted and full):
            return Page(found, True, reached)
        reached = one.place
        if wanted:
            found.append(one)
            size += length
    return Page(found, False, reached)


def _low(head: Head) -> int:
    return head.low_ms


def _high(head: Head) -> int:
    return head.high_ms
