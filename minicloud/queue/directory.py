"""Queues by name: create, find, list, delete; attributes, tags, dead-letter sources. One QUEUE frame holds all of it.

The frame carries the queue's next sequence number: it is live as long as the queue is, so it is rewritten before its
segment goes, and no number is ever given twice, also when every message of the queue is long gone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, LimitExceeded
from minicloud.base.tags import check_tags
from minicloud.queue import codec, errors, limits, settings
from minicloud.queue.book import Book, Queue
from minicloud.queue.index import settle_time
from minicloud.queue.lines import FifoLine, StandardLine
from minicloud.queue.mover import Mover
from minicloud.queue.rows import DELAYED, IN_FLIGHT, VISIBLE, Rows


class Directory:
    def __init__(self, book: Book, mover: Mover) -> None:
        self._book = book
        self._mover = mover
        self._sorted: dict[Scope, list[str]] = {}

    def find(self, scope: Scope, name: str) -> Queue:
        """Raises QueueDoesNotExist."""
        return self.find_arn(scope.arn("sqs", name))

    def find_arn(self, arn: str) -> Queue:
        """Raises QueueDoesNotExist. Whether the caller may see it is the door's question."""
        queue = self._book.arns.get(arn)
        if queue is None:
            raise errors.no_such_queue()
        return queue

    def names(self, scope: Scope, prefix: str = "") -> list[str]:
        """Sorted; base.pages cuts it."""
        names = self._sorted.get(scope)
        if names is None:
            names = self._sorted[scope] = sorted(
                queue.name for queue in self._book.arns.values() if queue.scope == scope
            )
        return [name for name in names if name.startswith(prefix)] if prefix else names

    def create(
        self,
        scope: Scope,
        name: str,
        given: tuple[Mapping[str, str], Mapping[str, str]],
        now: float,
        rand: random.Random,
    ) -> Queue:
        """given: attributes and tags. An existing queue with equal attributes is returned as it is."""
        attributes, tags = given
        now_ms = self._book.advance(now)
        fifo = attributes.get("FifoQueue") == "true"
        settings.check_name(name, fifo)
        checked = settings.merged({}, settings.check_given(attributes, creating=True, fifo=fifo))
        known = self._book.arns.get(scope.arn("sqs", name))
        if known is not None:
            self._check_same(known, checked)
            return known
        if now_ms < self._book.gone_ms.get(scope.arn("sqs", name), -60_000) + limits.QUEUE_RECREATE_S_MIN * 1000:
            raise errors.deleted_recently()
        number, tag = self._number(), rand.getrandbits(63) or 1
        parsed = settings.parse(checked)
        queue = Queue(number, scope, name, tag, parsed, checked, check_tags(tags), now_ms, now_ms)
        self._check_redrive(queue, parsed)
        self._open(queue)
        return queue

    def _number(self) -> int:
        """Raises LimitExceeded."""
        if len(self._book.queues) >= limits.QUEUES_MAX:
            raise LimitExceeded(f"a broker holds at most {limits.QUEUES_MAX} queues", field="name")
        return self._book.queue_last + 1

    def _open(self, queue: Queue) -> None:
        self._store(queue)
        queue.line = FifoLine(queue.rows) if queue.settings.fifo else StandardLine(queue.rows)

    def create_hidden(self, scope: Scope, key: str, given: Mapping[str, str], now: float, rand: random.Random) -> Queue:
        """One that has the key is returned as it is."""
        now_ms = self._book.advance(now)
        known = self._book.hidden.get(key)
        if known is not None:
            return known
        fifo = given.get("FifoQueue") == "true"
        attributes = settings.merged({}, settings.check_given(given, creating=True, fifo=fifo))
        number, tag = self._number(), rand.getrandbits(63) or 1
        parsed = settings.parse(attributes)
        queue = Queue(number, scope, key, tag, parsed, attributes, {}, now_ms, now_ms, hidden=True)
        self._open(queue)
        return queue

    def _check_same(self, known: Queue, given: Mapping[str, str]) -> None:
        shown = settings.shown(known.attributes, known.settings.fifo)
        for name, value in given.items():
            if shown.get(name) != value:
                raise errors.queue_name_exists(name)

    def _check_redrive(self, queue: Queue, parsed: settings.Settings) -> None:
        """Raises InvalidParameterValue."""
        if not parsed.dlq_arn:
            return
        target = self._book.arns.get(parsed.dlq_arn)
        if target is None or target.scope != queue.scope:
            raise _bad_target(parsed, "Dead letter target does not exist.")
        if target.settings.fifo != parsed.fifo:
            raise _bad_target(parsed, "Dead-letter queue must be same type of queue as the source.")
        if target is queue:
            raise _bad_target(parsed, "A queue cannot be its own dead-letter queue.")
        allowed = target.settings
        if allowed.redrive == "denyAll" or (allowed.redrive == "byQueue" and queue.arn not in allowed.redrive_sources):
            raise _bad_target(parsed, f"The RedriveAllowPolicy of the dead letter target does not allow {queue.arn}.")

    def delete(self, queue: Queue, now: float) -> None:
        now_ms = self._book.advance(now)
        self._book.log.append([codec.blob(codec.GONE, queue.number, now_ms, b"")], essential=True)
        self.gone(queue)

    def gone(self, queue: Queue) -> None:
        self._mover.forget(queue)
        self._book.remove(queue)
        self._sorted.pop(queue.scope, None)
        gone, limit = self._book.gone_ms, self._book.now_ms - limits.QUEUE_RECREATE_S_MIN * 1000
        for arn in list(gone)[:2]:
            if gone[arn] < limit:
                del gone[arn]

    # --- attributes, tags

    def attributes(self, queue: Queue, names: Iterable[str], now: float) -> dict[str, str]:
        """Raises InvalidAttributeName. `All` names every one that is set."""
        self._book.advance(now)
        counts = queue.rows.counts
        every = {
            **settings.shown(queue.attributes, queue.settings.fifo),
            "QueueArn": queue.arn,
            "CreatedTimestamp": str(queue.created_ms // 1000),
            "LastModifiedTimestamp": str(queue.modified_ms // 1000),
            "ApproximateNumberOfMessages": str(counts[VISIBLE]),
            "ApproximateNumberOfMessagesNotVisible": str(counts[IN_FLIGHT]),
            "ApproximateNumberOfMessagesDelayed": str(counts[DELAYED]),
        }
        asked = list(names)
        for name in asked:
            if name != "All" and name not in settings.NAMES:
                raise errors.bad_attribute_name(name)
        return every if "All" in asked else {name: every[name] for name in asked if name in every}

    def set_attributes(self, queue: Queue, given: Mapping[str, str], now: float) -> None:
        now_ms = self._book.advance(now)
        fifo = queue.settings.fifo
        attributes = settings.merged(queue.attributes, settings.check_given(given, creating=False, fifo=fifo))
        parsed = settings.parse(attributes)
        if "RedrivePolicy" in given:
            self._check_redrive(queue, parsed)
        before = (queue.attributes, queue.modified_ms)
        queue.attributes, queue.modified_ms = attributes, now_ms
        try:
            self._store(queue)
        except BaseException:
            queue.attributes, queue.modified_ms = before
            raise

    def set_tags(self, queue: Queue, tags: Mapping[str, str], now: float) -> None:
        """The whole new map. Raises InvalidParameterValue, LimitExceeded."""
        self._book.advance(now)
        before, queue.tags = queue.tags, check_tags(tags)
        try:
            self._store(queue)
        except BaseException:
            queue.tags = before
            raise

    def sources(self, queue: Queue) -> list[str]:
        """ARNs of the queues whose dead-letter queue this is, sorted. Looks at every queue: an administrator's call."""
        return sorted(other.arn for other in self._book.arns.values() if other.settings.dlq_arn == queue.arn)

    # --- the frame

    def frame(self, queue: Queue) -> bytes:
        body = {
            "account": queue.scope.account,
            "region": queue.scope.region,
            "name": queue.name,
            "tag": queue.tag,
            "attributes": queue.attributes,
            "tags": queue.tags,
            "created": queue.created_ms,
            "modified": queue.modified_ms,
            "purged": queue.purged_ms,
            "tail": queue.rows.tail,
            "hidden": queue.hidden,
        }
        return codec.blob(codec.QUEUE, queue.number, self._book.now_ms, json.dumps(body).encode())

    def _store(self, queue: Queue) -> None:
        (address,) = self._book.log.append([self.frame(queue)])
        self.note(queue, address)

    def note(self, queue: Queue, address: int) -> None:
        """The queue is as it is now on disk; applies what its new settings mean for stored messages."""
        book = self._book
        book.log.keep(address)
        if queue.address:
            book.log.drop(queue.address)
        queue.address = address
        before, queue.settings = queue.settings, settings.parse(queue.attributes)
        if queue.number not in book.queues:
            book.add(queue)
            self._sorted.pop(queue.scope, None)
        elif book.live:
            if before.retention_s != queue.settings.retention_s:
                book.expire(queue)
            book.delay_changed(queue)

    def apply(self, number: int, data: bytes, address: int) -> None:
        """Replay of a QUEUE frame."""
        body = json.loads(data)
        queue = self._book.queues.get(number)
        if queue is None:
            scope = Scope(body["account"], body["region"])
            parsed = settings.parse(body["attributes"])
            queue = Queue(
                number, scope, body["name"], body["tag"], parsed, body["attributes"], body["tags"],
                body["created"], body["modified"], purged_ms=body["purged"], rows=Rows(body["tail"]),
                hidden=body["hidden"],
            )  # fmt: skip
        elif not self._book.live:
            before = settings.parse(queue.attributes)
            after = settings.parse(body["attributes"])
            if before.retention_s != after.retention_s or before.delay_s != after.delay_s:
                settle_time(self._book, queue)
        queue.attributes, queue.tags, queue.modified_ms = body["attributes"], body["tags"], body["modified"]
        queue.rows.tail = max(queue.rows.tail, body["tail"])
        self.note(queue, address)


def _bad_target(parsed: settings.Settings, reason: str) -> CloudError:
    value = json.dumps({"deadLetterTargetArn": parsed.dlq_arn, "maxReceiveCount": parsed.max_receives})
    return errors.bad_value("RedrivePolicy", value, reason)
