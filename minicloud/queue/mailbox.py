"""Send, receive, delete, change visibility, purge: decided against the rows, written to the log, applied.

Every call advances time, checks everything, appends its frames, and only then changes the rows: a call that raises has
changed nothing. Dead-letter moves happen where AWS makes them: when a receive meets a message that was received
maxReceiveCount times already.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.queue import codec, errors, limits, message, receipt
from minicloud.queue.book import Book, Flight, Queue
from minicloud.queue.message import SendEntry
from minicloud.queue.mover import Mover
from minicloud.queue.rows import IN_FLIGHT, RENAMED, Chunk

_VISIBILITY_MS_MAX = limits.VISIBILITY_S_MAX * 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """One accepted message. `duplicate`: its deduplication id was seen before, the ids are the first one's."""

    message_id: str
    sequence_number: str = ""
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Messages accepted by a bulk send: ids are message.message_id(tag, first + i)."""

    tag: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One received message. Read `length` bytes at `address` of the log and codec.open_message them for the rest.

    `id_tag`, `id_seq`: its message id where they differ from those in the frame (redriven), else 0.
    """

    seq: int
    handle: bytes
    address: int
    length: int
    count: int
    sent_ms: int
    first_ms: int
    source: int = 0


@dataclass(slots=True)
class Received:
    """One receive call in columns, a row for each message: what bulk readers want. `deliveries()` makes objects."""

    queue: Queue
    number: int = 0
    deadline_ms: int = 0
    seqs: list[int] = field(default_factory=list)
    addresses: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    mac: bytes = b""

    def handles(self) -> list[bytes]:
        pack, queue, number, mac = receipt.HANDLE.pack, self.queue.number, self.number, self.mac
        return [pack(queue, seq, number, mac) for seq in self.seqs]

    def deliveries(self) -> list[Delivery]:
        out = []
        for seq, handle in zip(self.seqs, self.handles(), strict=True):
            found = self.queue.rows.find(seq)
            assert found is not None and found[0].first is not None
            chunk, row = found
            out.append(
                Delivery(
                    seq,
                    handle,
                    chunk.address[row],
                    chunk.length[row],
                    chunk.count_of(row),
                    chunk.sent[row],
                    found[0].first[row],
                    chunk.source_of(row),
                )
            )
        return out


