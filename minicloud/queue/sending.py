"""Sending: a call's messages are checked, framed and numbered, appended to the log at once, and then put into the rows.

A FIFO message whose deduplication id was accepted in the last 5 minutes (or earlier in the same call) is answered with
the first one's ids and stores nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.queue import codec, errors, limits, message
from minicloud.queue.book import Book, Queue
from minicloud.queue.message import SendEntry


class Sent(NamedTuple):
    """One accepted message. `duplicate`: its deduplication id was seen before, the ids are the first one's."""

    message_id: str
    sequence_number: str = ""
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Messages accepted by a bulk send: ids are message.message_id(tag, first + i)."""

    tag: int
    first: int
    count: int


class _New(NamedTuple):
    frame: bytes
    delay_s: int
    group: bytes
    key: bytes


class Sending:
    def __init__(self, book: Book) -> None:
        self._book = book

    def send_many(self, queue: Queue, bodies: list[bytes], now: float, delay_s: int | None, attributes: bytes) -> Run:
        """Bulk: bodies alike in everything else, on a standard queue. All or none."""
        if queue.settings.fifo:
            raise errors.missing("MessageGroupId")
        if not 1 <= len(bodies) <= limits.BULK_MESSAGES_MAX:
            raise InvalidParameterValue(f"1 to {limits.BULK_MESSAGES_MAX} messages a call", field="bodies")
        if max(map(len, bodies)) + message.size_of_encoded(attributes) > queue.settings.max_bytes:
            raise errors.message_too_long(queue.settings.max_bytes)
        message.check_bodies(bodies)
        delay = queue.settings.delay_s if delay_s is None else _checked_delay(delay_s)
        now_ms = self._book.advance(now)
        first, tag, number = queue.rows.tail, queue.tag, queue.number
        pack, kind, size = codec.HEADER.pack, codec.MESSAGE, codec.HEADER_BYTES + len(attributes)
        extra = len(attributes)
        lengths = [size + len(body) for body in bodies]
        frames = [
            pack(kind, 0, 0, 0, length, number, seq, now_ms, tag, extra, delay) + attributes + body
            for seq, length, body in zip(range(first, first + len(bodies)), lengths, bodies, strict=True)
        ]
        addresses = self._book.log.append(frames)
        self._book.put(queue, now_ms, (addresses, lengths), delay, ())
        return Run(tag, first, len(bodies))

    def send(self, queue: Queue, entries: Sequence[SendEntry], now: float, sender: str) -> list[Sent | CloudError]:
        """One result for each entry, in order."""
        now_ms = self._book.advance(now)
        results: list[Sent | CloudError] = []
        accepted: list[_New] = []
        fresh: dict[bytes, int] = {}
        for entry in entries:
            seq = queue.rows.tail + len(accepted)
            try:
                new = self._new(queue, entry, (seq, now_ms), sender)
            except CloudError as error:
                results.append(error)
                continue
            known = known_seq(queue, new.key, fresh, now_ms) if new.key else 0
            if not known:
                accepted.append(new)
                if new.key:
                    fresh[new.key] = seq
            results.append(_sent(queue, known or seq, duplicate=bool(known)))
        if accepted:
            self._store(queue, accepted, now_ms)
        return results

    def _store(self, queue: Queue, accepted: list[_New], now_ms: int) -> None:
        """Appended in one go; put in runs of equal delay."""
        book = self._book
        addresses = book.log.append([new.frame for new in accepted])
        at = 0
        for delay_s, run in groupby(accepted, lambda new: new.delay_s):
            news = list(run)
            stored = (addresses[at : at + len(news)], [len(new.frame) for new in news])
            first = book.put(queue, now_ms, stored, delay_s, [new.group for new in news])
            at += len(news)
            for seq, new in enumerate(news, first):
                if new.key:
                    book.remember(queue, new.key, seq, now_ms)

    def _new(self, queue: Queue, entry: SendEntry, at: tuple[int, int], sender: str) -> _New:
        """at: sequence number and time. Raises what send raises."""
        seq, now_ms = at
        settings = queue.settings
        message.check_body(entry.body)
        if len(entry.body) + message.size_of(entry.attributes) > settings.max_bytes:
            raise errors.message_too_long(settings.max_bytes)
        system = {"AWSTraceHeader": message.check_trace_header(entry.trace_header)} if entry.trace_header else {}
        if sender:
            system["SenderId"] = sender
        attributes = message.encode_attributes(entry.attributes, system)
        group = message.check_token("MessageGroupId", entry.group_id) if entry.group_id else b""
        if settings.fifo and not group:
            raise errors.missing("MessageGroupId")
        dedup = dedup_id(queue, entry.deduplication_id, entry.body) if settings.fifo else _refuse_dedup(entry)
        delay = _delay_of(queue, entry)
        parts = (group, dedup, attributes, entry.body)
        by_group = settings.dedup_by_group
        frame = codec.message((queue.number, seq, queue.tag), (now_ms, delay), parts, by_group=by_group)
        return _New(frame, delay, group, codec.dedup_key(group, dedup, by_group=by_group))


def dedup_id(queue: Queue, given: str, body: bytes) -> bytes:
    """Of a message to a FIFO queue. Raises InvalidParameterValue."""
    if given:
        return message.check_token("MessageDeduplicationId", given)
    if queue.settings.content_dedup:
        return hashlib.sha256(body).hexdigest().encode()
    raise InvalidParameterValue(
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
        field="MessageDeduplicationId",
    )


def known_seq(queue: Queue, key: bytes, fresh: dict[bytes, int], now_ms: int) -> int:
    """The message that holds a deduplication id, of the last 5 minutes or (fresh) of this call. 0: none."""
    known = queue.dedup.get(key)
    if known is not None and known[1] + limits.DEDUPLICATION_S * 1000 > now_ms:
        return known[0]
    return fresh.get(key, 0)


def _sent(queue: Queue, seq: int, *, duplicate: bool) -> Sent:
    number = message.sequence_number(seq) if queue.settings.fifo else ""
    return Sent(message.message_id(queue.tag, seq), number, duplicate)


def _delay_of(queue: Queue, entry: SendEntry) -> int:
    if entry.delay_s is None:
        return queue.settings.delay_s
    if queue.settings.fifo and entry.delay_s != queue.settings.delay_s:
        reason = "The request include parameter that is not valid for this queue type."
        raise errors.bad_value("DelaySeconds", entry.delay_s, reason)
    return _checked_delay(entry.delay_s)


def _checked_delay(delay_s: int) -> int:
    if not 0 <= delay_s <= limits.DELAY_S_MAX:
        reason = f"DelaySeconds must be >= 0 and <= {limits.DELAY_S_MAX}."
        raise errors.bad_value("DelaySeconds", delay_s, reason)
    return delay_s


def _refuse_dedup(entry: SendEntry) -> bytes:
    if entry.deduplication_id:
        reason = "The request include parameter that is not valid for this queue type."
        raise errors.bad_value("MessageDeduplicationId", entry.deduplication_id, reason)
    return b""
