"""One message to many queues: one frame, one body on disk, a row for each target queue.

Every target keeps its own rules: its delay, its MaximumMessageSize (held against body and attributes, not against a
document around them), and on a FIFO queue group and deduplication. What one target cannot take is reported for it; the
others get the message. A FIFO target skips what it knows already.

A `ledger` target is a FIFO queue that gives a message its number and remembers its deduplication id, and stores no row:
what it knows already goes to nobody, what it refuses is refused altogether.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import numpy as np

from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.queue import codec, errors, limits, message
from minicloud.queue.book import Book, Queue
from minicloud.queue.codec import FanTarget
from minicloud.queue.sending import dedup_id, known_seq

_NO_REF = bytes(16)


class Target(NamedTuple):
    """A queue of a fan-out. `ref` (16 bytes, another one for each target) and `raw` come back with each delivery."""

    queue: Queue
    ref: bytes = _NO_REF
    raw: bool = True
    ledger: bool = False


class Note(NamedTuple):
    """A message for all targets. `origin`: what the publisher wants back with each delivery; `attributes`:
    message.encode_attributes. Empty strings: not given; without a deduplication id a FIFO target's own setting holds.
    """

    body: bytes
    origin: bytes = b""
    attributes: bytes = b""
    group_id: str = ""
    deduplication_id: str = ""


@dataclass(frozen=True, slots=True)
class Run(Sequence[Note]):
    """Notes of body and origin alone, as columns: the fast way for many.

    `simple`: whoever made it knows that each body is a line of printable ASCII, and nobody need look again.
    """

    bodies: list[bytes]
    origins: list[bytes]
    simple: bool = False

    def __len__(self) -> int:
        return len(self.bodies)

    @overload
    def __getitem__(self, index: int) -> Note: ...
    @overload
    def __getitem__(self, index: slice) -> list[Note]: ...
    def __getitem__(self, index: int | slice) -> Note | list[Note]:
        if isinstance(index, slice):
            return list(map(Note, self.bodies[index], self.origins[index]))
        return Note(self.bodies[index], self.origins[index])


@dataclass(slots=True)
class Fanned:
    """What became of a fan-out. Numbers are indexes into `notes` and `targets`.

    `failed`: (note, target) -> why that queue could not take it. `serials`: for each note the number that the ledger
    gave (a duplicate's: that of the first), 0 without a ledger. `duplicates`: notes that the ledger knew. `skipped`:
    (note, target) of FIFO targets that knew it.
    """

    serials: list[int]
    failed: dict[tuple[int, int], CloudError] = field(default_factory=dict)
    duplicates: set[int] = field(default_factory=set)
    skipped: set[tuple[int, int]] = field(default_factory=set)


class _Copy(NamedTuple):
    to: FanTarget
    queue: Queue
    key: bytes


@dataclass(slots=True)
class _Draft:
    """A fan-out while it is decided: next sequence numbers and deduplication ids as they will be, frames and copies."""

    now_ms: int
    result: Fanned
    tails: dict[int, int] = field(default_factory=dict)
    fresh: dict[int, dict[bytes, int]] = field(default_factory=dict)
    frames: list[bytes] = field(default_factory=list)
    copies: list[list[_Copy]] = field(default_factory=list)
    groups: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Share:
    """What one queue gets of a fan-out, a value for each message."""

    queue: Queue
    places: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    groups: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)


class Fanout:
    def __init__(self, book: Book) -> None:
        self._book = book

    def fan_out(self, targets: Sequence[Target], notes: Sequence[Note], now: float) -> Fanned:
        if not 1 <= len(notes) <= limits.BULK_MESSAGES_MAX:
            raise InvalidParameterValue(f"1 to {limits.BULK_MESSAGES_MAX} messages a call", field="notes")
        assert all(len(target.ref) == len(_NO_REF) for target in targets)
        now_ms = self._book.advance(now)
        result = Fanned([0] * len(notes))
        if not targets:
            return result
        if self._alike(targets, notes):
            self._bulk(targets, notes, now_ms)
        else:
            self._one_by_one(targets, notes, _Draft(now_ms, result))
        return result

    def _alike(self, targets: Sequence[Target], notes: Sequence[Note]) -> bool:
        """All notes for all targets, without a look at each pair."""
        queues = self._book.queues
        if any(target.queue.settings.fifo or target.queue.number not in queues for target in targets):
            return False
        room = min(target.queue.settings.max_bytes for target in targets)
        if isinstance(notes, Run):
            if max(map(len, notes.bodies)) > room:
                return False
            if notes.simple:
                return True
        elif any(note.group_id or note.deduplication_id or _size(note) > room for note in notes):
            return False
        try:
            message.check_bodies(notes.bodies if isinstance(notes, Run) else [note.body for note in notes])
        except CloudError:
            return False
        return True

    # --- plain messages to standard queues

    def _bulk(self, targets: Sequence[Target], notes: Sequence[Note], now_ms: int) -> None:
        """Nothing can be refused: frames by the columns that they share, rows by the run, columns of them as arrays."""
        book, count, datas = self._book, len(notes), _datas(notes)
        frames: list[bytes] = []
        lengths = array("I")
        tails: dict[int, int] = {}
        most = codec.TARGETS_MAX
        parts = [targets[at : at + most] for at in range(0, len(targets), most)]
        for part in parts:
            firsts = []
            for target in part:
                firsts.append(tails.get(target.queue.number, target.queue.rows.tail))
                tails[target.queue.number] = firsts[-1] + count
            columns = codec.fan_columns([_copy(target, 0, now_ms) for target in part])
            some, sizes = codec.fan_frames(columns, firsts, now_ms, datas)
            frames += some
            lengths += sizes
        addresses = np.array(book.log.append(frames), np.uint64)
        for at, part in enumerate(parts):
            own = slice(at * count, (at + 1) * count)
            for index, target in enumerate(part):
                target.queue.documents |= not target.raw
                places = array("Q", (addresses[own] | np.uint64(codec.place(0, index))).tobytes())
                book.put(target.queue, now_ms, (places, lengths[own]), target.queue.settings.delay_s, ())

    # --- everything else

    def _one_by_one(self, targets: Sequence[Target], notes: Sequence[Note], draft: _Draft) -> None:
        gone = [at for at, target in enumerate(targets) if target.queue.number not in self._book.queues]
        order = sorted(range(len(targets)), key=lambda index: not targets[index].ledger)
        for index, note in enumerate(notes):
            _decide([(at, targets[at]) for at in order if at not in gone], index, note, draft)
            draft.result.failed.update({(index, at): errors.no_such_queue() for at in gone})
        if draft.frames:
            self._store(draft)

    def _store(self, draft: _Draft) -> None:
        """Appended in one go; then the rows of each queue."""
        addresses = self._book.log.append(draft.frames)
        shares: dict[int, _Share] = {}
        for address, frame, copies, group in zip(addresses, draft.frames, draft.copies, draft.groups, strict=True):
            for index, (to, queue, key) in enumerate(copies):
                place = codec.place(address, index)
                if to.flags & codec.LEDGER:
                    enter(self._book, queue, to, place, key)
                    continue
                queue.documents |= not to.flags & codec.RAW
                share = shares.get(queue.number) or shares.setdefault(queue.number, _Share(queue))
                share.places.append(place)
                share.lengths.append(len(frame))
                share.groups.append(group)
                share.keys.append(key)
        for share in shares.values():
            queue, now_ms = share.queue, draft.now_ms
            stored = (share.places, share.lengths)
            first = self._book.put(queue, now_ms, stored, queue.settings.delay_s, share.groups)
            for seq, key in enumerate(share.keys, first):
                if key:
                    self._book.remember(queue, key, seq, now_ms)


def _decide(targets: list[tuple[int, Target]], index: int, note: Note, draft: _Draft) -> None:
    """One note for every target, ledgers first."""
    result, copies, token = draft.result, list[_Copy](), b""
    for at, target in targets:
        try:
            _check(target, note)
            group, dedup = _tokens(target.queue, note, token)
        except CloudError as error:
            result.failed[index, at] = error
            if target.ledger:
                return
            continue
        key = codec.dedup_key(group, dedup, by_group=target.queue.settings.dedup_by_group)
        known = known_seq(target.queue, key, draft.fresh.get(target.queue.number, {}), draft.now_ms) if key else 0
        if known and target.ledger:
            result.serials[index] = known
            result.duplicates.add(index)
            return
        if known:
            result.skipped.add((index, at))
            continue
        token = dedup or token
        copies.append(_Copy(_numbered(target, key, draft), target.queue, key))
        if target.ledger:
            result.serials[index] = copies[-1].to.seq
    _frame(note, copies, (token, result.serials[index]), draft)


def _numbered(target: Target, key: bytes, draft: _Draft) -> FanTarget:
    number = target.queue.number
    seq = draft.tails.get(number, target.queue.rows.tail)
    draft.tails[number] = seq + 1
    if key:
        draft.fresh.setdefault(number, {})[key] = seq
    return _copy(target, seq, draft.now_ms)


def _frame(note: Note, copies: list[_Copy], given: tuple[bytes, int], draft: _Draft) -> None:
    """given: deduplication id and serial."""
    token, serial = given
    group = note.group_id.encode()
    for start in range(0, len(copies), codec.TARGETS_MAX):
        part = copies[start : start + codec.TARGETS_MAX]
        tos = [copy.to for copy in part]
        parts = (b"", group, token, note.origin, note.attributes, note.body)
        frame = codec.fan_frame(codec.fan_columns(tos), [to.seq for to in tos], (draft.now_ms, serial), parts)
        draft.frames.append(frame)
        draft.copies.append(part)
        draft.groups.append(group)


def enter(book: Book, queue: Queue, to: FanTarget, place: int, key: bytes) -> None:
    """A ledger's entry: a number that is used, and a deduplication id held as that of a deleted message."""
    queue.rows.tail = max(queue.rows.tail, to.seq + 1)
    if to.sent_ms + limits.DEDUPLICATION_S * 1000 > book.now_ms:
        book.remember(queue, key, to.seq, to.sent_ms)
        queue.held[to.seq] = place
        book.log.keep(place)


def _datas(notes: Sequence[Note]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Columns for codec.fan_frames."""
    if isinstance(notes, Run):
        return notes.origins, [], notes.bodies
    return [note.origin for note in notes], [note.attributes for note in notes], [note.body for note in notes]


def _size(note: Note) -> int:
    """At least what counts against MaximumMessageSize."""
    return len(note.body) + len(note.attributes)


def _check(target: Target, note: Note) -> None:
    """Raises MissingParameter, InvalidMessageContents (only where the body is given out raw), InvalidParameterValue."""
    if target.raw:
        message.check_body(note.body)
    room = target.queue.settings.max_bytes
    if len(note.body) + message.size_of_encoded(note.attributes) > room:
        raise errors.message_too_long(room)


def _tokens(queue: Queue, note: Note, given: bytes) -> tuple[bytes, bytes]:
    """Group and deduplication id in this queue; given: the id that an earlier target of this note took. Raises both."""
    group = message.check_token("MessageGroupId", note.group_id) if note.group_id else b""
    if not queue.settings.fifo:
        return group, b""
    if not group:
        raise errors.missing("MessageGroupId")
    return group, given or dedup_id(queue, note.deduplication_id, note.body)


def _copy(target: Target, seq: int, now_ms: int) -> FanTarget:
    flags = (codec.RAW if target.raw else 0) | (codec.LEDGER if target.ledger else 0)
    flags |= codec.BY_GROUP if target.queue.settings.dedup_by_group else 0
    delay_s = 0 if target.ledger else target.queue.settings.delay_s
    return FanTarget(target.queue.number, seq, delay_s, flags, target.ref, now_ms)