class Mailbox:
    def __init__(self, book: Book, mover: Mover) -> None:
        self._book = book
        self._mover = mover

    # --- send

    def send_many(self, queue: Queue, bodies: list[bytes], now: float, delay_s: int | None, attributes: bytes) -> Run:
        """Bulk: bodies alike in everything else, on a standard queue. All or none."""
        if queue.settings.fifo:
            raise errors.missing("MessageGroupId")
        if not 1 <= len(bodies) <= limits.BULK_MESSAGES_MAX:
            raise InvalidParameterValue(f"1 to {limits.BULK_MESSAGES_MAX} messages a call", field="bodies")
        if max(map(len, bodies)) + len(attributes) > queue.settings.max_bytes:
            raise errors.message_too_long(queue.settings.max_bytes)
        message.check_bodies(bodies)
        delay = queue.settings.delay_s if delay_s is None else _checked_delay(delay_s)
        now_ms = self._book.advance(now)
        first, tag, number = queue.rows.tail, queue.tag, queue.number
        pack, kind, size = codec.HEADER.pack, codec.MESSAGE, codec.HEADER_BYTES + len(attributes)
        extra = len(attributes)
        lengths = [size + len(body) for body in bodies]
        frames = [
            pack(kind, 0, 0, 0, length, number, seq, now_ms, tag, extra, delay) + attributes + body
            for seq, length, body in zip(range(first, first + len(bodies)), lengths, bodies, strict=True)
        ]
        addresses = self._book.log.append(frames)
        self._book.put(queue, now_ms, (addresses, lengths), delay, b"")
        return Run(tag, first, len(bodies))

    def send(self, queue: Queue, entries: Sequence[SendEntry], now: float, sender: str) -> list[Sent | CloudError]:
        """One result for each entry, in order."""
        now_ms = self._book.advance(now)
        results: list[Sent | CloudError] = []
        for entry in entries:
            try:
                results.append(self._send_one(queue, entry, now_ms, sender))
            except CloudError as error:
                results.append(error)
        return results

    def _send_one(self, queue: Queue, entry: SendEntry, now_ms: int, sender: str) -> Sent:
        settings = queue.settings
        message.check_body(entry.body)
        if len(entry.body) + message.size_of(entry.attributes) > settings.max_bytes:
            raise errors.message_too_long(settings.max_bytes)
        system = {"AWSTraceHeader": entry.trace_header} if entry.trace_header else {}
        if sender:
            system["SenderId"] = sender
        attributes = message.encode_attributes(entry.attributes, system)
        group = message.check_token("MessageGroupId", entry.group_id) if entry.group_id else b""
        dedup = self._dedup_of(queue, entry) if settings.fifo else _refuse_dedup(entry)
        if settings.fifo and not group:
            raise errors.missing("MessageGroupId")
        delay = _delay_of(queue, entry)
        key = dedup_key(queue, group, dedup)
        known = queue.dedup.get(key) if dedup else None
        if known is not None and known[1] + limits.DEDUPLICATION_S * 1000 > now_ms:
            return Sent(message.message_id(queue.tag, known[0]), message.sequence_number(known[0]), True)
        ids = (queue.number, queue.rows.tail, queue.tag)
        frame = codec.message(ids, now_ms, delay, (group, dedup, attributes, entry.body))
        addresses = self._book.log.append([frame])
        seq = self._book.put(queue, now_ms, (addresses, [len(frame)]), delay, group)
        if dedup:
            self._book.remember(queue, key, seq, now_ms)
        return Sent(message.message_id(queue.tag, seq), message.sequence_number(seq) if settings.fifo else "")

    def _dedup_of(self, queue: Queue, entry: SendEntry) -> bytes:
        if entry.deduplication_id:
            return message.check_token("MessageDeduplicationId", entry.deduplication_id)
        if queue.settings.content_dedup:
            return hashlib.sha256(entry.body).hexdigest().encode()
        raise InvalidParameterValue(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
            "explicitly",
            field="MessageDeduplicationId",
        )

    # --- receive

    def receive(self, queue: Queue, want: int, now: float, visibility_s: int | None, attempt_id: str) -> Received:
        if not 1 <= want <= limits.BULK_MESSAGES_MAX:
            reason = f"Must be between 1 and {limits.BULK_MESSAGES_MAX}, if provided."
            raise errors.bad_value("MaxNumberOfMessages", want, reason)
        visibility = queue.settings.visibility_s if visibility_s is None else _checked_visibility(visibility_s)
        attempt = message.check_token("ReceiveRequestAttemptId", attempt_id) if attempt_id else b""
        if attempt and not queue.settings.fifo:
            raise errors.bad_value("ReceiveRequestAttemptId", attempt_id, "It applies only to FIFO queues.")
        now_ms = self._book.advance(now)
        deadline = now_ms + visibility * 1000
        if attempt and (again := self._again(queue, attempt, deadline)) is not None:
            return again
        room = limits.IN_FLIGHT_MAX - queue.rows.counts[IN_FLIGHT]
        if room <= 0 and not queue.settings.fifo:
            raise errors.over_limit()
        return self._deliver(queue, min(want, room), (now_ms, deadline), attempt)

    def _deliver(self, queue: Queue, want: int, times: tuple[int, int], attempt: bytes) -> Received:
        assert queue.line is not None
        target = self._mover.dead_letter_queue(queue)
        taken, spent = queue.line.take(want, queue.settings.max_receives if target is not None else 0)
        if spent and target is not None:
            self._mover.dead_letter(queue, target, spent)
        if not taken:
            return Received(queue)
        return self._fly(queue, taken, times, attempt)

    def _fly(self, queue: Queue, taken: list[int], times: tuple[int, int], attempt: bytes) -> Received:
        now_ms, deadline = times
        book = self._book
        number = book.next_receive()
        frame = codec.receive(queue.number, (now_ms, deadline, number), attempt, array("Q", taken))
        book.log.append([frame], essential=True)
        book.fly(queue, taken, number, times)
        flight = Flight(number, deadline, taken)
        book.watch(queue, flight)
        if attempt:
            note_attempt(queue, attempt, now_ms, flight)
        book.counters["received"] += len(taken)
        return self._shown(queue, flight)

    def _shown(self, queue: Queue, flight: Flight) -> Received:
        rows, addresses, lengths = queue.rows.chunks, [], []
        for seq in flight.seqs:
            chunk = rows[seq >> 9]
            row = seq - chunk.base
            addresses.append(chunk.address[row])
            lengths.append(chunk.length[row])
        mac = receipt.mac(self._book.secret, queue.number, flight.number)
        return Received(queue, flight.number, flight.deadline_ms, flight.seqs, addresses, lengths, mac)

    def _again(self, queue: Queue, attempt: bytes, deadline: int) -> Received | None:
        """The same messages and handles, with a new visibility timeout, if nothing happened to them since."""
        expires, flight = queue.attempts.get(attempt, (0, None))
        if flight is None or expires <= self._book.now_ms or not _untouched(queue, flight):
            return None
        values = array("Q", [value for seq in flight.seqs for value in (seq, deadline)])
        frame = codec.numbers(codec.VISIBILITY, queue.number, self._book.now_ms, values, codec.FLAG_RESET)
        self._book.log.append([frame], essential=True)
        self._book.set_deadlines(queue, flight.seqs, deadline)
        flight.deadline_ms = deadline
        self._book.watch(queue, flight)
        return self._shown(queue, flight)

    # --- delete, change visibility

    def delete(self, queue: Queue, handles: Sequence[bytes], now: float) -> dict[int, CloudError]:
        now_ms = self._book.advance(now)
        failed: dict[int, CloudError] = {}
        seqs: list[int] = []
        own, rows, unpack = queue.number, queue.rows, receipt.HANDLE.unpack
        for index, handle in enumerate(handles):
            if len(handle) == receipt.HANDLE_BYTES:
                to, seq, number, _ = unpack(handle)
                found = rows.find(seq)
                if found is not None and to == own:
                    chunk, row = found
                    current = chunk.touch()[3][row] == number
                    if current and (chunk.state[row] == IN_FLIGHT or not queue.settings.fifo):
                        seqs.append(seq)
                        continue
            error = self._stale(queue, handle)
            if error is not None:
                failed[index] = error
        seqs = list(dict.fromkeys(seqs))
        if seqs:
            frame = codec.numbers(codec.DELETE, own, now_ms, array("Q", seqs))
            self._book.log.append([frame], essential=True)
            end_all(self._book, queue, seqs, "deleted")
        return failed

    def _stale(self, queue: Queue, handle: bytes) -> CloudError | None:
        """What deleting with a handle does that is not the newest of a message in flight. None: it succeeds idly."""
        try:
            seq, _ = self._open(queue, handle)
        except CloudError as error:
            return error
        found = queue.rows.find(seq)
        if not queue.settings.fifo or found is None or found[0].number is None:
            return None
        return errors.expired_handle()

    def _open(self, queue: Queue, handle: bytes) -> tuple[int, int]:
        if len(handle) != receipt.HANDLE_BYTES:
            raise errors.bad_handle()
        to, seq, number, mac = receipt.HANDLE.unpack(handle)
        if to != queue.number or mac != receipt.mac(self._book.secret, to, number) or seq >= queue.rows.tail:
            raise errors.bad_handle(receipt.to_text(handle))
        return seq, number

    def change(
        self, queue: Queue, handles: Sequence[bytes], timeouts: Sequence[int], now: float
    ) -> dict[int, CloudError]:
        now_ms = self._book.advance(now)
        failed: dict[int, CloudError] = {}
        changes: dict[int, int] = {}
        for index, (handle, timeout) in enumerate(zip(handles, timeouts, strict=True)):
            try:
                changes[self._changeable(queue, handle, timeout)] = now_ms + timeout * 1000
            except CloudError as error:
                failed[index] = error
        if changes:
            values = array("Q", [value for pair in changes.items() for value in pair])
            frame = codec.numbers(codec.VISIBILITY, queue.number, now_ms, values)
            self._book.log.append([frame], essential=True)
            set_visibility(self._book, queue, changes)
        return failed

    def _changeable(self, queue: Queue, handle: bytes, timeout: int) -> int:
        _checked_visibility(timeout)
        seq, number = self._open(queue, handle)
        found = queue.rows.find(seq)
        if found is None:
            raise errors.no_such_message()
        chunk, row = found
        if chunk.state[row] != IN_FLIGHT or chunk.touch()[3][row] != number:
            raise errors.not_in_flight()
        if self._book.now_ms + timeout * 1000 > chunk.touch()[2][row] + _VISIBILITY_MS_MAX:
            reason = f"Total VisibilityTimeout for the message is beyond the limit [{limits.VISIBILITY_S_MAX} seconds]"
            raise errors.bad_value("VisibilityTimeout", timeout, reason)
        return seq

    # --- purge

    def purge(self, queue: Queue, now: float) -> int:
        now_ms = self._book.advance(now)
        if queue.purged_ms and now_ms < queue.purged_ms + limits.PURGE_INTERVAL_S_MIN * 1000:
            raise errors.purge_in_progress(queue.name)
        frame = codec.numbers(codec.PURGE, queue.number, now_ms, array("Q", [queue.rows.tail]))
        self._book.log.append([frame], essential=True)
        queue.purged_ms = now_ms
        count = self._book.clear(queue)
        self._book.counters["purged"] += count
        return count


