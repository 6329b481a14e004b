"""Frames: what the queue core writes to the log, and reads back.

Every frame starts with kind, flags, two small lengths, the frame's length and the queue's number (12 bytes). A message:

    header 42 | state (only when rewritten) | group | deduplication id | attributes | body

All that a replay needs lies in the first PREFIX_BYTES; the body stays on disk. The other frames are small and are read
whole. Integers are little-endian; times are Unix milliseconds. Kinds and fields are never reused for something else.
"""

from __future__ import annotations

import struct
from array import array
from typing import NamedTuple

MESSAGE, RECEIVE, VISIBILITY, DELETE, MOVE, PURGE, QUEUE, GONE, TASK, DEDUP = range(1, 11)
FLAG_STATE = 1  # MESSAGE: the state block is there
FLAG_RESET = 1  # VISIBILITY: a repeated receive attempt, not a change by the consumer
FLAG_REDRIVE = 1  # MOVE: the message starts anew (id, time sent, receive count)

COMMON = struct.Struct("<BBBBII")
# kind, flags, group length, dedup length, frame length, queue, seq, sent, id tag, attributes length, delay seconds
HEADER = struct.Struct("<BBBBIIQQQIH")
HEADER_BYTES = HEADER.size
# receive count, first received, received, receive number, deadline, id tag, id seq, state, source
STATE = struct.Struct("<IQQQQQQBI")
RECEIVE_HEAD = struct.Struct("<BBBBIIQQQ")  # common (second small length: attempt id), at, deadline, number
LIST_HEAD = struct.Struct("<BBBBIIQ")  # common, at
MOVE_HEAD = struct.Struct("<BBBBIIQIIQ")  # common, at, target queue, task, first seq there
DEDUP_HEAD = struct.Struct("<BBBBIIQQ")  # common, sent, seq
PREFIX_BYTES = HEADER_BYTES + STATE.size + 256


class StoredState(NamedTuple):
    """Everything about a message that came after its sending; written when its frame is rewritten."""

    receives: int
    first_ms: int
    received_ms: int
    number: int
    deadline_ms: int
    id_tag: int
    id_seq: int
    state: int
    source: int


class Head(NamedTuple):
    """The head of a message frame. `data_at`: where the attributes start; `length`: of the whole frame."""

    queue: int
    seq: int
    sent_ms: int
    tag: int
    attributes_bytes: int
    delay_s: int
    length: int
    group: bytes
    dedup: bytes
    state: StoredState | None
    data_at: int


class Stored(NamedTuple):
    """A message frame taken apart: what a receive answers with, besides the core's own columns."""

    head: Head
    attributes: bytes
    body: bytes


def message(ids: tuple[int, int, int], sent_ms: int, delay_s: int, parts: tuple[bytes, bytes, bytes, bytes]) -> bytes:
    """The frame of a new message. ids: queue, seq, tag; parts: group, dedup, attributes, body."""
    group, dedup, attributes, body = parts
    length = HEADER_BYTES + len(group) + len(dedup) + len(attributes) + len(body)
    queue, seq, tag = ids
    head = HEADER.pack(MESSAGE, 0, len(group), len(dedup), length, queue, seq, sent_ms, tag, len(attributes), delay_s)
    return head + group + dedup + attributes + body


def head_of(frame: bytes) -> Head:
    """From at least the first PREFIX_BYTES of a message frame."""
    _, flags, groups, dedups, length, queue, seq, sent, tag, attributes, delay = HEADER.unpack_from(frame)
    at, state = HEADER_BYTES, None
    if flags & FLAG_STATE:
        state = StoredState(*STATE.unpack_from(frame, at))
        at += STATE.size
    group, dedup = frame[at : at + groups], frame[at + groups : at + groups + dedups]
    data_at = at + groups + dedups
    return Head(queue, seq, sent, tag, attributes, delay, length, group, dedup, state, data_at)


def open_message(frame: bytes) -> Stored:
    head = head_of(frame)
    body_at = head.data_at + head.attributes_bytes
    return Stored(head, frame[head.data_at : body_at], frame[body_at:])


def body_of(frame: bytes) -> bytes:
    """Only the body: the fast way for bulk receives."""
    flags, groups, dedups = frame[1], frame[2], frame[3]
    at = HEADER_BYTES + groups + dedups + int.from_bytes(frame[36:40], "little")
    return frame[at + STATE.size :] if flags & FLAG_STATE else frame[at:]


def rewritten(frame: bytes, place: tuple[int, int, int], group: bytes, state: StoredState) -> bytes:
    """The same message with its present place (queue, seq, sent) and state; attributes and body as they are."""
    old = head_of(frame)
    rest = frame[old.data_at :]
    queue, seq, sent_ms = place
    length = HEADER_BYTES + STATE.size + len(group) + len(old.dedup) + len(rest)
    head = HEADER.pack(
        MESSAGE, FLAG_STATE, len(group), len(old.dedup), length, queue, seq, sent_ms, old.tag, old.attributes_bytes, 0
    )
    return head + STATE.pack(*state) + group + old.dedup + rest


def receive(queue: int, times: tuple[int, int, int], attempt: bytes, seqs: array[int]) -> bytes:
    """times: at, deadline, receive number."""
    length = RECEIVE_HEAD.size + len(attempt) + 8 * len(seqs)
    return RECEIVE_HEAD.pack(RECEIVE, 0, 0, len(attempt), length, queue, *times) + attempt + seqs.tobytes()


def numbers(kind: int, queue: int, at_ms: int, values: array[int], flags: int = 0) -> bytes:
    """DELETE: seqs; VISIBILITY: seq, deadline, seq, deadline ...; PURGE: the first seq that stays."""
    length = LIST_HEAD.size + 8 * len(values)
    return LIST_HEAD.pack(kind, flags, 0, 0, length, queue, at_ms) + values.tobytes()


def move(places: tuple[int, int, int, int], at_ms: int, seqs: array[int], redrive: bool) -> bytes:
    """places: source, target, first seq in the target, task (0: a dead-letter move)."""
    source, target, first, task = places
    length = MOVE_HEAD.size + 8 * len(seqs)
    flags = FLAG_REDRIVE if redrive else 0
    return MOVE_HEAD.pack(MOVE, flags, 0, 0, length, source, at_ms, target, task, first) + seqs.tobytes()


def blob(kind: int, queue: int, at_ms: int, data: bytes) -> bytes:
    """QUEUE, TASK: a JSON text; GONE: nothing."""
    return LIST_HEAD.pack(kind, 0, 0, 0, LIST_HEAD.size + len(data), queue, at_ms) + data


def dedup(queue: int, sent_ms: int, seq: int, key: bytes) -> bytes:
    """What is left of a deleted FIFO message while its deduplication id still counts."""
    return DEDUP_HEAD.pack(DEDUP, 0, 0, 0, DEDUP_HEAD.size + len(key), queue, sent_ms, seq) + key


def tail_numbers(frame: bytes, start: int) -> array[int]:
    values = array("Q")
    values.frombytes(frame[start:])
    return values
