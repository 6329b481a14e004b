"""From frames back to state, and old frames to new ones.

`apply(frame, address)` is idempotent for messages (a rewritten frame replaces the old one) and must see the frames in
the log's order. `rewrite` is what compaction calls: the frames that keep alive what is live in an old one.
"""

from __future__ import annotations

import json

from minicloud.queue import codec, limits
from minicloud.queue.book import Book, Flight, Queue
from minicloud.queue.directory import Directory
from minicloud.queue.mailbox import dedup_key, end_all, note_attempt, set_visibility
from minicloud.queue.mover import Mover, MoveTask
from minicloud.queue.rows import DEAD, DELAYED, VISIBLE

_DEDUP_MS = limits.DEDUPLICATION_S * 1000


class Replay:
    def __init__(self, book: Book, directory: Directory, mover: Mover) -> None:
        self._book = book
        self._directory = directory
        self._mover = mover

    def run(self) -> int:
        """Apply the whole log; bodies are not read. Returns the number of frames."""
        self._begin()
        count, log = 0, self._book.log
        for address, prefix in log.replay(codec.PREFIX_BYTES):
            frame = prefix
            if prefix[0] != codec.MESSAGE:
                (_, _, _, _, length, _) = codec.COMMON.unpack_from(prefix)
                if length > len(prefix):
                    frame = log.read(address, 0, length)
            self.apply(frame, address)
            count += 1
        return count

    def _begin(self) -> None:
        """Open the queues whose QUEUE frame was rewritten behind frames that speak of them. Headers only."""
        log, opened, waiting = self._book.log, set(), set()
        for address, prefix in log.replay(codec.COMMON.size):
            kind, _, _, _, length, number = codec.COMMON.unpack_from(prefix)
            if kind != codec.QUEUE:
                if number not in opened:
                    waiting.add(number)
                continue
            opened.add(number)
            if number in waiting:
                waiting.discard(number)
                self._directory.apply(number, log.read(address, 0, length)[codec.LIST_HEAD.size :], address)

    def apply(self, frame: bytes, address: int) -> None:
        kind, _, _, attempt_bytes, _, number = codec.COMMON.unpack_from(frame)
        if kind == codec.MESSAGE:
            self._message(frame, address)
            return
        at_ms = int.from_bytes(frame[12:20], "little")
        if kind != codec.DEDUP:
            self._book.now_ms = max(self._book.now_ms, at_ms)
        if kind == codec.QUEUE:
            self._directory.apply(number, frame[codec.LIST_HEAD.size :], address)
            return
        queue = self._book.queues.get(number)
        if queue is None:
            return  # its end stands earlier in the log, or its beginning is gone with everything of it
        if kind == codec.RECEIVE:
            self._receive(queue, frame, attempt_bytes)
        else:
            self._small(kind, queue, frame, address)

    def _small(self, kind: int, queue: Queue, frame: bytes, address: int) -> None:
        if kind == codec.DELETE:
            end_all(self._book, queue, list(codec.tail_numbers(frame, codec.LIST_HEAD.size)), "deleted")
        elif kind == codec.VISIBILITY:
            values = codec.tail_numbers(frame, codec.LIST_HEAD.size)
            if frame[1] & codec.FLAG_RESET:
                self._reset(queue, values[0::2].tolist(), values[1])
            else:
                set_visibility(self._book, queue, dict(zip(values[0::2], values[1::2], strict=True)))
        elif kind == codec.MOVE:
            self._move(queue, frame)
        elif kind == codec.PURGE:
            queue.purged_ms = self._book.now_ms
            self._book.counters["purged"] += self._book.clear(queue)
        elif kind == codec.GONE:
            self._directory.gone(queue)
        elif kind == codec.TASK:
            self._mover.note(MoveTask(**json.loads(frame[codec.LIST_HEAD.size :])), address)
        elif kind == codec.DEDUP:
            self._dedup(queue, frame, address)

    def _message(self, frame: bytes, address: int) -> None:
        head = codec.head_of(frame)
        book = self._book
        queue = book.queues.get(head.queue)
        if queue is None:
            return
        if head.state is None and head.seq == queue.rows.tail:
            book.now_ms = max(book.now_ms, head.sent_ms)
            book.put(queue, head.sent_ms, ([address], [head.length]), head.delay_s, head.group)
        else:
            self._place(queue, head, address)
        moved_in = head.state is not None and head.state.source
        if queue.settings.fifo and head.dedup and not moved_in and head.sent_ms + _DEDUP_MS > book.now_ms:
            book.remember(queue, dedup_key(queue, head.group, head.dedup), head.seq, head.sent_ms)

    def _place(self, queue: Queue, head: codec.Head, address: int) -> None:
        """A rewritten frame, or one whose predecessors are gone."""
        book, rows = self._book, queue.rows
        chunk, row = rows.place(head.seq)
        if chunk.state[row] == DEAD:
            state = head.state.state if head.state else (DELAYED if head.delay_s else VISIBLE)
            rows.set_state(chunk, row, state)
            if head.group:
                book._set_group(queue, head.seq, 1, head.group)
        else:
            book.log.drop(chunk.address[row])
            book.moved.pop(chunk.address[row], None)
            if queue.held.get(head.seq) == chunk.address[row]:
                del queue.held[head.seq]
        book.log.keep(address)
        chunk.address[row], chunk.length[row], chunk.sent[row] = address, head.length, head.sent_ms
        stored = head.state
        if stored is not None:
            count, first, received, number, deadline = chunk.touch()
            count[row], first[row], received[row] = stored.receives, stored.first_ms, stored.received_ms
            number[row], deadline[row] = stored.number, stored.deadline_ms
            if not book.live:
                rows.set_state(chunk, row, stored.state)
            if stored.source:
                chunk.sources()[row] = stored.source
        elif head.delay_s:
            chunk.touch()[4][row] = head.sent_ms + head.delay_s * 1000

    def _receive(self, queue: Queue, frame: bytes, attempt_bytes: int) -> None:
        *_, at_ms, deadline, number = codec.RECEIVE_HEAD.unpack_from(frame)
        start = codec.RECEIVE_HEAD.size
        attempt = frame[start : start + attempt_bytes]
        seqs = [seq for seq in codec.tail_numbers(frame, start + attempt_bytes) if queue.rows.find(seq) is not None]
        self._book.fly(queue, seqs, number, (at_ms, deadline))
        if attempt:
            note_attempt(queue, attempt, at_ms, Flight(number, deadline, seqs))

    def _reset(self, queue: Queue, seqs: list[int], deadline: int) -> None:
        self._book.set_deadlines(queue, seqs, deadline)
        for _, flight in queue.attempts.values():
            if flight.seqs == seqs:
                flight.deadline_ms = deadline

    def _move(self, queue: Queue, frame: bytes) -> None:
        *_, to, task, _first = codec.MOVE_HEAD.unpack_from(frame)
        seqs = list(codec.tail_numbers(frame, codec.MOVE_HEAD.size))
        target = self._book.queues.get(to)
        if target is not None:
            self._mover.moved(queue, target, seqs, task, _first)
        else:
            end_all(self._book, queue, seqs, "deleted")

    def _dedup(self, queue: Queue, frame: bytes, address: int) -> None:
        *_, sent_ms, seq = codec.DEDUP_HEAD.unpack_from(frame)
        if sent_ms + _DEDUP_MS > self._book.now_ms:
            self._book.remember(queue, frame[codec.DEDUP_HEAD.size :], seq, sent_ms)
            old = queue.held.pop(seq, 0)
            if old:
                self._book.log.drop(old)
            queue.held[seq] = address
            self._book.log.keep(address)

    # --- compaction

    def rewrite(self, address: int, frame: bytes) -> list[bytes]:
        """Frames that, appended and applied, take over what is live in this one. Empty: nothing is.

        Decide, append and apply without giving way to other calls in between.
        """
        kind, _, _, _, _, number = codec.COMMON.unpack_from(frame)
        if kind == codec.MESSAGE:
            return self._rewrite_message(address, frame)
        queue = self._book.queues.get(number)
        if queue is None:
            return []
        if kind == codec.QUEUE:
            return [self._directory.frame(queue)] if queue.address == address else []
        if kind == codec.DEDUP:
            *_, _sent, seq = codec.DEDUP_HEAD.unpack_from(frame)
            return [frame] if queue.held.get(seq) == address else []
        if kind == codec.TASK:
            tasks = [task for task in self._mover.tasks.get(number, []) if task.address == address]
            return [self._mover.frame(task) for task in tasks]
        return []

    def _rewrite_message(self, address: int, frame: bytes) -> list[bytes]:
        head = codec.head_of(frame)
        out: list[bytes] = []
        origin = self._book.queues.get(head.queue)
        if origin is not None and origin.held.get(head.seq) == address:
            key = dedup_key(origin, head.group, head.dedup)
            out.append(codec.dedup(head.queue, head.sent_ms, head.seq, key))
        number, seq = self._book.moved.get(address, (head.queue, head.seq))
        queue = self._book.queues.get(number)
        found = queue.rows.find(seq) if queue is not None else None
        if queue is None or found is None or found[0].address[found[1]] != address:
            return out
        chunk, row = found
        count, first, received, receive, deadline = (column[row] for column in chunk.touch())
        ids = (head.state.id_tag, head.state.id_seq) if head.state else (head.tag, head.seq)
        group = queue.group_at(chunk, row)
        state = codec.StoredState(
            count, first, received, receive, deadline, *ids, chunk.state[row], chunk.source_of(row)
        )
        place = (number, seq, chunk.sent[row])
        out.append(codec.rewritten(frame, place, group.name if group is not None else b"", state))
        return out
