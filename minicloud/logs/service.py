"""Logs in one event loop: groups and streams in a shell, events as blocks on the same journal, an index in memory.

    group and stream commands   the shell: durable before the answer
    put                         one block, one commit (many calls share an fsync); then it is read, and followed
    report                      lines of processes of the cloud, with the number of their report, in one commit
    get, filter                 in a thread: blocks are read and taken apart there, as few as the answer needs
    tail                        what was put is handed to whoever follows, in memory; who is too slow is told that he
                                misses some, and may ask again from where he was

A block that a merge or the retention took away while somebody read: he looks at the index again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from minicloud.base import pages
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Throttled, Unavailable
from minicloud.logs import errors, limits, listing, pattern, reading, rules
from minicloud.logs.block import BLOCK, HEAD, Head, decode, encode, head_of
from minicloud.logs.following import Follower, Shown
from minicloud.logs.index import Index, Kept, level_of
from minicloud.logs.machine import CreateGroup, CreateStream, ForgetStreams, Gone, Logs
from minicloud.logs.merging import Merging, crowding
from minicloud.logs.model import Event, Given, Group, Stream
from minicloud.logs.ports import RawJournal
from minicloud.logs.reading import END, Found, Page, Place
from minicloud.shell.clock import Clock, Timer
from minicloud.shell.shell import Shell
from minicloud.shell.sources import Row, Sources

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS_MAX = 4  # ours: calls that read at once
LOOKS_MAX = 10  # ours: at the index, of one call
TAIL_AT_ONCE = 1_000
SOURCE = "log_source"
_SCAN = 1_000


class _Stale(Exception):
    """A block is not there any more."""

    def __init__(self, head: Head) -> None:
        self.head = head


class Which(NamedTuple):
    """Streams of a group: by name, by prefix, or all. Times in Unix ms, both inclusive; 0: any."""

    group: str
    streams: tuple[str, ...] = ()
    prefix: str = ""
    pattern: str = ""
    start_ms: int = 0
    end_ms: int = 0


class Lines(NamedTuple):
    """What a process of the cloud wrote into a stream."""

    scope: Scope
    group: str
    stream: str
    events: Sequence[Given]


class _Block(NamedTuple):
    """Events of a stream on their way to the disk."""

    stream: Stream
    events: list[Event]
    head: Head
    body: bytes


class LogService:
    def __init__(self, journal: RawJournal, *, clock: Clock, rand: random.Random, secret: bytes) -> None:
        self._journal = journal
        self._clock = clock
        self._secret = secret
        self._machine = Logs()
        self._state = self._machine.state
        self._index = Index(lambda number: self._state.by_number[number].group)
        self._merging = Merging(journal, self._index, self._state)
        self._sources = Sources(SOURCE)
        self._reporting: dict[str, asyncio.Task[int]] = {}
        self._readers = asyncio.Semaphore(READERS_MAX)
        self._followers: set[Follower] = set()
        self._timer: Timer | None = None
        self._forgetting: asyncio.Task[None] | None = None
        self._stopped = False
        self.shell = Shell(self._machine, journal, clock=clock, rand=rand, on_effects=self._on_effects)

    async def start(self, owner: str = "") -> None:
        """Take the journal over, read what blocks there are. Raises what the journal raises."""
        await self.shell.start(owner)
        left: list[Head] = []
        for key, packed in self._all(HEAD):
            head = head_of(key, packed)
            if head.stream in self._state.by_number:
                self._index.add(head)
            else:
                left.append(head)  # of a stream that was deleted just before a crash
        self._merging.end(left)
        self._sources.restore(self._all(SOURCE))
        self._sweep_later()

    async def stop(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopped = True
        for follower in self._followers:
            follower.wake()
        await asyncio.gather(*self._reporting.values(), return_exceptions=True)
        if self._forgetting is not None:
            await asyncio.wait([self._forgetting])
        await self._merging.close()
        await self.shell.stop()

    async def submit(self, command: Any) -> Any:
        """A command of machine.py; its reply, once it is durable."""
        return await self.shell.submit(command)

    def kept(self, stream: Stream) -> Kept:
        return self._index.streams.get(stream.number) or Kept()

    def counted(self) -> dict[str, int]:
        """For the metrics page."""
        blocks = sum(len(kept.heads) for kept in self._index.streams.values())
        kept = {"groups": len(self._state.groups), "streams": len(self._state.streams)}
        return {**kept, "blocks": blocks, "bytes": self._index.size}

    # --- listing

    async def groups(
        self, scope: Scope, asked: listing.Groups, token: str = "", most: int = limits.LIST_MAX
    ) -> tuple[list[tuple[Group, int]], str]:
        """With their sizes; and the token of the next page. Raises InvalidParameterException, InvalidPageToken."""
        context = f"log groups/{scope.key()}/{asked}"
        after = pages.redeem(self._secret, context, token) if token else ""
        found, last = await self.shell.shown(lambda: listing.groups(self._state, scope, asked, after, most))
        shown = [(group, self._index.texts[group.key]) for group in found]
        return shown, pages.issue(self._secret, context, last) if last else ""

    async def streams(
        self, scope: Scope, asked: listing.Streams, token: str = "", most: int = limits.LIST_MAX
    ) -> tuple[list[Stream], str]:
        """As `groups`."""
        context = f"log streams/{scope.key()}/{asked}"
        after = pages.redeem(self._secret, context, token) if token else ""
        found, last = await self.shell.shown(
            lambda: listing.streams(self._state, self._index, scope, asked, after, most)
        )
        return found, pages.issue(self._secret, context, last) if last else ""

    # --- putting

    async def put(self, scope: Scope, group: str, stream: str, events: Sequence[Given]) -> rules.Rejected:
        """On disk when it returns, but for those that are rejected. Raises InvalidParameterException, NotFound, ..."""
        blocks, rejected = self._blocks(scope, group, stream, events)
        await self._write(blocks)
        return rejected

    async def report(self, source: str, number: int, lines: Sequence[Lines]) -> int:
        """What a process of the cloud wrote: how many lines were dropped. Counted once, also where the caller gave
        it up half-way or the last process died before its answer. Raises Unavailable: it is to come again."""
        while (before := self._reporting.get(source)) is not None:
            await asyncio.wait([before])
        if self._sources.heard(source, number):
            return 0
        task = self._reporting[source] = asyncio.create_task(self._report(source, number, lines))
        task.add_done_callback(lambda _: self._reporting.pop(source))
        return await asyncio.shield(task)

    async def _report(self, source: str, number: int, lines: Sequence[Lines]) -> int:
        blocks: list[_Block] = []
        dropped = 0
        for one in lines:
            try:
                await self._made(one)
                for batch in _batches(one.events):
                    blocks += self._blocks(one.scope, one.group, one.stream, batch)[0]
            except Unavailable:
                raise
            except CloudError as error:
                log.warning("%d lines of %s %s are dropped: %s", len(one.events), one.group, one.stream, error)
                dropped += len(one.events)
        now = self._clock.wall()
        marks = [*self._sources.rows(), self._sources.row(source, number, now)]
        await self._write(blocks, marks)
        self._sources.note(source, number, now)
        self._sources.written(marks)
        return dropped

    async def _made(self, one: Lines) -> None:
        """Group and stream are made where there are none."""
        if not self._has(one.scope, one.group, one.stream):
            await self.submit(CreateGroup(one.scope, one.group, unless=True))
            await self.submit(CreateStream(one.scope, one.group, one.stream, unless=True))

    def _blocks(
        self, scope: Scope, group: str, stream: str, events: Sequence[Given]
    ) -> tuple[list[_Block], rules.Rejected]:
        """One, or none where all of them are rejected."""
        where, owner = self._find(scope, group, stream)
        now_ms = self._now_ms()
        taken, rejected = rules.check_batch(events, now_ms, owner.retention_days)
        chosen = events[taken]
        if not chosen:
            return [], rejected
        first = self._index.reserve(where.number, len(chosen))
        numbered = [Event(one.time_ms, first + at, now_ms, one.message) for at, one in enumerate(chosen)]
        head, body = encode(where.number, numbered)
        return [_Block(where, numbered, head._replace(level=level_of(head.size, 0)), body)], rejected

    async def _write(self, blocks: Sequence[_Block], marks: Sequence[Row] = ()) -> None:
        rows: list[Row] = []
        for block in blocks:
            rows += [(BLOCK, block.head.key, block.body), (HEAD, block.head.key, block.head.packed())]
        await self._journal.commit_raw([*rows, *marks])
        for stream, events, head, _ in blocks:
            if stream.number not in self._state.by_number:  # deleted meanwhile
                self._merging.end([head])
                continue
            self._index.add(head)
            self._merging.look_at(stream.number)
            for follower in self._followers:
                follower.offer(stream, events)

    # --- reading

    async def get(
        self, scope: Scope, group: str, stream: str, span: tuple[int, int], token: str, most: int, *, head: bool
    ) -> tuple[list[Shown], str, str]:
        """Events by time, the token to go on with, the token to go back with. span: ms, the end exclusive; 0: any."""
        where, _ = self._find(scope, group, stream)
        most = _checked(most)
        start_ms, end_ms = span[0] or START_MS, span[1] or END.time_ms
        context = f"log events/{scope.key()}/{where.number}"
        onward, place = (head, None) if not token else _place(pages.redeem(self._secret, context, token))

        def look(heads: list[Head], open_: reading.Open) -> tuple[list[Found], Place, Place]:
            if onward:
                after = max(place or _before(start_ms), _before(start_ms))
                found = reading.page(reading.forward(heads, open_, after, end_ms), most).found
                return found, found[-1].place if found else after, found[0].place if found else _next(after)
            before = min(place or _before(end_ms), _before(end_ms))
            found = reading.page(reading.backward(heads, open_, before, start_ms), most).found[::-1]
            return found, found[-1].place if found else _previous(before), found[0].place if found else before

        found, last, first = await self._in_thread([where], look)
        tokens = [pages.issue(self._secret, context, _text(sign, at)) for sign, at in (("f", last), ("b", first))]
        return [Shown(stream, place, event) for place, event in found if event is not None], tokens[0], tokens[1]

    async def filter(self, scope: Scope, which: Which, token: str = "", most: int = 0) -> tuple[list[Shown], str]:
        """Events that match, by time, and the token to go on with ("": that was all)."""
        matches = pattern.compiled(which.pattern)
        streams = {one.number: one for one in self._chosen(scope, which)}
        most = _checked(most)
        context = f"log filter/{scope.key()}/{which}"
        after = _before(which.start_ms or START_MS)
        if token:
            after = _place(pages.redeem(self._secret, context, token))[1]
        until_ms = which.end_ms + 1 if which.end_ms else END.time_ms

        def look(heads: list[Head], open_: reading.Open) -> Page:
            events = reading.forward(heads, open_, after, until_ms, limits.OPENED_BYTES_MAX)
            return reading.page(events, most, matches)

        seen = await self._in_thread(list(streams.values()), look, pattern.needed(which.pattern))
        shown = [Shown(streams[at.stream].name, at, event) for at, event in seen.found if event is not None]
        more = seen.more and seen.reached is not None
        return shown, pages.issue(self._secret, context, _text("f", seen.reached)) if more else ""

    async def tail(self, scope: Scope, which: Which) -> AsyncIterator[tuple[list[Shown], int]]:
        """What there is since `which.start_ms` (0: nothing), what is put from now on, each event once, and how many
        were left out since the last answer. The first answer is empty: whoever has it misses nothing.
        """
        group = self.shell.read(lambda: self._state.group(scope, which.group))
        if len(self._followers) >= limits.TAILS_MAX:
            raise Throttled(f"{limits.TAILS_MAX:,} callers follow logs already.", code="LimitExceededException")
        owner = f"{scope.account}/"
        if sum(one.group.startswith(owner) for one in self._followers) >= limits.ACCOUNT_TAILS_MAX:
            text = f"{limits.ACCOUNT_TAILS_MAX:,} callers of this account follow logs already."
            raise Throttled(text, code="LimitExceededException")
        wake, matches = asyncio.Event(), pattern.compiled(which.pattern)
        follower = Follower(group.key, set(which.streams), which.prefix, matches, wake.set)
        self._followers.add(follower)
        try:
            yield [], 0
            told: set[Place] = set()
            if which.start_ms:
                began_ms = self._now_ms()
                async for page in self._pages(scope, which):
                    told |= {one.place for one in page if one.event.taken_ms >= began_ms}
                    yield page, 0
            while True:
                await wake.wait()
                wake.clear()
                if self._stopped:
                    return
                taken, left_out = follower.taken()
                shown = [one for one in taken if one.place not in told] if told else taken
                told = set()  # what comes from here on was put after all that was read
                for at in range(0, len(shown), TAIL_AT_ONCE):
                    yield shown[at : at + TAIL_AT_ONCE], left_out if not at else 0
        finally:
            self._followers.discard(follower)

    async def _pages(self, scope: Scope, which: Which) -> AsyncIterator[list[Shown]]:
        token = ""
        while True:
            page, token = await self.filter(scope, which, token)
            for at in range(0, len(page), TAIL_AT_ONCE):
                yield page[at : at + TAIL_AT_ONCE]
            if not token:
                return

    # --- within

    def _all(self, kind: str) -> Iterator[tuple[str, bytes]]:
        after = ""
        while page := self._journal.scan(kind, after=after, limit=_SCAN):
            yield from page
            after = page[-1][0]

    def _now_ms(self) -> int:
        return round(self._clock.wall() * 1000)

    def _has(self, scope: Scope, group: str, stream: str) -> bool:
        try:
            self._find(scope, group, stream)
        except CloudError:
            return False
        return True

    def _find(self, scope: Scope, group: str, stream: str) -> tuple[Stream, Group]:
        def look() -> tuple[Stream, Group]:
            owner = self._state.group(scope, group)
            return self._state.stream(owner, stream), owner

        return self.shell.read(look)

    def _chosen(self, scope: Scope, which: Which) -> list[Stream]:
        def look() -> list[Stream]:
            group = self._state.group(scope, which.group)
            if which.streams and which.prefix:
                raise errors.invalid(
                    "Only one of logStreamNames and logStreamNamePrefix can be given.", "logStreamNames"
                )
            if len(which.streams) > limits.FILTER_STREAMS_MAX:
                text = f"At most {limits.FILTER_STREAMS_MAX} log streams can be named."
                raise errors.invalid(text, "logStreamNames")
            if which.streams:
                return [self._state.stream(group, name) for name in dict.fromkeys(which.streams)]
            return self._state.streams_of(group, which.prefix)

        return self.shell.read(look)

    async def _in_thread(
        self, streams: Sequence[Stream], look: Callable[[list[Head], reading.Open], T], needs: Sequence[bytes] = ()
    ) -> T:
        lost: set[Head] = set()

        def open_(head: Head) -> list[Event]:
            if head in lost:
                return []
            (body,) = self._journal.read(BLOCK, [head.key])
            if body is None:
                raise _Stale(head)
            return decode(body, needs)[: head.events]  # a merge may have put its neighbours behind them

        async with self._readers:
            for _ in range(LOOKS_MAX):
                heads = [head for stream in streams for head in self.kept(stream).heads]
                try:
                    return await asyncio.to_thread(look, heads, open_)
                except _Stale as stale:
                    is_merged = await self._merging.settled(stale.head)
                    if not is_merged and self._index.has(stale.head):  # it is not there, though nobody took it away
                        log.error("a block of logs is lost: %s", stale.head.key)
                        lost.add(stale.head)
        raise Throttled("The log changes too quickly to be read; retry.")

    def _on_effects(self, effects: Sequence[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Gone):
                for number in effect.streams:
                    self._merging.end(self._index.drop_stream(number))

    def _sweep_later(self) -> None:
        self._timer = self._clock.call_at(self._clock.wall() + limits.SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._merging.sweep(self._now_ms())
        if crowd := crowding(self._state, self._index, self._now_ms()):
            log.warning("there are %d log streams: %d are forgotten", len(self._state.streams), len(crowd))
            self._forgetting = asyncio.create_task(self._forget(crowd))
        self._sweep_later()

    async def _forget(self, crowd: tuple[str, ...]) -> None:
        try:
            await self.submit(ForgetStreams(crowd))
        except CloudError as error:
            log.warning("log streams stay for now: %s", error)


START_MS = 0


def _batches(events: Sequence[Given]) -> Iterator[list[Given]]:
    """Lines cut, put in order, and in parts that a call may carry."""
    batch: list[Given] = []
    size = 0
    for one in sorted((one for one in events if one.message), key=lambda one: one.time_ms):
        message, length = _cut(one.message)
        length += limits.EVENT_BYTES
        full = size + length > limits.BATCH_BYTES_MAX or len(batch) == limits.BATCH_EVENTS_MAX
        if batch and (full or one.time_ms - batch[0].time_ms > limits.BATCH_SPAN_S_MAX * 1000):
            yield batch
            batch, size = [], 0
        batch.append(one if message is one.message else Given(one.time_ms, message))
        size += length
    if batch:
        yield batch


def event_id(one: Shown) -> str:
    """56 digits, as CloudWatch Logs; by time, then by stream and place in it."""
    place = one.place
    return f"{place.time_ms:020d}{place.stream:016d}{place.number:020d}"


def _checked(most: int) -> int:
    if not 0 <= most <= limits.EVENTS_MAX:
        raise errors.invalid(f"The limit must be 1 to {limits.EVENTS_MAX:,}.", "limit")
    return most or limits.EVENTS_MAX


def _cut(message: str) -> tuple[str, int]:
    """What an event can carry of it, and its length in bytes."""
    if message.isascii() and len(message) <= limits.EVENT_BYTES_MAX:
        return message, len(message)
    raw = message.encode("utf-8", "replace")[: limits.EVENT_BYTES_MAX]
    text = raw.decode("utf-8", "ignore")
    return text, len(text.encode())


def _before(time_ms: int) -> Place:
    """Before every event of this time, behind all that are older."""
    return Place(time_ms, -1, -1)


def _next(place: Place) -> Place:
    return place._replace(number=place.number + 1)


def _previous(place: Place) -> Place:
    return place._replace(number=place.number - 1)


def _text(sign: str, place: Place | None) -> str:
    assert place is not None
    return f"{sign}/{place.time_ms}/{place.stream}/{place.number}"


def _place(text: str) -> tuple[bool, Place]:
    """Whether it leads forward, and from where."""
    sign, *numbers = text.split("/")
    return sign == "f", Place(*map(int, numbers))
