"""A broker on a log in memory, with virtual time; replay equals live, shown on demand."""

from __future__ import annotations

import random
from typing import Any

from minicloud.base.arn import Scope
from minicloud.queue import codec
from minicloud.queue.book import Queue
from minicloud.queue.core import Broker
from minicloud.queue.mailbox import Delivery
from minicloud.queue.rows import DELAYED, IN_FLIGHT
from minicloud.sim.log import MemoryLog

SCOPE = Scope()
SECRET = b"secret of these tests"
START = 1_700_000_000.0


class World:
    def __init__(self) -> None:
        self.now = START
        self.rand = random.Random(1)
        self.log = MemoryLog(segment_bytes=2_000)
        self.epoch = 1
        self.broker = Broker(self.log, SECRET, self.epoch)
        self.broker.start(self.now)

    def queue(self, name: str, **attributes: str) -> Queue:
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        return self.broker.create_queue(SCOPE, name, self.now, self.rand, attributes)

    def pass_time(self, seconds: float) -> None:
        """As the service's timer does: stops at every due time on the way."""
        end = self.now + seconds
        while (due := self.broker.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.broker.tick(self.now)
        self.now = end
        self.broker.tick(self.now)

    def compact(self) -> None:
        """The oldest segment; nothing that lives in it is passed over by its first bytes."""

        def rewrite(address: int, frame: bytes) -> list[bytes]:
            moved = self.broker.rewrite(address, frame)
            assert not moved or self.broker.may_live(address, frame[: codec.PREFIX_BYTES])
            return moved

        self.log.compact(rewrite, self.broker.apply)

    def stored(self, delivery: Delivery) -> codec.Stored:
        return codec.open_message(self.log.read(delivery.address, 0, delivery.length), delivery.target)

    def opened(self, place: int) -> codec.Stored:
        """What a row points to."""
        return codec.open_message(self.log.frames[place & codec.ADDRESS_MASK], codec.target_of(place))

    def body(self, address: int) -> bytes:
        return codec.body_of(self.log.frames[address & codec.ADDRESS_MASK])

    def twin(self) -> tuple[Broker, MemoryLog]:
        """Another broker, made from the log alone."""
        log = self.log.reopened()
        broker = Broker(log, SECRET, self.epoch + 1)
        broker.replay()
        broker.start(self.now)
        return broker, log

    def restart(self) -> None:
        self.broker, self.log = self.twin()
        self.epoch += 1

    def check_replay(self) -> None:
        self.broker.tick(self.now)
        twin, log = self.twin()
        assert picture(twin) == picture(self.broker)
        live = {segment: count for segment, count in self.log.live.items() if count}
        assert {segment: count for segment, count in log.live.items() if count} == live


def picture(broker: Broker) -> dict[str, Any]:
    """Everything that counts, in one comparable value."""
    queues = {queue.number: _queue(broker, queue) for queue in broker.book.queues.values()}
    shelf = {kind: dict(records) for kind, records in broker.shelf._records.items() if records}
    return {"queues": queues, "shelf": shelf, "hidden": sorted(broker.book.hidden), "arns": sorted(broker.book.arns)}


def _queue(broker: Broker, queue: Queue) -> dict[str, Any]:
    rows = []
    for chunk, row, seq in queue.rows.walk():
        count, first, received, number, deadline = (column[row] for column in chunk.touch())
        state = chunk.state[row]
        group = queue.group_at(chunk, row)
        until = deadline if state == IN_FLIGHT or (state == DELAYED and not queue.settings.fifo) else 0
        name = group.name if group is not None else b""
        source, place = chunk.source_of(row), chunk.address[row]
        moved = broker.book.moved.get(place)
        rows.append((seq, state, place, chunk.sent[row], count, first, received, number, until, name, source, moved))
    tasks = broker._mover.tasks.get(queue.number, [])
    moves = [(task.number, task.status, task.moved, task.to_move) for task in tasks]
    return {
        "name": (queue.name, queue.hidden),
        "rows": rows,
        "counts": list(queue.rows.counts[1:]),
        "tail": queue.rows.tail,
        "attributes": queue.attributes,
        "tags": queue.tags,
        "dedup": dict(queue.dedup),
        "held": dict(queue.held),
        "flying": sorted((group.name, group.size, group.flying) for group in queue.groups.values())
        if queue.settings.fifo
        else [],
        "moves": moves,
        "purged": queue.purged_ms,
    }
