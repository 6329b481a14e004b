"""The queues of one broker at work: every call is decided by the pure core, and answered once it is on disk.

    call -> core (in memory; may raise) -> sleepers wake, the timer is set -> await log.flushed() -> reply

A door that answers many small calls does not wait with a coroutine for each: it `decide`s, makes its reply, and gives
it away from `after_flush`.

Calls of the same moment share one sync: each appends its frames and waits, and the log writes all that is queued. A
receive reads its bodies in the same turn as it decides, so nothing can move them meanwhile; the disk syncs beside it.
Documents (messages of topics that are not raw) it makes after that, a few in a turn: other calls come in between.

Long polls sleep on their queue (shell/waiters.py). A queue that got messages wakes the one that has slept longest; who
left some wakes the next, so a thousand sleepers cost nothing and one message wakes one of them. A
receive whose caller went away before the answer gives its messages back at once.

A body that the disk lost (its checksum fails) is taken out of its queue, counted and logged, and the receive goes on.
When the log fails nothing is confirmed any more: every call raises, and the process must end (`ended`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, LimitExceeded, Unavailable
from minicloud.queue import columns, errors, limits
from minicloud.queue.book import Queue
from minicloud.queue.columns import Batch, Render
from minicloud.queue.compaction import Compaction, SegmentedLog
from minicloud.queue.core import Broker
from minicloud.queue.mailbox import Received
from minicloud.queue.message import SendEntry
from minicloud.queue.mover import MoveTask
from minicloud.queue.rows import IN_FLIGHT, VISIBLE
from minicloud.queue.sending import Run, Sent
from minicloud.shell.clock import Clock, Timer
from minicloud.shell.waiters import Waiters

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_S = 1.0  # a step of time that failed (a full disk) is tried again after this
DOCUMENTS_AT_ONCE = 4  # made in one turn: a signature takes half a millisecond


class DurableLog(SegmentedLog, Protocol):
    """A log on a disk."""

    @property
    def error(self) -> CloudError | None:
        """Why it has failed for good."""
        ...

    async def flushed(self) -> None:
        """Returns once everything appended before is on disk. Raises Fenced, Internal: it never will be."""
        ...

    def after_flush(self, done: Callable[[CloudError | None], None]) -> None:
        """The same with a call, from the running event loop, and never within this one."""
        ...

    def read_all(self, addresses: Sequence[int], lengths: Sequence[int]) -> Sequence[bytes | CloudError]:
        """Whole frames; each is there or is its error."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into. `clock`: its wall never runs back, and starts behind nothing that is stored."""

    log: DurableLog
    clock: Clock
    rand: random.Random
    render: Render


class Ask(NamedTuple):
    """One receive call. None: the queue's own setting."""

    want: int = 1
    visibility_s: int | None = None
    wait_s: int | None = None
    attempt_id: str = ""


