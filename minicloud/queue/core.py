"""The queues of one message broker: AWS SQS's rules over a log, with virtual time.

How to use it (the service's side):

    broker = Broker(log, secret, epoch)      # secret: the same over restarts; epoch: another at every start
    broker.replay(); broker.start(now)
    reply = broker.receive(queue, 10, now)   # decides, appends frames to the log, applies: in memory, no waiting
    ... await the log's flush ...            # only then may the reply leave
    for queue in broker.take_awake(): ...    # queues whose long polls may find something now
    broker.due(); broker.tick(now)           # one timer for the whole broker

The calls, by what they are for:

    life       replay apply start latest rewrite due tick take_awake counters
    queues     create_queue find find_arn names delete_queue attributes set_attributes tag_queue untag_queue
               dead_letter_sources purge
    messages   send send_many send_batch send_entries receive delete_many change_visibility expel message_id source_arn
    moves      start_move cancel_move list_moves
    slices     fan_out forward create_internal find_internal delete_internal, shelf.put remove change get items

A received message is read from the log at its `address`; codec.open_message(frame, target) takes it apart: body,
attributes, and for a copy of a fan-out its publisher's `origin`, its target's `ref` and whether that wants it `raw`.

`now` is Unix seconds from a clock that only runs forward (start it at max(wall clock, `broker.latest()`)). A call that
raises has changed nothing. Errors are CloudError with SQS's code and text; batch calls return one per failed entry.
Where we differ from SQS: receives sample nothing, so a short poll sees every message; delete and purge are immediate;
counts are exact; raising a FIFO queue's delay does not hide messages that are already visible; the source of a
dead-lettered message is shown only while that queue exists.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.queue import errors, index, limits, message
from minicloud.queue.book import Book, Queue
from minicloud.queue.codec import Head
from minicloud.queue.directory import Directory
from minicloud.queue.fanout import Fanned, Fanout, Note, Target
from minicloud.queue.mailbox import Delivery, Mailbox, Received, identity
from minicloud.queue.message import SendEntry
from minicloud.queue.mover import Mover, MoveTask
from minicloud.queue.ports import MessageLog
from minicloud.queue.replay import Replay
from minicloud.queue.rows import DELAYED, IN_FLIGHT, REDRIVEN, VISIBLE
from minicloud.queue.sending import Run, Sending, Sent
from minicloud.queue.shelf import Shelf

_ENTRY_ID = re.compile(r"^[A-Za-z0-9_-]{1,80}\Z")


class Broker:
    """All queues of one broker. Single-threaded; every method is synchronous and O(log n) unless it says otherwise."""

    def __init__(self, log: MessageLog, secret: bytes, epoch: int) -> None:
        """secret: 16 to 64 bytes, kept with the data; epoch: from the log's lease, higher at each start (24 bits)."""
        self.book = Book(log, secret, epoch)
        self._mover = Mover(self.book)
        self._directory = Directory(self.book, self._mover)
        self._mailbox = Mailbox(self.book, self._mover)
        self._sending = Sending(self.book)
        self._fanout = Fanout(self.book)
        self.shelf = Shelf(self.book)
        self._replay = Replay(self.book, self._directory, self._mover, self.shelf)

    # --- life

    def replay(self) -> int:
        """Apply the whole log (streaming, headers only). Returns the number of frames. Then call `start`."""
        return self._replay.run()

    def apply(self, frame: bytes, address: int) -> None:
        """One frame: of the log before `start`, or one that `rewrite` made after it was appended."""
        self._replay.apply(frame, address)

    def start(self, now: float) -> None:
        """Build the index over what was replayed. O(messages + queues)."""
        index.start(self.book, now)

    def latest(self) -> float:
        """Unix seconds of the newest thing known; a clock must not start before it."""
        return self.book.now_ms / 1000

    def may_live(self, address: int, head: bytes) -> bool:
        """Of a frame's first bytes: False when `rewrite` would find nothing live in it."""
        return self._replay.may_live(address, head)

    def rewrite(self, address: int, frame: bytes) -> list[bytes]:
        """For compaction: the frames to append (then `apply` each) so that the old frame is live no more."""
        return self._replay.rewrite(address, frame)

    def due(self) -> float | None:
        """When `tick` wants to be called next, Unix seconds."""
        timers, moves = self.book.timers.due_ms(), self._mover.due_ms()
        due = timers if moves is None or (timers is not None and timers < moves) else moves
        return None if due is None else due / 1000

    def tick(self, now: float) -> None:
        """End visibility timeouts, delays and retention; move a step of each task."""
        self.book.advance(now)
        self._mover.step()

    def take_awake(self) -> list[Queue]:
        """Queues that got visible messages since the last call."""
        if not self.book.awake:
            return []
        awake, self.book.awake = self.book.awake, set()
        return [self.book.queues[number] for number in awake if number in self.book.queues]

    def counters(self) -> dict[str, int]:
        """Since `start`: sent, received, deleted, expired, purged, dead_lettered, forwarded, damaged."""
        return dict(self.book.counters)

    def depths(self) -> dict[str, int]:
        """Messages in all queues now, by state: visible, in_flight, delayed. O(queues)."""
        counts = [queue.rows.counts for queue in self.book.queues.values()]
        states = {"visible": VISIBLE, "in_flight": IN_FLIGHT, "delayed": DELAYED}
        return {name: sum(count[state] for count in counts) for name, state in states.items()}

    # --- queues

    def create_queue(
        self,
        scope: Scope,
        name: str,
        now: float,
        rand: random.Random,
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Queue:
        """Idempotent for equal attributes.

        Raises InvalidParameterValue (name), InvalidAttributeName, InvalidAttributeValue, QueueNameExists,
        QueueDeletedRecently, UnsupportedOperation (encryption).
        """
        return self._directory.create(scope, name, (attributes or {}, tags or {}), now, rand)

    def find(self, scope: Scope, name: str) -> Queue:
        """Raises QueueDoesNotExist."""
        return self._directory.find(scope, name)

    def find_arn(self, arn: str) -> Queue:
        """Raises QueueDoesNotExist."""
        return self._directory.find_arn(arn)

    def names(self, scope: Scope, prefix: str = "") -> list[str]:
        """Sorted names; cut pages with base.pages. O(n) after a change, else O(1) without a prefix."""
        return self._directory.names(scope, prefix)

    def delete_queue(self, queue: Queue, now: float) -> None:
        """With every message. O(messages)."""
        self._directory.delete(queue, now)

    def attributes(self, queue: Queue, names: Iterable[str], now: float) -> dict[str, str]:
        """Raises InvalidAttributeName."""
        return self._directory.attributes(queue, names, now)

    def set_attributes(self, queue: Queue, given: Mapping[str, str], now: float) -> None:
        """Raises InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue (redrive target)."""
        self._directory.set_attributes(queue, given, now)

    def tag_queue(self, queue: Queue, tags: Mapping[str, str], now: float) -> None:
        """Add or overwrite tags. Raises InvalidParameterValue, TagLimitExceeded."""
        self._directory.set_tags(queue, {**queue.tags, **tags}, now)

    def untag_queue(self, queue: Queue, keys: Iterable[str], now: float) -> None:
        gone = set(keys)
        self._directory.set_tags(queue, {key: value for key, value in queue.tags.items() if key not in gone}, now)

    def dead_letter_sources(self, queue: Queue) -> list[str]:
        """Sorted ARNs. O(queues)."""
        return self._directory.sources(queue)

    def purge(self, queue: Queue, now: float) -> int:
        """Returns how many messages ended. O(messages). Raises PurgeQueueInProgress within 60 s of the last."""
        return self._mailbox.purge(queue, now)

    # --- messages

    def send_many(
        self, queue: Queue, bodies: list[bytes], now: float, *, delay_s: int | None = None, attributes: bytes = b""
    ) -> Run:
        """Bulk send to a standard queue, all or none; `attributes`: message.encode_attributes, the same for each.

        Raises MissingParameter, InvalidMessageContents, InvalidParameterValue (too long, delay), InsufficientStorage.
        """
        return self._sending.send_many(queue, bodies, now, delay_s, attributes)

    def send(self, queue: Queue, entry: SendEntry, now: float, sender: str = "") -> Sent:
        """One message with all that a message can carry; standard and FIFO. Raises what send_many does."""
        (result,) = self._sending.send(queue, [entry], now, sender)
        if isinstance(result, CloudError):
            raise result
        return result

    def send_batch(
        self, queue: Queue, entries: Sequence[SendEntry], now: float, sender: str = ""
    ) -> list[Sent | CloudError]:
        """One result for each entry, in order.

        Raises EmptyBatchRequest, TooManyEntriesInBatchRequest, InvalidBatchEntryId, BatchEntryIdsNotDistinct,
        BatchRequestTooLong.
        """
        check_batch([entry.id for entry in entries], "SendMessageBatchRequestEntry")
        _check_size(entries, limits.BATCH_BYTES_MAX)
        return self._sending.send(queue, entries, now, sender)

    def send_entries(
        self, queue: Queue, entries: Sequence[SendEntry], now: float, sender: str = ""
    ) -> list[Sent | CloudError]:
        """send_batch for 1 to 1,000 entries of 4 MiB together, whose ids do not matter.

        Raises InvalidParameterValue (count), BatchRequestTooLong, InsufficientStorage.
        """
        if not 1 <= len(entries) <= limits.BULK_MESSAGES_MAX:
            raise InvalidParameterValue(f"1 to {limits.BULK_MESSAGES_MAX} entries a call", field="entries")
        _check_size(entries, limits.BULK_BYTES_MAX)
        return self._sending.send(queue, entries, now, sender)

    def receive(
        self, queue: Queue, want: int, now: float, *, visibility_s: int | None = None, attempt_id: str = ""
    ) -> Received:
        """Up to `want` messages (1 to 1,000; the AWS door allows 10), possibly none: waiting is the service's part.

        Raises InvalidParameterValue, OverLimit (standard queue with 120,000 in flight).
        """
        return self._mailbox.receive(queue, want, now, visibility_s, attempt_id)

    def delete_many(self, queue: Queue, handles: Sequence[bytes], now: float) -> dict[int, CloudError]:
        """Raw handles (receipt.from_text for text ones). Returns the failed ones: index -> error."""
        return self._mailbox.delete(queue, handles, now)

    def change_visibility(
        self, queue: Queue, handles: Sequence[bytes], timeouts_s: Sequence[int], now: float
    ) -> dict[int, CloudError]:
        """Returns the failed ones: index -> ReceiptHandleIsInvalid, MessageNotInflight, InvalidParameterValue."""
        return self._mailbox.change(queue, handles, timeouts_s, now)

    def give_back(self, got: Received, now: float) -> None:
        """What nobody was told of is visible again, unless a repeated attempt was given it since."""
        self._mailbox.give_back(got, now)

    def expel(self, queue: Queue, seq: int, now: float) -> bool:
        """End a message whose frame cannot be read, whatever its state. False: it was gone. Counted as damaged."""
        return self._mailbox.expel(queue, seq, now)

    def message_id(self, queue: Queue, delivery: Delivery, head: Head) -> str:
        """Of a delivery, with the head of its frame (codec.open_message(frame, delivery.target).head)."""
        return identity(self.book, delivery, head)

    def source_arn(self, delivery: Delivery) -> str:
        """DeadLetterQueueSourceArn: '' for a message that is no dead letter, or whose source is deleted."""
        source = None if delivery.source & REDRIVEN else self.book.queues.get(delivery.source)
        return source.arn if source is not None and not source.hidden else ""

    # --- for the other slices

    def fan_out(self, targets: Sequence[Target], notes: Sequence[Note], now: float) -> Fanned:
        """Each of 1 to 1,000 notes to each target, one frame a note; what a target cannot take is in the result.

        Fast for notes without group and deduplication id to standard queues. Raises InsufficientStorage.
        """
        return self._fanout.fan_out(targets, notes, now)

    def forward(self, queue: Queue, handles: Sequence[bytes], target: Queue, now: float) -> dict[int, CloudError]:
        """Move messages in flight to another queue of the same type, as new ones there: body, attributes, origin stay.

        All in one frame. Returns the failed ones: index -> ReceiptHandleIsInvalid, InvalidParameterValue,
        MessageNotInflight. Raises UnsupportedOperation.
        """
        return self._mailbox.forward(queue, handles, target, now)

    def create_internal(
        self, scope: Scope, key: str, now: float, rand: random.Random, attributes: Mapping[str, str] | None = None
    ) -> Queue:
        """A queue that no user can see; one that has the key is returned as it is. FIFO with FifoQueue true.

        It has no ARN that anyone can use; its messages reach a dead-letter queue by RedrivePolicy or `forward`.
        Raises InvalidAttributeName, InvalidAttributeValue, InsufficientStorage.
        """
        return self._directory.create_hidden(scope, key, attributes or {}, now, rand)

    def find_internal(self, key: str) -> Queue | None:
        return self.book.hidden.get(key)

    def delete_internal(self, key: str, now: float) -> None:
        """With every message. Nothing happens where there is none."""
        queue = self.book.hidden.get(key)
        if queue is not None:
            self._directory.delete(queue, now)

    # --- message move tasks

    def start_move(self, source_arn: str, now: float, *, destination_arn: str = "", rate: int = 0) -> MoveTask:
        """Redrive a dead-letter queue. rate: messages a second, 0 as fast as it goes.

        Raises ResourceNotFoundException, InvalidParameterValue.
        """
        source = self.book.arns.get(source_arn)
        target = self.book.arns.get(destination_arn) if destination_arn else None
        if source is None:
            raise errors.no_such_resource()
        if destination_arn and target is None:
            raise errors.no_such_resource("DestinationArn")
        return self._mover.start(source, target, rate, now)

    def cancel_move(self, task: int, now: float) -> int:
        """Returns how many were moved. Raises ResourceNotFoundException."""
        return self._mover.cancel(task, now)

    def list_moves(self, source_arn: str, count: int = 1) -> list[MoveTask]:
        """Newest first, up to 10. Raises ResourceNotFoundException, InvalidParameterValue."""
        source = self.book.arns.get(source_arn)
        if source is None:
            raise errors.no_such_resource()
        if not 1 <= count <= limits.MOVE_TASKS_LISTED_MAX:
            raise errors.bad_value("MaxResults", count, f"Must be between 1 and {limits.MOVE_TASKS_LISTED_MAX}.")
        return self._mover.tasks.get(source.number, [])[:count]


def _check_size(entries: Sequence[SendEntry], maximum: int) -> None:
    size = sum(len(entry.body) + message.size_of(entry.attributes) for entry in entries)
    if size > maximum:
        raise errors.batch_too_long(size, maximum)


def check_batch(ids: Sequence[str], entry: str) -> None:
    """The laws of every batch. Raises EmptyBatchRequest and the others of its kind."""
    if not ids:
        raise errors.empty_batch(entry)
    if len(ids) > limits.BATCH_ENTRIES_MAX:
        raise errors.too_many_entries(len(ids))
    for entry_id in ids:
        if not _ENTRY_ID.match(entry_id):
            raise errors.bad_entry_id()
    if len(set(ids)) != len(ids):
        raise errors.repeated_id(next(entry_id for entry_id in ids if ids.count(entry_id) > 1))
