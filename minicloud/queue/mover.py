"""Messages that change queues: dead-letter moves and message move tasks (redrive).

A move is one frame and copies no body: the message keeps its frame's address and gets a row behind the last of the
target. To a dead-letter queue it keeps id, receive count and, on standard queues, the time it was sent (its retention
goes on, as AWS says); redriven or forwarded, it starts anew with a new id, time and count. FIFO messages keep their
group. A copy of a fan-out stays one: its place says which target it was made for.

Task states: RUNNING -> COMPLETED | CANCELLED | FAILED. A task moves what is visible, up to the number that was there
when it started, in small steps at its rate.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import asdict, dataclass, replace

from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.queue import codec, errors, limits
from minicloud.queue.book import Book, Moved, Queue
from minicloud.queue.rows import REDRIVEN, VISIBLE


@dataclass(slots=True)
class MoveTask:
    """Times in Unix milliseconds; `target` 0: back to where each message came from; `rate` 0: as fast as it goes."""

    number: int
    source: int
    source_arn: str
    target: int
    target_arn: str
    rate: int
    to_move: int
    started_ms: int
    status: str = "RUNNING"
    moved: int = 0
    failure: str = ""
    next_ms: int = 0
    address: int = 0


class Mover:
    def __init__(self, book: Book) -> None:
        self._book = book
        self.tasks: dict[int, list[MoveTask]] = {}
        self.running: dict[int, MoveTask] = {}
        self.task_last = 0

    # --- dead letters

    def dead_letter_queue(self, queue: Queue) -> Queue | None:
        """None: no redrive policy, or its queue is gone (messages stay then, as in AWS)."""
        return self._book.arns.get(queue.settings.dlq_arn)

    def dead_letter(self, queue: Queue, target: Queue, seqs: list[int]) -> None:
        self._move(queue, target, seqs, redrive=False)
        self._book.counters["dead_lettered"] += len(seqs)

    def forward(self, queue: Queue, target: Queue, seqs: list[int]) -> None:
        """New messages in the target, as if they had been sent there."""
        self._move(queue, target, seqs, redrive=True)
        self._book.counters["forwarded"] += len(seqs)

    def _move(self, queue: Queue, target: Queue, seqs: list[int], *, redrive: bool, task: int = 0) -> None:
        book = self._book
        first = target.rows.tail
        frame = codec.move((queue.number, target.number, first, task), book.now_ms, array("Q", seqs), redrive=redrive)
        book.log.append([frame], essential=True)
        self.moved(queue, target, seqs, (task, first), redrive=redrive)

    def moved(self, queue: Queue, target: Queue, seqs: list[int], move: tuple[int, int], *, redrive: bool) -> None:
        """The move itself; also the replay of its frame, where some may have been rewritten to their new place.

        move: task (0: none), first sequence number in the target.
        """
        task, first = move
        for new, seq in enumerate(seqs, first):
            target.rows.tail = max(target.rows.tail, new)
            if queue.rows.find(seq) is not None:
                self._move_one(queue, target, (seq, new), redrive=redrive)
        target.rows.tail = max(target.rows.tail, first + len(seqs))
        if task and task in self.running:
            self.running[task].moved += len(seqs)

    def _move_one(self, queue: Queue, target: Queue, seqs: tuple[int, int], *, redrive: bool) -> None:
        """seqs: before and after."""
        book = self._book
        seq, new = seqs
        found = queue.rows.find(seq)
        assert found is not None
        chunk, row = found
        length, sent = chunk.length[row], chunk.sent[row]
        count, first = (0, 0) if redrive else (chunk.count_of(row), chunk.touch()[1][row])
        group = queue.group_at(chunk, row)
        name = group.name if group is not None else b""
        place = chunk.address[row]
        before = book.moved.get(place)
        book.end(queue, seq, forget=False)
        if redrive or target.settings.fifo:
            sent = book.now_ms
        there, at = target.rows.put(new, sent, (place, length), VISIBLE)
        renamed = (target.tag, new) if redrive else (before.id_tag, before.id_seq) if before else (0, 0)
        book.moved[place] = Moved(target.number, new, *renamed)
        target.moved_in = True
        target.documents |= queue.documents
        there.sources()[at] = queue.number | (REDRIVEN if redrive else 0)
        if count:
            columns = there.touch()
            columns[0][at], columns[1][at] = count, first
        if name:
            book.set_group(target, new, name)
        if book.live:
            book.settle_arrival(target, there, at)

    # --- tasks

    def start(self, source: Queue, target: Queue | None, rate: int, now: float) -> MoveTask:
        """Raises InvalidParameterValue."""
        now_ms = self._book.advance(now)
        if not 0 <= rate <= limits.MOVE_RATE_MAX:
            reason = f"Must be between 1 and {limits.MOVE_RATE_MAX}, if provided."
            raise errors.bad_value("MaxNumberOfMessagesPerSecond", rate, reason)
        queues = self._book.queues.values()
        if not any(queue.settings.dlq_arn == source.arn and not queue.hidden for queue in queues):
            raise InvalidParameterValue("Source queue must be configured as a Dead Letter Queue.", field="SourceArn")
        if any(task.source == source.number for task in self.running.values()):
            text = "There is already a task running. "
            text += "Only one active task is allowed for a source queue arn at a given time."
            raise InvalidParameterValue(text, field="SourceArn")
        if target is source:
            text = "Source queue arn and destination queue arn cannot be the same."
            raise InvalidParameterValue(text, field="DestinationArn")
        if target is not None and target.settings.fifo != source.settings.fifo:
            text = "The source queue and destination queue must be of the same queue type."
            raise InvalidParameterValue(text, field="DestinationArn")
        task = MoveTask(
            self.task_last + 1, source.number, source.arn, target.number if target else 0, target.arn if target else "",
            rate, source.rows.counts[VISIBLE], now_ms, next_ms=now_ms,
        )  # fmt: skip
        self.store(task)
        return task

    def store(self, task: MoveTask) -> None:
        (address,) = self._book.log.append([self.frame(task)], essential=True)
        self.note(task, address)

    def frame(self, task: MoveTask) -> bytes:
        return codec.blob(
            codec.TASK, task.source, self._book.now_ms, json.dumps({**asdict(task), "address": 0}).encode()
        )

    def note(self, task: MoveTask, address: int) -> None:
        """A task as of now; also the replay of its frame."""
        log = self._book.log
        self.task_last = max(self.task_last, task.number)
        tasks = self.tasks.setdefault(task.source, [])
        old_address = 0
        for old in [item for item in tasks if item.number == task.number]:
            tasks.remove(old)
            old_address = old.address
        if old_address and address != old_address:
            log.drop(old_address)
        task.address = address
        log.keep(address)
        tasks.insert(0, task)
        for old in tasks[limits.MOVE_TASKS_LISTED_MAX :]:
            log.drop(old.address)
        del tasks[limits.MOVE_TASKS_LISTED_MAX :]
        if task.status == "RUNNING":
            self.running[task.number] = task
        else:
            self.running.pop(task.number, None)

    def forget(self, queue: Queue) -> None:
        """The queue is deleted, and its tasks with it."""
        for task in self.tasks.pop(queue.number, []):
            self.running.pop(task.number, None)
            self._book.log.drop(task.address)

    def cancel(self, number: int, now: float) -> int:
        """Returns how many were moved. Raises NotFound."""
        self._book.advance(now)
        task = self.running.get(number)
        if task is None:
            raise errors.no_such_task()
        self._finish(task, "CANCELLED")
        return task.moved

    def due_ms(self) -> int | None:
        return min(task.next_ms for task in self.running.values()) if self.running else None

    def step(self) -> None:
        """Move what is due now."""
        for task in list(self.running.values()):
            if task.next_ms <= self._book.now_ms:
                self._step(task)

    def _step(self, task: MoveTask) -> None:
        source = self._book.queues[task.source]
        assert source.line is not None
        pause_s = limits.MOVE_STEP_S if not task.rate else max(0.1, 1 / task.rate)
        want = limits.MOVE_STEP_MESSAGES if not task.rate else max(1, int(task.rate * pause_s))
        seqs, _ = source.line.take(min(want, max(0, task.to_move - task.moved)), 0, fly=False)
        for index, seq in enumerate(seqs):
            target = self._target(task, source, seq)
            if isinstance(target, str):
                self._book.untake(source, seqs[index:], flying=False)
                self._finish(task, "FAILED", target)
                return
            try:
                self._move(source, target, [seq], redrive=True, task=task.number)
            except CloudError:
                self._book.untake(source, seqs[index:], flying=False)
                raise
        if not seqs or task.moved >= task.to_move:
            self._finish(task, "COMPLETED")
        else:
            task.next_ms = self._book.now_ms + int(pause_s * 1000)

    def _target(self, task: MoveTask, source: Queue, seq: int) -> Queue | str:
        if task.target:
            return self._book.queues.get(task.target) or "AWS.SimpleQueueService.NonExistentQueue"
        found = source.rows.find(seq)
        assert found is not None
        origin = found[0].source_of(found[1])
        if not origin or origin & REDRIVEN:
            return "CouldNotDetermineMessageSource"
        return self._book.queues.get(origin) or "AWS.SimpleQueueService.NonExistentQueue"

    def _finish(self, task: MoveTask, status: str, failure: str = "") -> None:
        frame = self.frame(replace(task, status=status, failure=failure))
        (address,) = self._book.log.append([frame], essential=True)
        task.status, task.failure = status, failure
        self.note(task, address)
