"""What a broker knows of each stored message: columns of plain arrays, about 60 bytes a row and no object.

A chunk covers the sequence numbers from its base to the next multiple of ROWS. Rows die in place; a chunk without a
live row is dropped, so memory follows the number of live messages. Columns that only a received, grouped or moved
message needs are grown when the first such row comes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import compress

DEAD, VISIBLE, IN_FLIGHT, DELAYED = 0, 1, 2, 3
BITS = 9
ROWS = 1 << BITS
REDRIVEN = 0x80000000  # in `source`, with the queue that the row came from: redriven or forwarded, no dead letter
_KEPT_EMPTY_ROWS = 32
_RUN_MIN = 16  # from here on slices are faster than rows one by one
_COLUMNS = ("address", "length", "sent", "count", "first", "received", "number", "deadline", "group", "source")


class Chunk:
    """Rows of consecutive sequence numbers; row i is message base + i. Times are Unix milliseconds."""

    __slots__ = (
        "address",
        "base",
        "count",
        "deadline",
        "first",
        "group",
        "length",
        "live",
        "number",
        "received",
        "sent",
        "source",
        "state",
    )  # fmt: skip

    def __init__(self, base: int) -> None:
        self.base = base
        self.live = 0
        self.state = bytearray()
        self.address = array("Q")
        self.length = array("I")
        self.sent = array("Q")
        self.count: array[int] | None = None
        self.first: array[int] | None = None
        self.received: array[int] | None = None
        self.number: array[int] | None = None
        self.deadline: array[int] | None = None
        self.group: array[int] | None = None
        self.source: array[int] | None = None

    def touch(self) -> tuple[array[int], array[int], array[int], array[int], array[int]]:
        """The columns of deliveries, as long as the rows: count, first, received, number, deadline."""
        rows = len(self.state)
        if self.count is None:
            self.count = array("I", bytes(4 * rows))
            self.first, self.received = array("Q", bytes(8 * rows)), array("Q", bytes(8 * rows))
            self.number, self.deadline = array("Q", bytes(8 * rows)), array("Q", bytes(8 * rows))
        assert self.first is not None and self.received is not None
        assert self.number is not None and self.deadline is not None
        missing = rows - len(self.count)
        if missing:
            self.count.frombytes(bytes(4 * missing))
            for column in (self.first, self.received, self.number, self.deadline):
                column.frombytes(bytes(8 * missing))
        return self.count, self.first, self.received, self.number, self.deadline

    def live_until(self, row: int, limit: int) -> list[int]:
        """The numbers of live messages from `row` on, up to the first that was sent after `limit`."""
        found = []
        for at, (state, sent) in enumerate(zip(self.state[row:], self.sent[row:], strict=True), self.base + row):
            if sent > limit:
                break
            if state:
                found.append(at)
        return found

    def groups(self) -> array[int]:
        if self.group is None:
            self.group = array("I")
        self.group.frombytes(bytes(4 * (len(self.state) - len(self.group))))
        return self.group

    def sources(self) -> array[int]:
        if self.source is None:
            self.source = array("I")
        self.source.frombytes(bytes(4 * (len(self.state) - len(self.source))))
        return self.source

    def group_of(self, row: int) -> int:
        """0: none."""
        return self.group[row] if self.group is not None and row < len(self.group) else 0

    def source_of(self, row: int) -> int:
        return self.source[row] if self.source is not None and row < len(self.source) else 0

    def number_of(self, row: int) -> int:
        """Of the last receive; 0: none."""
        return self.number[row] if self.number is not None and row < len(self.number) else 0

    def count_of(self, row: int) -> int:
        return self.count[row] if self.count is not None and row < len(self.count) else 0


class Rows:
    """The messages of one queue. `counts[state]` is exact at all times."""

    __slots__ = ("chunks", "counts", "lowest", "tail")

    def __init__(self, tail: int = 1) -> None:
        self.chunks: dict[int, Chunk] = {}
        self.counts = [0, 0, 0, 0]
        self.lowest = tail >> BITS
        self.tail = tail

    def live(self) -> int:
        counts = self.counts
        return counts[VISIBLE] + counts[IN_FLIGHT] + counts[DELAYED]

    def find(self, seq: int) -> tuple[Chunk, int] | None:
        """The chunk and row of a live message."""
        chunk = self.chunks.get(seq >> BITS)
        if chunk is None:
            return None
        row = seq - chunk.base
        if 0 <= row < len(chunk.state) and chunk.state[row]:
            return chunk, row
        return None

    def append(self, sent_ms: int, addresses: Sequence[int], lengths: Sequence[int], state: int) -> int:
        """Add live rows behind the last; returns the first one's sequence number."""
        first, total, done = self.tail, len(addresses), 0
        chunk = self.chunks.get(first >> BITS)
        if chunk is not None and len(chunk.state) == first - chunk.base and total <= ROWS - (first & (ROWS - 1)):
            self._extend(chunk, sent_ms, (addresses, lengths), state)
            return first
        while done < total:
            chunk = self.chunks.get(self.tail >> BITS)
            if chunk is None:
                chunk = self._open_chunk()
            self._pad(chunk, self.tail - chunk.base)
            step = min(total - done, ROWS - (self.tail & (ROWS - 1)))
            part = slice(done, done + step)
            self._extend(chunk, sent_ms, (addresses[part], lengths[part]), state)
            done += step
        return first

    def put(self, seq: int, sent_ms: int, stored: tuple[int, int], state: int) -> tuple[Chunk, int]:
        """One row at its number, most often the next one; stored: place, frame length."""
        place, length = stored
        if seq == self.tail:
            self.append(sent_ms, [place], [length], state)
            chunk = self.chunks[seq >> BITS]
            return chunk, seq - chunk.base
        chunk, row = self.place(seq)
        chunk.address[row], chunk.length[row], chunk.sent[row] = place, length, sent_ms
        self.set_state(chunk, row, state)
        return chunk, row

    def _extend(self, chunk: Chunk, sent_ms: int, stored: tuple[Sequence[int], Sequence[int]], state: int) -> None:
        addresses, lengths = stored
        size = len(addresses)
        chunk.state.extend(bytes((state,)) * size)
        chunk.address.extend(addresses)
        chunk.length.extend(lengths)
        chunk.sent.extend(array("Q", (sent_ms,)) * size)
        chunk.live += size
        self.counts[state] += size
        self.tail += size

    def _open_chunk(self) -> Chunk:
        number = self.tail >> BITS
        before = self.chunks.get(number - 1)
        if before is not None and not before.live:
            del self.chunks[number - 1]
        if not self.chunks:
            self.lowest = number
        chunk = self.chunks[number] = Chunk(self.tail)
        return chunk

    def oldest(self) -> tuple[Chunk, int] | None:
        """The live row of the lowest sequence number. Amortised O(1): chunks that are gone are passed once."""
        last = self.tail >> BITS
        while self.lowest <= last:
            chunk = self.chunks.get(self.lowest)
            if chunk is not None and chunk.live:
                row = len(chunk.state) - len(chunk.state.lstrip(b"\0"))
                return chunk, row
            self.lowest += 1
        self.lowest = last
        return None

    def place(self, seq: int) -> tuple[Chunk, int]:
        """A row for `seq`, wherever it lies; dead until the caller sets its state (replay of rewritten frames)."""
        number = seq >> BITS
        chunk = self.chunks.get(number)
        if chunk is None:
            chunk = self.chunks[number] = Chunk(seq)
            self.lowest = min(self.lowest, number) if len(self.chunks) > 1 else number
        if seq < chunk.base:
            self._widen(chunk, chunk.base - seq)
        row = seq - chunk.base
        self._pad(chunk, row + 1)
        self.tail = max(self.tail, seq + 1)
        return chunk, row

    def _pad(self, chunk: Chunk, rows: int) -> None:
        """Dead rows up to this many: numbers that were used elsewhere, or whose frames are gone."""
        missing = rows - len(chunk.state)
        if missing > 0:
            chunk.state.extend(bytes(missing))
            chunk.length.frombytes(bytes(4 * missing))
            chunk.address.frombytes(bytes(8 * missing))
            chunk.sent.frombytes(bytes(8 * missing))

    def _widen(self, chunk: Chunk, more: int) -> None:
        chunk.base -= more
        chunk.state[:0] = bytes(more)
        for name in _COLUMNS:
            column = getattr(chunk, name)
            if column is not None:
                column[:0] = array(column.typecode, bytes(column.itemsize * more))

    def set_state(self, chunk: Chunk, row: int, state: int) -> int:
        """Returns the state before."""
        before = chunk.state[row]
        chunk.state[row] = state
        self.counts[before] -= 1
        self.counts[state] += 1
        if (before == DEAD) != (state == DEAD):
            chunk.live += 1 if before == DEAD else -1
            if not chunk.live:
                self._release(chunk)
        return before

    # --- many rows at once

    def set_groups(self, first: int, numbers: list[int]) -> None:
        """The groups of consecutive rows; 0: none."""
        done = 0
        while done < len(numbers):
            chunk = self.chunks[first + done >> BITS]
            row = first + done - chunk.base
            part = numbers[done : done + ROWS - (first + done & ROWS - 1)]
            chunk.groups()[row : row + len(part)] = array("I", part)
            done += len(part)

    def pieces(self, seqs: list[int]) -> list[tuple[Chunk, int, int]] | None:
        """(chunk, first row, row behind the last) of live messages with consecutive numbers. None: they are not."""
        start, end = seqs[0], seqs[-1] + 1
        if end - start != len(seqs) or seqs != list(range(start, end)):
            return None
        out = []
        while start < end:
            chunk = self.chunks[start >> BITS]
            stop = min(end, (start | ROWS - 1) + 1)
            out.append((chunk, start - chunk.base, stop - chunk.base))
            start = stop
        return out

    def fly(self, seqs: list[int], number: int, times: tuple[int, int]) -> None:
        """Live messages are received: times = (now, deadline)."""
        pieces = self.pieces(seqs) if len(seqs) >= _RUN_MIN else None
        if pieces is not None and all(_is_fresh(*piece) for piece in pieces):
            self._fly_fresh(pieces, number, times)
            return
        now_ms, deadline_ms = times
        counts = self.counts
        for seq in seqs:
            chunk = self.chunks[seq >> BITS]
            row = seq - chunk.base
            count, first, received, numbers, deadlines = chunk.touch()
            counts[chunk.state[row]] -= 1
            chunk.state[row] = IN_FLIGHT
            if not count[row]:
                first[row] = now_ms
            count[row] += 1
            received[row] = now_ms
            numbers[row] = number
            deadlines[row] = deadline_ms
        counts[IN_FLIGHT] += len(seqs)

    def _fly_fresh(self, pieces: list[tuple[Chunk, int, int]], number: int, times: tuple[int, int]) -> None:
        now_ms, deadline_ms = times
        for chunk, row, to in pieces:
            count, first, received, numbers, deadlines = chunk.touch()
            size = to - row
            chunk.state[row:to] = bytes((IN_FLIGHT,)) * size
            count[row:to] = array("I", (1,)) * size
            first[row:to] = received[row:to] = array("Q", (now_ms,)) * size
            numbers[row:to] = array("Q", (number,)) * size
            deadlines[row:to] = array("Q", (deadline_ms,)) * size
            self.counts[VISIBLE] -= size
            self.counts[IN_FLIGHT] += size

    def stored(self, seqs: list[int]) -> tuple[list[int], list[int]]:
        """(places, frame lengths) of live messages."""
        places: list[int] = []
        lengths: list[int] = []
        pieces = self.pieces(seqs) if len(seqs) >= _RUN_MIN else None
        for chunk, row, to in pieces or ():
            places += chunk.address[row:to]
            lengths += chunk.length[row:to]
        if pieces is None:
            for seq in seqs:
                chunk = self.chunks[seq >> BITS]
                places.append(chunk.address[seq - chunk.base])
                lengths.append(chunk.length[seq - chunk.base])
        return places, lengths

    def end_plain(self, seqs: list[int]) -> list[int]:
        """End live messages of no group that were never moved; returns their places."""
        counts, chunks, places = self.counts, self.chunks, []
        for seq in seqs:
            chunk = chunks[seq >> BITS]
            row = seq - chunk.base
            counts[chunk.state[row]] -= 1
            chunk.state[row] = DEAD
            places.append(chunk.address[row])
            chunk.live -= 1
            if not chunk.live:
                self._release(chunk)
        return places

    def _release(self, chunk: Chunk) -> None:
        number = chunk.base >> BITS
        if number == self.tail >> BITS and len(chunk.state) <= _KEPT_EMPTY_ROWS:
            return
        del self.chunks[number]
        if not self.chunks:
            self.lowest = self.tail >> BITS
            return
        while self.lowest not in self.chunks:
            self.lowest += 1

    def clear(self) -> None:
        self.chunks.clear()
        self.counts[:] = [0, 0, 0, 0]
        self.lowest = self.tail >> BITS

    def walk(self) -> Iterator[tuple[Chunk, int, int]]:
        """Every live row in order: (chunk, row, seq). For starting, purging and tests, never for a call on messages.

        The row that it gave last may end meanwhile.
        """
        for number in sorted(self.chunks):
            chunk = self.chunks[number]
            for row, state in enumerate(bytes(chunk.state)):
                if state:
                    yield chunk, row, chunk.base + row

    def places(self) -> Iterator[list[int]]:
        """Of every live row, by the chunk."""
        for chunk in self.chunks.values():
            yield list(compress(chunk.address, chunk.state))


def _is_fresh(chunk: Chunk, row: int, to: int) -> bool:
    """All visible and never received."""
    return chunk.state.count(VISIBLE, row, to) == to - row and (chunk.count is None or not any(chunk.count[row:to]))