class QueueService:
    def __init__(self, core: Broker, ports: Ports) -> None:
        """The core is replayed and started."""
        self.core = core
        self.waiters = Waiters(ports.clock)
        self.damaged = 0
        self.compaction = Compaction(core, ports.log, ports.clock)
        self._ports = ports
        self._log = ports.log
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._rest_until = 0.0
        self._settle()

    def now(self) -> float:
        return self._ports.clock.wall()

    async def close(self) -> None:
        """Sleepers find out."""
        if self._timer is not None:
            self._timer.cancel()
        self.waiters.notify_all()
        await self.compaction.close()

    async def act(self, decide: Callable[[float], T]) -> T:
        """One call of the core with the time, and its result once it is on disk. For neighbours that share the core.

        Raises what `decide` does; Unavailable, Fenced, Internal.
        """
        result = self.decide(decide)
        await self._log.flushed()
        return result

    def decide(self, decide: Callable[[float], T]) -> T:
        """The same in one turn: what it returns is not on disk yet, and nobody may hear of it. Raises as `act`, but
        what the disk says later.
        """
        self._check()
        try:
            return decide(self._ports.clock.wall())
        finally:
            self._settle()

    async def flushed(self) -> None:
        """Returns once everything that was decided so far is on disk. Raises Fenced, Internal."""
        await self._log.flushed()

    def after_flush(self, done: Callable[[CloudError | None], None]) -> None:
        """Call `done` once everything that was decided so far is on disk: with None, or why it never will be."""
        self._log.after_flush(done)

    def _check(self) -> None:
        if self._log.error is not None:
            raise Unavailable("The message broker lost its disk and starts again; retry.") from self._log.error

    # --- time

    def _settle(self) -> None:
        """After every call: whom it woke, and when time next matters."""
        for queue in self.core.take_awake():
            self.waiters.notify(queue.number, count=1)
        due: float | None = self.core.due()
        due = due if due is None else max(due, self._rest_until)
        if due is not None and (self._timer is None or due < self._timer_at):
            self._arm(due)
        self.compaction.stir()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._ports.clock.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.core.tick(self._ports.clock.wall())
        except CloudError as error:
            log.error("a step of time failed: %s", error)
            self._rest_until = self._ports.clock.wall() + RETRY_S
        self._settle()

    # --- queues

    async def create_queue(
        self, scope: Scope, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> Queue:
        rand = self._ports.rand
        return await self.act(lambda now: self.core.create_queue(scope, name, now, rand, attributes, tags))

    async def delete_queue(self, queue: Queue) -> None:
        await self.act(lambda now: self._delete_queue(queue, now))

    def _delete_queue(self, queue: Queue, now: float) -> None:
        self.core.delete_queue(queue, now)
        self.waiters.notify(queue.number)

    async def attributes(self, queue: Queue, names: Sequence[str]) -> dict[str, str]:
        return await self.act(lambda now: self.core.attributes(queue, names, now))

    async def set_attributes(self, queue: Queue, given: Mapping[str, str]) -> None:
        await self.act(lambda now: self.core.set_attributes(queue, given, now))

    async def edit_policy(self, queue: Queue, edit: Callable[[str], str]) -> None:
        """`edit` makes the new text of the access policy out of the old one, within one turn."""

        def change(now: float) -> None:
            self.core.set_attributes(queue, {"Policy": edit(queue.attributes.get("Policy", ""))}, now)

        await self.act(change)

    async def tag(self, queue: Queue, tags: Mapping[str, str], remove: Sequence[str]) -> None:
        """Add or overwrite, then remove."""
        await self.act(lambda now: self._tag(queue, tags, remove, now))

    def _tag(self, queue: Queue, tags: Mapping[str, str], remove: Sequence[str], now: float) -> None:
        if tags:
            self.core.tag_queue(queue, tags, now)
        if remove:
            self.core.untag_queue(queue, remove, now)

    async def names(self, scope: Scope, prefix: str) -> list[str]:
        """Sorted."""
        return await self.act(lambda _now: self.core.names(scope, prefix))

    async def dead_letter_sources(self, queue: Queue) -> list[str]:
        """Sorted ARNs."""
        return await self.act(lambda _now: self.core.dead_letter_sources(queue))

    async def purge(self, queue: Queue) -> int:
        return await self.act(lambda now: self.core.purge(queue, now))

    # --- messages

    async def send_many(self, queue: Queue, bodies: list[bytes], delay_s: int | None) -> Run:
        return await self.act(lambda now: self.core.send_many(queue, bodies, now, delay_s=delay_s))

    async def send(self, queue: Queue, entries: Sequence[SendEntry]) -> list[Sent | CloudError]:
        """One result for each entry, in order."""
        return await self.act(lambda now: self.core.send_entries(queue, entries, now))

    async def delete(self, queue: Queue, handles: Sequence[bytes]) -> dict[int, CloudError]:
        failed = self.delete_now(queue, handles)
        await self._log.flushed()
        return failed

    def delete_now(self, queue: Queue, handles: Sequence[bytes]) -> dict[int, CloudError]:
        """In one turn, as `decide`."""
        return self.decide(lambda now: self._delete(queue, handles, now))

    def _delete(self, queue: Queue, handles: Sequence[bytes], now: float) -> dict[int, CloudError]:
        full = queue.rows.counts[IN_FLIGHT] >= limits.IN_FLIGHT_MAX
        failed = self.core.delete_many(queue, handles, now)
        if full:
            self.waiters.notify(queue.number, count=1)
        return failed

    async def change_visibility(
        self, queue: Queue, handles: Sequence[bytes], timeouts_s: Sequence[int]
    ) -> dict[int, CloudError]:
        return await self.act(lambda now: self.core.change_visibility(queue, handles, timeouts_s, now))

    async def receive(self, queue: Queue, ask: Ask) -> Batch:
        """Up to `ask.want` messages; waits for the first one. Raises what Broker.receive does, and Throttled."""
        wait_s = queue.settings.wait_s if ask.wait_s is None else check_wait(ask.wait_s)
        batch = self._take(queue, ask, patient=wait_s > 0)
        if not batch.bodies and wait_s:
            batch = await self._wait(queue, ask, wait_s)
        if not batch.bodies:
            self.core.book.tally(queue).empty += 1
            return batch
        try:
            await self._log.flushed()
            for count, _ in enumerate(batch.rendered(self._ports.render), 1):
                if not count % DOCUMENTS_AT_ONCE:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.give_back(batch)
            raise
        return batch

    def receive_now(self, queue: Queue, ask: Ask) -> Batch | None:
        """`receive` in one turn, as `decide`. None: `receive` has to wait for a message, or for documents to be made.

        Who gives the batch to nobody calls `give_back`.
        """
        if queue.documents:
            return None
        wait_s = queue.settings.wait_s if ask.wait_s is None else check_wait(ask.wait_s)
        batch = self._take(queue, ask, patient=wait_s > 0)
        if not batch.bodies:
            if wait_s:
                return None
            self.core.book.tally(queue).empty += 1
        return batch

    async def _wait(self, queue: Queue, ask: Ask, wait_s: float) -> Batch:
        until = self.now() + wait_s
        async with self.waiters.watch(queue.number) as watch:
            while True:
                batch = self._take(queue, ask, patient=True)
                if batch.bodies or not await watch.wait(until - self.now()):
                    break
        if batch.bodies and queue.rows.counts[VISIBLE]:
            self.waiters.notify(queue.number, count=1)
        return batch

    def _take(self, queue: Queue, ask: Ask, *, patient: bool) -> Batch:
        """What is there now, with its bodies. Ends: whatever has no body is received once and never again."""
        self._check()
        if self.core.book.queues.get(queue.number) is not queue:
            raise errors.no_such_queue()
        while True:
            try:
                got = self.core.receive(
                    queue, ask.want, self.now(), visibility_s=ask.visibility_s, attempt_id=ask.attempt_id
                )
            except LimitExceeded:
                if not patient:
                    raise
                return Batch(Received(queue))  # as AWS: a long poll waits at the limit, a short one fails
            finally:
                self._settle()
            there_were = bool(got.seqs)
            batch = self._read(got)
            if batch.bodies or not there_were:
                return batch

    def _read(self, got: Received) -> Batch:
        found = self._log.read_all(got.addresses, got.lengths)
        frames = [frame for frame in found if isinstance(frame, bytes)]
        if len(frames) < len(found):
            self._expel(got, found)
        return columns.batch(self.core, got, frames)

    def _expel(self, got: Received, found: Sequence[bytes | CloudError]) -> None:
        """Those that cannot be read leave the queue, and this answer."""
        kept: list[int] = []
        for index, frame in enumerate(found):
            if isinstance(frame, bytes):
                kept.append(index)
                continue
            log.error("a message of %s is lost: %s", got.queue.arn, frame)
            self.damaged += 1
            self.core.expel(got.queue, got.seqs[index], self.now())
        for column in (got.seqs, got.addresses, got.targets, got.lengths):
            column[:] = [column[index] for index in kept]

    def give_back(self, batch: Batch) -> None:
        """Its messages are visible again."""
        try:
            self.core.give_back(batch.received, self.now())
        except CloudError as error:
            log.warning("messages that nobody waited for stay hidden until their timeout: %s", error)
        self._settle()

    # --- message move tasks

    async def start_move(self, source_arn: str, destination_arn: str, rate: int) -> MoveTask:
        """The task as it is when it starts: it goes on while this waits for the disk."""
        return await self.act(
            lambda now: replace(self.core.start_move(source_arn, now, destination_arn=destination_arn, rate=rate))
        )

    async def cancel_move(self, number: int, source_arn: str) -> MoveTask:
        return await self.act(lambda now: self._cancel_move(number, source_arn, now))

    def _cancel_move(self, number: int, source_arn: str, now: float) -> MoveTask:
        self.core.cancel_move(number, now)
        tasks = self.core.list_moves(source_arn, limits.MOVE_TASKS_LISTED_MAX)
        return next(task for task in tasks if task.number == number)

    async def list_moves(self, source_arn: str, count: int) -> list[MoveTask]:
        return await self.act(lambda _now: self.core.list_moves(source_arn, count))


def check_wait(wait_s: int) -> int:
    if not 0 <= wait_s <= limits.WAIT_S_MAX:
        reason = f"Must be >= 0 and <= {limits.WAIT_S_MAX}, if provided."
        raise errors.bad_value("WaitTimeSeconds", wait_s, reason)
    return wait_s
