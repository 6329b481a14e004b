"""Histories of queues: what producers and consumers did and saw, and the laws that must hold whatever was killed.

Standard queue   every acknowledged message is received; nothing is received that was not sent; after an acknowledged
                 delete no later receive brings the message back; nothing is left at the end
FIFO queue       within a group nothing is delivered before all before it were deleted, or stand before it in the same
                 answer; a message that was sent again under its deduplication id has one id and one sequence number;
                 sequence numbers grow with the order of sending; after an acknowledged delete it never comes back

What a call did whose answer was lost is not known: such a send may or may not be there, such a delete may or may not
have happened. A delete that comes when the message may be somebody else's already, because its visibility timeout is
over, is acknowledged and does nothing, as in AWS: it counts as one that may not have happened.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc

from minicloud.wire import queue_pb2 as wire

VISIBILITY_S = 3
PAUSE_S = 0.01
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def body_of(name: str) -> bytes:
    """The name with a checksum and some weight: a mixed-up body is nobody's."""
    weight = (name * 20).encode()
    return f"{name}|{zlib.crc32(weight)}|".encode() + weight


def name_of(body: bytes) -> str:
    name, check, weight = body.split(b"|", 2)
    assert weight == name * 20 and int(check) == zlib.crc32(weight), f"a body that nobody sent: {body[:100]!r}"
    return name.decode()


async def attempt(call: Any) -> Any:
    """The reply, or None where the answer was lost."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        assert error.code() in RETRIED, error
        return None


async def answered(stub: Any) -> None:
    """The broker answers: old connections may take a call with them first."""
    while await attempt(stub.ListQueues(wire.ListQueuesRequest())) is None:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(PAUSE_S)


def parts(joined: bytes, size: int) -> list[bytes]:
    return [joined[at : at + size] for at in range(0, len(joined), size)]


@dataclass
class History:
    """`stop` ends producers; consumers go on until told so."""

    queue: str
    tried: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    deleting: set[str] = field(default_factory=set)
    deleted: dict[str, float] = field(default_factory=dict)  # -> when the delete was acknowledged
    broken: list[str] = field(default_factory=list)
    lost_answers: int = 0
    stop: bool = False

    async def consume(self, stub: Any, rand: random.Random) -> None:
        while True:
            began = time.monotonic()
            want = rand.randint(1, 50)
            got = await attempt(
                stub.ReceiveMessages(wire.ReceiveMessagesRequest(queue=self.queue, max_messages=want, wait_s=1))
            )
            if got is None:
                self.lost_answers += 1
                await asyncio.sleep(PAUSE_S)
                continue
            names = [self.name(body) for body in got.bodies]
            self.note(names, got, began)
            if names and rand.random() < 0.95:
                await self.delete(stub, names, parts(got.receipt_handles, 28), began + VISIBILITY_S)

    def name(self, body: bytes) -> str:
        return name_of(body)

    def note(self, names: list[str], _got: wire.ReceiveMessagesReply, began: float) -> None:
        for name in names:
            self.seen[name] += 1
            if began > self.deleted.get(name, began):
                self.broken.append(f"{name} came back {began - self.deleted[name]:.3f} s after its delete")

    async def delete(self, stub: Any, names: list[str], handles: list[bytes], theirs_from: float) -> None:
        self.deleting.update(names)
        request = wire.DeleteMessagesRequest(queue=self.queue, receipt_handles=b"".join(handles))
        done = await attempt(stub.DeleteMessages(request))
        if done is None:
            self.lost_answers += 1
            return
        now, failed = time.monotonic(), {entry.index for entry in done.failed}
        for index, name in enumerate(names):
            if index not in failed and now < theirs_from:
                self.deleted.setdefault(name, now)

    def check(self) -> None:
        assert self.deleted and not self.broken, self.broken[:5]
        lost = self.acked - self.seen.keys()
        assert not lost, f"{len(lost)} acknowledged messages are lost: {sorted(lost)[:5]}"
        made_up = self.seen.keys() - self.tried
        assert not made_up, f"out of thin air: {sorted(made_up)[:5]}"

    def counts(self) -> str:
        again = sum(self.seen.values()) - len(self.seen)
        return (
            f"{self.queue}: {len(self.tried)} sent, {len(self.acked)} acknowledged, {len(self.seen)} received "
            f"({again} again), {len(self.deleted)} deletes acknowledged, {self.lost_answers} answers lost"
        )


class Standard(History):
    async def produce(self, stub: Any, producer: str, rand: random.Random) -> None:
        number = 0
        while not self.stop:
            names = [f"{producer}-{number + at}" for at in range(rand.randint(1, 40))]
            number += len(names)
            self.tried.update(names)
            request = wire.SendBulkRequest(queue=self.queue, bodies=map(body_of, names))
            if await attempt(stub.SendBulk(request)) is not None:
                self.acked.update(names)
            else:
                self.lost_answers += 1
            await asyncio.sleep(PAUSE_S)


class Fifo(History):
    """Each group has one producer, which sends 0, 1, 2 ... and every number until it is acknowledged."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self.ids: dict[str, tuple[str, int]] = {}
        self.sent_as: dict[str, tuple[str, int]] = {}

    async def produce(self, stub: Any, producer: str, rand: random.Random) -> None:
        number = 0
        while not self.stop:
            names = [f"{producer}-{number + at}" for at in range(rand.randint(1, 10))]
            number += len(names)
            self.tried.update(names)
            entries = [wire.SendEntry(body=body_of(name), group_id=producer, deduplication_id=name) for name in names]
            request = wire.SendMessagesRequest(queue=self.queue, entries=entries)
            while (reply := await attempt(stub.SendMessages(request))) is None:
                self.lost_answers += 1
                await asyncio.sleep(PAUSE_S)
            for name, result in zip(names, reply.results, strict=True):
                assert not result.error.code, result
                self._same(self.sent_as, name, (result.message_id, int(result.sequence_number)))
            self.acked.update(names)
            await asyncio.sleep(PAUSE_S)

    def note(self, names: list[str], got: wire.ReceiveMessagesReply, began: float) -> None:
        super().note(names, got, began)
        in_answer: set[str] = set()
        for index, name in enumerate(names):
            group, _, number = name.rpartition("-")
            assert got.extras[index].group_id == group
            identity = parts(got.message_ids, 16)[index].hex(), int(got.extras[index].sequence_number)
            self._same(self.ids, name, identity)
            before = f"{group}-{int(number) - 1}"
            if int(number) and before not in in_answer and before not in self.deleting:
                self.broken.append(f"{name} was delivered before {before} was deleted")
            in_answer.add(name)

    def _same(self, known: dict[str, tuple[str, int]], name: str, identity: tuple[str, int]) -> None:
        if known.setdefault(name, identity) != identity:
            self.broken.append(f"{name} is two messages: {known[name]} and {identity}")

    def check(self) -> None:
        super().check()
        for name, (_, sequence) in self.ids.items():
            group, _, number = name.rpartition("-")
            before = self.ids.get(f"{group}-{int(number) - 1}")
            assert before is None or before[1] < sequence, f"{name} has a lower number than the one before it"
            if name in self.sent_as:
                told, told_sequence = self.sent_as[name]
                assert (told.replace("-", ""), told_sequence) == self.ids[name]