def end_all(book: Book, queue: Queue, seqs: Sequence[int], counter: str) -> None:
    gone = [book.end(queue, seq) for seq in seqs if queue.rows.find(seq) is not None]
    book.drop_all([address for address in gone if address])
    book.counters[counter] += len(gone)


def set_visibility(book: Book, queue: Queue, changes: Mapping[int, int]) -> None:
    """seq -> new deadline (ms). One that is now ends the flight at once. Also the replay of a VISIBILITY frame."""
    flights: dict[tuple[int, int], Flight] = {}
    for seq, deadline in changes.items():
        found = queue.rows.find(seq)
        if found is None:
            continue
        chunk, row = found
        _, _, _, numbers, deadlines = chunk.touch()
        deadlines[row] = deadline
        if deadline <= book.now_ms:
            book.land(queue, seq)
        else:
            key = (numbers[row], deadline)
            flights.setdefault(key, Flight(*key, [])).seqs.append(seq)
    if book.live:
        for flight in flights.values():
            book.watch(queue, flight)


def note_attempt(queue: Queue, attempt: bytes, now_ms: int, flight: Flight) -> None:
    for old in [key for key, (expires, _) in list(queue.attempts.items())[:2] if expires <= now_ms]:
        del queue.attempts[old]
    queue.attempts.pop(attempt, None)
    queue.attempts[attempt] = (now_ms + limits.ATTEMPT_S * 1000, flight)


