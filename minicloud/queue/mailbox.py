"""Receive, delete, change visibility, purge: decided against the rows, written to the log, applied.

Every call advances time, checks everything, appends its frames, and only then changes the rows: a call that raises has
changed nothing. Dead-letter moves happen where AWS makes them: when a receive meets a message that was received
maxReceiveCount times already.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from minicloud.base.errors import CloudError
from minicloud.queue import codec, errors, limits, message, receipt
from minicloud.queue.book import Book, Flight, Queue, is_flying
from minicloud.queue.mover import Mover
from minicloud.queue.rows import IN_FLIGHT, Chunk

_VISIBILITY_MS_MAX = limits.VISIBILITY_S_MAX * 1000


@dataclass(slots=True)
class Delivery:
    """One received message. Read `length` bytes at `address` of the log and codec.open_message(frame, target) them.

    `source`: where it came from by a move (rows.py), 0: it was sent here. `target`: which copy of a fan-out it is.
    """

    seq: int
    handle: bytes
    address: int
    length: int
    count: int
    sent_ms: int
    first_ms: int
    source: int = 0
    target: int = 0


@dataclass(slots=True)
class Received:
    """One receive call in columns, a row for each message: what bulk readers want. `deliveries()` makes objects.

    `targets`: for codec.open_message, which copy of a fan-out each is; 0 for other messages.
    """

    queue: Queue
    number: int = 0
    deadline_ms: int = 0
    seqs: list[int] = field(default_factory=list)
    addresses: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
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
                    chunk.address[row] & codec.ADDRESS_MASK,
                    chunk.length[row],
                    chunk.count_of(row),
                    chunk.sent[row],
                    found[0].first[row],
                    chunk.source_of(row),
                    codec.target_of(chunk.address[row]),
                )
            )
        return out


class Mailbox:
    def __init__(self, book: Book, mover: Mover) -> None:
        self._book = book
        self._mover = mover

    # --- receive

    def receive(self, queue: Queue, want: int, now: float, visibility_s: int | None, attempt_id: str) -> Received:
        if not 1 <= want <= limits.BULK_MESSAGES_MAX:
            reason = f"Must be between 1 and {limits.BULK_MESSAGES_MAX}, if provided."
            raise errors.bad_value("MaxNumberOfMessages", want, reason)
        visibility = queue.settings.visibility_s if visibility_s is None else _checked_visibility(visibility_s)
        attempt = message.check_token("ReceiveRequestAttemptId", attempt_id) if attempt_id else b""
        if attempt and not queue.settings.fifo:
            reason = "The request include parameter that is not valid for this queue type."
            raise errors.bad_value("ReceiveRequestAttemptId", attempt_id, reason)
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
        target = self._mover.dead_letter_queue(queue) if queue.settings.dlq_arn else None
        taken, spent = queue.line.take(want, queue.settings.max_receives if target is not None else 0)
        try:
            if spent and target is not None:
                self._mover.dead_letter(queue, target, spent)
        except CloudError:
            self._book.untake(queue, spent, flying=False)
            self._book.untake(queue, taken)
            raise
        if not taken:
            return Received(queue)
        fitting = self._fitting(queue, taken)
        try:
            return self._fly(queue, fitting, times, attempt)
        except CloudError:
            self._book.untake(queue, fitting)
            raise

    def _fitting(self, queue: Queue, taken: list[int]) -> list[int]:
        """As many as one answer may hold, one at least; the others go back."""
        chunks, left = queue.rows.chunks, limits.RECEIVE_BYTES_MAX
        lengths = [(chunk := chunks[seq >> 9]).length[seq - chunk.base] for seq in taken]
        if queue.documents:  # JSON doubles a text at most: other characters that it escapes are refused before
            lengths = [2 * length + limits.DOCUMENT_BYTES for length in lengths]
        if sum(lengths) <= left:
            return taken
        fits = 1
        left -= lengths[0]
        while lengths[fits] <= left:
            left -= lengths[fits]
            fits += 1
        self._book.untake(queue, taken[fits:])
        return taken[:fits]

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
        book.tally(queue).received += len(taken)
        return self._shown(queue, flight)

    def _shown(self, queue: Queue, flight: Flight) -> Received:
        places, lengths = queue.rows.stored(flight.seqs)
        addresses, targets = codec.addresses(places)
        mac = receipt.mac(self._book.secret, queue.number, flight.number)
        return Received(queue, flight.number, flight.deadline_ms, flight.seqs, addresses, targets, lengths, mac)

    def _again(self, queue: Queue, attempt: bytes, deadline: int) -> Received | None:
        """The same messages and handles, with a new visibility timeout, if nothing happened to them since."""
        expires, flight = queue.attempts.get(attempt, (0, None))
        if (
            flight is None
            or expires <= self._book.now_ms
            or not all(is_flying(queue, flight, seq) for seq in flight.seqs)
        ):
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
        own, rows, fifo, unpack = queue.number, queue.rows, queue.settings.fifo, receipt.HANDLE.unpack
        for index, handle in enumerate(handles):
            if len(handle) == receipt.HANDLE_BYTES:
                to, seq, number, _ = unpack(handle)
                found = rows.find(seq)
                if found is not None and to == own:
                    chunk, row = found
                    if chunk.number_of(row) == number and (not fifo or chunk.state[row] == IN_FLIGHT):
                        seqs.append(seq)
                        continue
            error = self._stale(queue, handle)
            if error is not None:
                failed[index] = error
        if len(seqs) > 1:
            seqs = list(dict.fromkeys(seqs))
        if seqs:
            frame = codec.numbers(codec.DELETE, own, now_ms, array("Q", seqs))
            self._book.log.append([frame], essential=True)
            _end(self._book, queue, seqs, "deleted")
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
        return errors.expired_handle(receipt.to_text(handle))

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

    def give_back(self, got: Received, now: float) -> None:
        flight = Flight(got.number, got.deadline_ms, got.seqs)
        every = zip(got.seqs, got.handles(), strict=True)
        handles = [handle for seq, handle in every if is_flying(got.queue, flight, seq)]
        self.change(got.queue, handles, [0] * len(handles), now)

    def _changeable(self, queue: Queue, handle: bytes, timeout: int) -> int:
        _checked_visibility(timeout)
        chunk, row, seq = self._flying(queue, handle)
        if self._book.now_ms + timeout * 1000 > chunk.touch()[2][row] + _VISIBILITY_MS_MAX:
            reason = f"Total VisibilityTimeout for the message is beyond the limit [{limits.VISIBILITY_S_MAX} seconds]"
            raise errors.bad_value("VisibilityTimeout", timeout, reason)
        return seq

    def _flying(self, queue: Queue, handle: bytes) -> tuple[Chunk, int, int]:
        """The message in flight whose newest handle this is."""
        seq, number = self._open(queue, handle)
        found = queue.rows.find(seq)
        if found is None:
            raise errors.no_such_message(receipt.to_text(handle))
        chunk, row = found
        if chunk.state[row] != IN_FLIGHT or chunk.number_of(row) != number:
            raise errors.not_in_flight()
        return chunk, row, seq

    # --- forward, expel

    def forward(self, queue: Queue, handles: Sequence[bytes], target: Queue, now: float) -> dict[int, CloudError]:
        self._book.advance(now)
        if target.settings.fifo != queue.settings.fifo:
            raise errors.unsupported("Both queues must be of the same type.", "target")
        failed: dict[int, CloudError] = {}
        seqs: dict[int, None] = {}
        for index, handle in enumerate(handles):
            try:
                seqs[self._flying(queue, handle)[2]] = None
            except CloudError as error:
                failed[index] = error
        if seqs:
            self._mover.forward(queue, target, list(seqs))
        return failed

    def expel(self, queue: Queue, seq: int, now: float) -> bool:
        now_ms = self._book.advance(now)
        if queue.rows.find(seq) is None:
            return False
        frame = codec.numbers(codec.DELETE, queue.number, now_ms, array("Q", [seq]))
        self._book.log.append([frame], essential=True)
        end_all(self._book, queue, [seq], "damaged")
        return True

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
    """Those that live of these messages end."""
    _end(book, queue, [seq for seq in seqs if queue.rows.find(seq) is not None], counter)


def _end(book: Book, queue: Queue, live: list[int], counter: str) -> None:
    gone = queue.rows.end_plain(live) if queue.is_plain() else [book.end(queue, seq) for seq in live]
    book.drop_all([address for address in gone if address])
    book.counters[counter] += len(gone)
    if counter == "deleted" and book.live:
        book.tally(queue).deleted += len(gone)


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


def identity(book: Book, delivery: Delivery, head: codec.Head) -> str:
    """The message id of a delivery: its frame's, unless it was redriven (a new message then)."""
    moved = book.moved.get(codec.place(delivery.address, delivery.target))
    if moved is not None and moved.id_tag:
        return message.message_id(moved.id_tag, moved.id_seq)
    if head.state is not None:
        return message.message_id(head.state.id_tag, head.state.id_seq)
    return message.message_id(head.tag, head.seq)


def _checked_visibility(visibility_s: int) -> int:
    if not 0 <= visibility_s <= limits.VISIBILITY_S_MAX:
        reason = f"Must be between 0 and {limits.VISIBILITY_S_MAX}, if provided."
        raise errors.bad_value("VisibilityTimeout", visibility_s, reason)
    return visibility_s
