"""From frames back to state, and old frames to new ones.

`apply(frame, address)` is idempotent for messages (a rewritten frame replaces the old one) and must see the frames in
the log's order. `rewrite` is what compaction calls: the frames that keep alive what is live in an old one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from minicloud.queue import codec, limits
from minicloud.queue.book import Book, Flight, Queue
from minicloud.queue.directory import Directory
from minicloud.queue.fanout import enter
from minicloud.queue.mailbox import end_all, note_attempt, set_visibility
from minicloud.queue.mover import Mover, MoveTask
from minicloud.queue.rows import DEAD, DELAYED, VISIBLE, Chunk
from minicloud.queue.shelf import Shelf

_KEPT = frozenset({codec.FANOUT, codec.SHELF, codec.QUEUE, codec.DEDUP, codec.TASK})  # may live, beside MESSAGE
_DEDUP_MS = limits.DEDUPLICATION_S * 1000


class _Copy(NamedTuple):
    """A message as it stands in a frame."""

    seq: int
    sent_ms: int
    delay_s: int
    state: codec.StoredState | None
    place: int
    length: int


class Replay:
    def __init__(self, book: Book, directory: Directory, mover: Mover, shelf: Shelf) -> None:
        self._book = book
        self._directory = directory
        self._mover = mover
        self._shelf = shelf

    def run(self) -> int:
        """Apply the whole log; bodies are not read. Returns the number of frames."""
        self._begin()
        count, log = 0, self._book.log
        for address, prefix in log.replay(codec.PREFIX_BYTES):
            wanted = _wanted(prefix)
            self.apply(prefix if wanted <= len(prefix) else log.read(address, 0, wanted), address)
            count += 1
        return count

    def _begin(self) -> None:
        """Open the queues whose QUEUE frame was rewritten behind frames that speak of them. Headers only."""
        log = self._book.log
        opened, waiting = set[int](), set[int]()
        for address, prefix in log.replay(codec.PREFIX_BYTES):
            kind, number = prefix[0], int.from_bytes(prefix[8:12], "little")
            if kind in (codec.MOVE, codec.FANOUT):
                waiting.update(one for one in self._spoken_of(address, prefix) if one not in opened)
                continue
            if kind != codec.QUEUE:
                if number not in opened:
                    waiting.add(number)
                continue
            length = int.from_bytes(prefix[4:8], "little")
            opened.add(number)
            if number in waiting:
                waiting.discard(number)
                self._directory.apply(number, log.read(address, 0, length)[codec.LIST_HEAD.size :], address)

    def _spoken_of(self, address: int, prefix: bytes) -> Iterable[int]:
        """The queues that a move or a fan-out needs."""
        if prefix[0] == codec.MOVE:
            *_, source, _at, target, _task, _first = codec.MOVE_HEAD.unpack_from(prefix)
            return source, target
        wanted = _wanted(prefix)
        return codec.fan_queues(prefix if wanted <= len(prefix) else self._book.log.read(address, 0, wanted))

    def apply(self, frame: bytes, address: int) -> None:
        kind, _, _, attempt_bytes, _, number = codec.COMMON.unpack_from(frame)
        if kind == codec.MESSAGE:
            self._message(frame, address)
            return
        if kind == codec.FANOUT:
            self._fan(frame, address)
            return
        at_ms = int.from_bytes(frame[12:20], "little")
        if kind != codec.DEDUP:
            self._book.now_ms = max(self._book.now_ms, at_ms)
        if kind == codec.QUEUE:
            self._directory.apply(number, frame[codec.LIST_HEAD.size :], address)
            return
        if kind == codec.SHELF:
            self._shelf.apply(frame, address)
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
        if self._plain(frame, address):
            return
        head = codec.head_of(frame)
        queue = self._book.queues.get(head.queue)
        if queue is not None:
            key = codec.dedup_key(head.group, head.dedup, by_group=head.by_group)
            copy = _Copy(head.seq, head.sent_ms, head.delay_s, head.state, address, head.length)
            self._copy(queue, copy, (head.group, key))

    def _plain(self, frame: bytes, address: int) -> bool:
        """The short way for what most of a large log is: a next message without state, group, id and delay."""
        _, flags, groups, dedups, length, number, seq, sent_ms, _, _, delay_s = codec.HEADER.unpack_from(frame)
        if flags or groups or dedups or delay_s or self._book.live:
            return False
        queue = self._book.queues.get(number)
        if queue is None or seq != queue.rows.tail:
            return False
        self._book.now_ms = max(self._book.now_ms, sent_ms)
        queue.rows.append(sent_ms, (address,), (length,), VISIBLE)
        self._book.log.keep(address)
        return True

    def _fan(self, frame: bytes, address: int) -> None:
        head = codec.fan_head(frame)
        for index, to in enumerate(head.targets):
            queue, place = self._book.queues.get(to.queue), codec.place(address, index)
            if queue is None:
                continue
            key = codec.dedup_key(head.group, head.dedup, by_group=bool(to.flags & codec.BY_GROUP))
            if to.flags & codec.LEDGER:
                self._book.now_ms = max(self._book.now_ms, to.sent_ms)
                enter(self._book, queue, to, place, key)
            else:
                queue.documents |= not to.flags & codec.RAW
                copy = _Copy(to.seq, to.sent_ms, to.delay_s, to.state, place, head.length)
                self._copy(queue, copy, (head.group, key))

    def _copy(self, queue: Queue, copy: _Copy, tokens: tuple[bytes, bytes]) -> None:
        """A message of one queue; tokens: group and deduplication key."""
        book = self._book
        group, key = tokens
        if copy.state is None and copy.seq == queue.rows.tail:
            book.now_ms = max(book.now_ms, copy.sent_ms)
            book.put(queue, copy.sent_ms, ([copy.place], [copy.length]), copy.delay_s, [group])
        else:
            self._place(queue, copy, group)
        moved_in = copy.state is not None and copy.state.source
        if queue.settings.fifo and key and not moved_in and copy.sent_ms + _DEDUP_MS > book.now_ms:
            book.remember(queue, key, copy.seq, copy.sent_ms)

    def _place(self, queue: Queue, copy: _Copy, group: bytes) -> None:
        """A rewritten frame, or one whose predecessors are gone."""
        book, rows = self._book, queue.rows
        chunk, row = rows.place(copy.seq)
        stored = copy.state
        if chunk.state[row] == DEAD:
            state = stored.state if stored else (DELAYED if copy.delay_s else VISIBLE)
            rows.set_state(chunk, row, state)
            if group:
                book.set_group(queue, copy.seq, group)
        else:
            book.log.drop(chunk.address[row])
            book.moved.pop(chunk.address[row], None)
            if queue.held.get(copy.seq) == chunk.address[row]:
                del queue.held[copy.seq]
        book.log.keep(copy.place)
        chunk.address[row], chunk.length[row], chunk.sent[row] = copy.place, copy.length, copy.sent_ms
        if stored is not None:
            count, first, received, number, deadline = chunk.touch()
            count[row], first[row], received[row] = stored.receives, stored.first_ms, stored.received_ms
            number[row], deadline[row] = stored.number, stored.deadline_ms
            if not book.live:
                rows.set_state(chunk, row, stored.state)
            if stored.source:
                queue.moved_in = True
                chunk.sources()[row] = stored.source
        elif copy.delay_s:
            chunk.touch()[4][row] = copy.sent_ms + copy.delay_s * 1000

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
        *_, to, task, first = codec.MOVE_HEAD.unpack_from(frame)
        seqs = list(codec.tail_numbers(frame, codec.MOVE_HEAD.size))
        target = self._book.queues.get(to)
        if target is not None:
            redrive = bool(frame[1] & codec.FLAG_REDRIVE)
            self._mover.moved(queue, target, seqs, (task, first), redrive=redrive)
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

    def may_live(self, address: int, head: bytes) -> bool:
        """Of a frame's first bytes: False when `rewrite` would find nothing live in it; cheaper, and most are dead."""
        kind, _, _, _, _, number = codec.COMMON.unpack_from(head)
        if kind != codec.MESSAGE:
            return kind in _KEPT
        queue = self._book.queues.get(number)
        if queue is None or address in self._book.moved:
            return address in self._book.moved
        seq = codec.seq_of(head)
        return queue.rows.find(seq) is not None or seq in queue.held

    def rewrite(self, address: int, frame: bytes) -> list[bytes]:
        """Frames that, appended and applied, take over what is live in this one. Empty: nothing is.

        Decide, append and apply without giving way to other calls in between.
        """
        kind, _, _, _, _, number = codec.COMMON.unpack_from(frame)
        if kind == codec.MESSAGE:
            return self._rewrite_message(address, frame)
        if kind == codec.FANOUT:
            return self._rewrite_fan(address, frame)
        if kind == codec.SHELF:
            return self._shelf.rewrite(address, frame)
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
        key = codec.dedup_key(head.group, head.dedup, by_group=head.by_group)
        out = self._rewrite_dedup((head.queue, head.seq), head.sent_ms, address, key)
        ids = (head.state.id_tag, head.state.id_seq) if head.state else (head.tag, head.seq)
        now = self._present((head.queue, head.seq), address, ids)
        if now is not None:
            queue, chunk, row, state = now
            group = queue.group_at(chunk, row)
            place = (queue.number, chunk.base + row, chunk.sent[row])
            out.append(codec.rewritten(frame, place, group.name if group is not None else b"", state))
        return out

    def _rewrite_fan(self, address: int, frame: bytes) -> list[bytes]:
        """One frame again, for the copies that are left."""
        head = codec.fan_head(frame)
        out: list[bytes] = []
        left: list[codec.FanTarget] = []
        for index, to in enumerate(head.targets):
            place, at = codec.place(address, index), (to.queue, to.seq)
            key = codec.dedup_key(head.group, head.dedup, by_group=bool(to.flags & codec.BY_GROUP))
            out += self._rewrite_dedup(at, to.sent_ms, place, key)
            now = self._present(at, place, codec.fan_id(to))
            if now is not None:
                queue, chunk, row, state = now
                left.append(
                    codec.FanTarget(queue.number, chunk.base + row, 0, to.flags, to.ref, chunk.sent[row], state)
                )
        return [*out, codec.fan_rewritten(frame, left)] if left else out

    def _rewrite_dedup(self, at: tuple[int, int], sent_ms: int, place: int, key: bytes) -> list[bytes]:
        number, seq = at
        queue = self._book.queues.get(number)
        if queue is None or queue.held.get(seq) != place:
            return []
        return [codec.dedup(number, sent_ms, seq, key)]

    def _present(
        self, at: tuple[int, int], place: int, ids: tuple[int, int]
    ) -> tuple[Queue, Chunk, int, codec.StoredState] | None:
        """Where a stored message (at: queue, seq) is now, and what became of it. None: it is no more."""
        moved = self._book.moved.get(place)
        number, seq = (moved.queue, moved.seq) if moved is not None else at
        queue = self._book.queues.get(number)
        found = queue.rows.find(seq) if queue is not None else None
        if queue is None or found is None or found[0].address[found[1]] != place:
            return None
        chunk, row = found
        if moved is not None and moved.id_tag:
            ids = (moved.id_tag, moved.id_seq)
        count, first, received, receive, deadline = (column[row] for column in chunk.touch())
        state = codec.StoredState(
            count, first, received, receive, deadline, *ids, chunk.state[row], chunk.source_of(row)
        )
        return queue, chunk, row, state


def _wanted(prefix: bytes) -> int:
    """How much of a frame a replay needs, by its first bytes."""
    if prefix[0] == codec.MESSAGE:
        return 0
    return codec.fan_head_bytes(prefix) if prefix[0] == codec.FANOUT else int.from_bytes(prefix[4:8], "little")