def dedup_key(queue: Queue, group: bytes, dedup: bytes) -> bytes:
    return group + b"\0" + dedup if queue.settings.dedup_by_group else dedup


def identity(queue: Queue, delivery: Delivery, head: codec.Head) -> str:
    """The message id of a delivery: its frame's, unless it was redriven (a new message then)."""
    if delivery.source & RENAMED:
        return message.message_id(queue.tag, delivery.seq)
    if head.state is not None:
        return message.message_id(head.state.id_tag, head.state.id_seq)
    return message.message_id(head.tag, head.seq)


def _untouched(queue: Queue, flight: Flight) -> bool:
    return all(_flies(queue.rows.find(seq), flight) for seq in flight.seqs)


def _flies(found: tuple[Chunk, int] | None, flight: Flight) -> bool:
    if found is None or found[0].state[found[1]] != IN_FLIGHT:
        return False
    _, _, _, numbers, deadlines = found[0].touch()
    return numbers[found[1]] == flight.number and deadlines[found[1]] == flight.deadline_ms


def _delay_of(queue: Queue, entry: SendEntry) -> int:
    if entry.delay_s is None:
        return queue.settings.delay_s
    if queue.settings.fifo and entry.delay_s != queue.settings.delay_s:
        reason = "The request include parameter that is not valid for this queue type."
        raise errors.bad_value("DelaySeconds", entry.delay_s, reason)
    return _checked_delay(entry.delay_s)


def _checked_delay(delay_s: int) -> int:
    if not 0 <= delay_s <= limits.DELAY_S_MAX:
        reason = f"DelaySeconds must be >= 0 and <= {limits.DELAY_S_MAX}."
        raise errors.bad_value("DelaySeconds", delay_s, reason)
    return delay_s


def _checked_visibility(visibility_s: int) -> int:
    if not 0 <= visibility_s <= limits.VISIBILITY_S_MAX:
        reason = f"Must be between 0 and {limits.VISIBILITY_S_MAX}, if provided."
        raise errors.bad_value("VisibilityTimeout", visibility_s, reason)
    return visibility_s


def _refuse_dedup(entry: SendEntry) -> bytes:
    if entry.deduplication_id:
        reason = "The request include parameter that is not valid for this queue type."
        raise errors.bad_value("MessageDeduplicationId", entry.deduplication_id, reason)
    return b""
