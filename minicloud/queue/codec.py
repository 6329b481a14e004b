"""Frames: what the queue core writes to the log, and reads back.

Every frame starts with kind, flags, two small lengths, the frame's length and the queue's number (12 bytes). A message:

    header 42 | state (only when rewritten) | group | deduplication id | attributes | body

A fan-out, one message for several queues (its targets), has columns with one value a target, n of them:

    header 36 | queues 4n | delays 2n | flags n | refs 16n | seqs 8n | states 61n (only when rewritten)
    | group | deduplication id | origin | attributes | body

All that a replay needs lies in the first PREFIX_BYTES (of a fan-out: in `fan_head_bytes`); the body stays on disk. The
other frames are small and are read whole. Integers are little-endian; times are Unix milliseconds. Kinds and fields are
never reused for something else.

A row's place is its frame's address, with the index of its target in the bits between the offset and the segment
(ports.py): so a copy of a message that many queues share needs no more memory than a message of its own, and takes its
target along wherever it is moved.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicloud.queue.ports import OFFSET_BITS, SEGMENT_SHIFT

MESSAGE, RECEIVE, VISIBILITY, DELETE, MOVE, PURGE, QUEUE, GONE, TASK, DEDUP, FANOUT, SHELF = range(1, 13)
FLAG_STATE = 1  # MESSAGE, FANOUT: the state blocks are there
FLAG_BY_GROUP = 2  # MESSAGE: its deduplication id counts within its group
FLAG_RESET = 1  # VISIBILITY: a repeated receive attempt, not a change by the consumer
FLAG_REDRIVE = 1  # MOVE: the message starts anew (id, time sent, receive count)
# Flags of a fan-out's target: the body as it is; a number and a deduplication id, but no row; as FLAG_BY_GROUP.
RAW, LEDGER, BY_GROUP = 1, 2, 4
TARGETS_MAX = 256  # of one fan-out frame: its columns are read with each copy
_TARGET_BITS = (1 << SEGMENT_SHIFT - OFFSET_BITS) - 1
ADDRESS_MASK = ~(_TARGET_BITS << OFFSET_BITS)

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
FAN_HEAD = struct.Struct("<BBBBIIQQII")  # common (targets for queue), sent, serial, attributes length, origin length
_FAN_STATE = struct.Struct("<Q" + STATE.format[1:])  # sent, and the state
_NUMBER, _LONG = struct.Struct("<I"), struct.Struct("<Q")
_FAN_COLUMNS = 4 + 2 + 1 + 16 + 8
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
    by_group: bool = False


class Stored(NamedTuple):
    """A message frame taken apart: what a receive answers with, besides the core's own columns.

    Of a fan-out: its publisher's `origin`, the target's 16-byte `ref`, whether that wants the body `raw`, and the
    `serial` that the ledger gave (0: none). Of a message of its own: none of it, and raw.
    """

    head: Head
    attributes: bytes
    body: bytes
    origin: bytes = b""
    ref: bytes = b""
    raw: bool = True
    serial: int = 0


class FanTarget(NamedTuple):
    """One copy in a fan-out frame: where it lies, and what its target was."""

    queue: int
    seq: int
    delay_s: int
    flags: int
    ref: bytes
    sent_ms: int
    state: StoredState | None = None


class FanHead(NamedTuple):
    """The head of a fan-out frame. `data_at`: where origin, attributes and body start."""

    targets: list[FanTarget]
    sent_ms: int
    serial: int
    length: int
    group: bytes
    dedup: bytes
    data_at: int


def message(
    ids: tuple[int, int, int], times: tuple[int, int], parts: tuple[bytes, bytes, bytes, bytes], *, by_group: bool
) -> bytes:
    """The frame of a new message. ids: queue, seq, tag; times: sent, delay seconds; parts: group, dedup, attributes,
    body; by_group: the deduplication id counts within the group.
    """
    group, dedup, attributes, body = parts
    length = HEADER_BYTES + len(group) + len(dedup) + len(attributes) + len(body)
    (queue, seq, tag), (sent_ms, delay_s) = ids, times
    flags = FLAG_BY_GROUP if by_group else 0
    sizes = (len(group), len(dedup), length)
    head = HEADER.pack(MESSAGE, flags, *sizes, queue, seq, sent_ms, tag, len(attributes), delay_s)
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
    by_group = bool(flags & FLAG_BY_GROUP)
    return Head(queue, seq, sent, tag, attributes, delay, length, group, dedup, state, data_at, by_group)


def seq_of(head: bytes) -> int:
    """Of a message frame's first bytes: its number in its queue."""
    seq: int = _LONG.unpack_from(head, COMMON.size)[0]
    return seq


def dedup_key(group: bytes, dedup: bytes, *, by_group: bool) -> bytes:
    """What a queue knows a deduplication id by; b"" for none."""
    return group + b"\0" + dedup if by_group and dedup else dedup


def open_message(frame: bytes, target: int = 0) -> Stored:
    """target: Delivery.target, which copy of a fan-out it is."""
    if frame[0] == FANOUT:
        return _open_copy(frame, target)
    head = head_of(frame)
    body_at = head.data_at + head.attributes_bytes
    return Stored(head, frame[head.data_at : body_at], frame[body_at:])


def _open_copy(frame: bytes, target: int) -> Stored:
    _, _, _, _, length, _, _, serial, attributes, origin = FAN_HEAD.unpack_from(frame)
    group, dedup, at = _fan_tokens(frame)
    to = _fan_target(frame, target)
    tag, _ = fan_id(to)
    head = Head(to.queue, to.seq, to.sent_ms, tag, attributes, to.delay_s, length, group, dedup, to.state, at + origin)
    body_at = at + origin + attributes
    raw = bool(to.flags & RAW)
    return Stored(head, frame[at + origin : body_at], frame[body_at:], frame[at : at + origin], to.ref, raw, serial)


def body_of(frame: bytes) -> bytes:
    """Only the body: the fast way for bulk receives. Of a fan-out it is the body that was published."""
    if frame[0] == FANOUT:
        attributes, origin = FAN_HEAD.unpack_from(frame)[8:]
        return frame[_fan_tokens(frame)[2] + origin + attributes :]
    flags, groups, dedups = frame[1], frame[2], frame[3]
    at = HEADER_BYTES + groups + dedups + int.from_bytes(frame[36:40], "little")
    return frame[at + STATE.size :] if flags & FLAG_STATE else frame[at:]


def rewritten(frame: bytes, place: tuple[int, int, int], group: bytes, state: StoredState) -> bytes:
    """The same message with its present place (queue, seq, sent) and state; attributes and body as they are."""
    old = head_of(frame)
    rest = frame[old.data_at :]
    queue, seq, sent_ms = place
    length = HEADER_BYTES + STATE.size + len(group) + len(old.dedup) + len(rest)
    flags = FLAG_STATE | (FLAG_BY_GROUP if old.by_group else 0)
    sizes = (len(group), len(old.dedup), length)
    head = HEADER.pack(MESSAGE, flags, *sizes, queue, seq, sent_ms, old.tag, old.attributes_bytes, 0)
    return head + STATE.pack(*state) + group + old.dedup + rest


# --- fan-outs


def place(address: int, target: int) -> int:
    """What a row keeps for a copy of a fan-out."""
    return address | target << OFFSET_BITS


def target_of(place: int) -> int:
    return place >> OFFSET_BITS & _TARGET_BITS


def addresses(places: list[int]) -> tuple[list[int], list[int]]:
    """Taken apart: addresses and targets."""
    plain = [place & ADDRESS_MASK for place in places]
    return plain, [0] * len(places) if plain == places else [target_of(place) for place in places]


def fan_columns(targets: Sequence[FanTarget]) -> bytes:
    """Those that are the same for every message of a bulk."""
    queues, delays = array("I", [to.queue for to in targets]), array("H", [to.delay_s for to in targets])
    return queues.tobytes() + delays.tobytes() + bytes(to.flags for to in targets) + b"".join(to.ref for to in targets)


def fan_frame(columns: bytes, seqs: Sequence[int], times: tuple[int, int], parts: tuple[bytes, ...]) -> bytes:
    """times: sent, serial; parts: states, group, dedup, origin, attributes, body."""
    states, group, dedup, origin, attributes, _ = parts
    count = len(seqs)
    tail = b"".join((columns, struct.pack(f"<{count}Q", *seqs), *parts))
    flags = FLAG_STATE if states else 0
    length = FAN_HEAD.size + len(tail)
    sizes = (len(attributes), len(origin))
    return FAN_HEAD.pack(FANOUT, flags, len(group), len(dedup), length, count, *times, *sizes) + tail


def fan_frames(
    columns: bytes, firsts: Sequence[int], sent_ms: int, datas: tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]]
) -> tuple[list[bytes], array[int]]:
    """The frames of a bulk, and their lengths. firsts: the first message's number in each target, the others' follow;
    datas: origins, attributes (none at all where no message has any), bodies.

    All heads are made at once, in one buffer: they differ in four columns.
    """
    origins, attributes, bodies = datas
    count, total = len(firsts), len(bodies)
    head = FAN_HEAD.pack(FANOUT, 0, 0, 0, 0, count, sent_ms, 0, 0, 0) + columns + bytes(8 * count)
    size, buffer = len(head), bytearray(head * total)
    heads = np.frombuffer(buffer, _fan_heads(count))
    heads["seqs"] = np.arange(total, dtype=np.uint64)[:, None] + np.array(firsts, np.uint64)
    heads["origin"] = _lengths(origins)
    heads["attributes"] = _lengths(attributes) if attributes else 0
    heads["length"] = lengths = heads["origin"] + heads["attributes"] + _lengths(bodies) + np.uint32(size)
    view, join, starts = memoryview(buffer), b"".join, range(0, total * size, size)  # one copy of a body
    if attributes:
        parts = zip(starts, origins, attributes, bodies, strict=True)
        frames = [join((view[at : at + size], origin, some, body)) for at, origin, some, body in parts]
    else:
        pairs = zip(starts, origins, bodies, strict=True)
        frames = [join((view[at : at + size], origin, body)) for at, origin, body in pairs]
    return frames, array("I", lengths.tobytes())


def _fan_heads(count: int) -> np.dtype[np.void]:
    """What differs in the heads of a bulk: fields of FAN_HEAD, and the numbers behind the columns."""
    size = FAN_HEAD.size + _FAN_COLUMNS * count
    names, formats = ["length", "attributes", "origin", "seqs"], ["<u4", "<u4", "<u4", f"({count},)<u8"]
    return np.dtype({"names": names, "formats": formats, "offsets": [4, 28, 32, size - 8 * count], "itemsize": size})


def _lengths(parts: Sequence[bytes]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.fromiter(map(len, parts), np.uint32, len(parts))


def fan_head_bytes(prefix: bytes) -> int:
    """How many bytes of the frame `fan_head` needs, from its first COMMON.size bytes."""
    flags, groups, dedups, count = prefix[1], prefix[2], prefix[3], int.from_bytes(prefix[8:12], "little")
    each = _FAN_COLUMNS + (_FAN_STATE.size if flags & FLAG_STATE else 0)
    return FAN_HEAD.size + count * each + groups + dedups


def fan_queues(frame: bytes) -> array[int]:
    """The numbers of the target queues."""
    (*_, count) = COMMON.unpack_from(frame)
    queues = array("I")
    queues.frombytes(frame[FAN_HEAD.size : FAN_HEAD.size + 4 * count])
    return queues


def fan_id(to: FanTarget) -> tuple[int, int]:
    """Tag and sequence number for message.message_id: by the ref, which is another one for each target."""
    if to.state is not None:
        return to.state.id_tag, to.state.id_seq
    return int.from_bytes(to.ref[:8]) or to.queue, to.seq


def fan_head(frame: bytes) -> FanHead:
    """From at least the first `fan_head_bytes`."""
    _, _, _, _, length, count, sent, serial, _, _ = FAN_HEAD.unpack_from(frame)
    targets = [_fan_target(frame, index) for index in range(count)]
    return FanHead(targets, sent, serial, length, *_fan_tokens(frame))


def _fan_tokens(frame: bytes) -> tuple[bytes, bytes, int]:
    """Group, deduplication id, and where the data starts."""
    end = fan_head_bytes(frame)
    groups, dedups = frame[2], frame[3]
    return frame[end - groups - dedups : end - dedups], frame[end - dedups : end], end


def _fan_target(frame: bytes, index: int) -> FanTarget:
    flags, count, sent_ms = frame[1], int.from_bytes(frame[8:12], "little"), int.from_bytes(frame[12:20], "little")
    at = FAN_HEAD.size
    (queue,) = _NUMBER.unpack_from(frame, at + 4 * index)
    delay_s = int.from_bytes(frame[at + 4 * count + 2 * index : at + 4 * count + 2 * index + 2], "little")
    ref_at, seq_at, state_at = at + 7 * count, at + 23 * count, at + _FAN_COLUMNS * count
    ref = frame[ref_at + 16 * index : ref_at + 16 * index + 16]
    (seq,) = _LONG.unpack_from(frame, seq_at + 8 * index)
    state = None
    if flags & FLAG_STATE:
        sent_ms, *fields = _FAN_STATE.unpack_from(frame, state_at + _FAN_STATE.size * index)
        state = StoredState(*fields)
    return FanTarget(queue, seq, delay_s, frame[at + 6 * count + index], ref, sent_ms, state)


def fan_rewritten(frame: bytes, targets: Sequence[FanTarget]) -> bytes:
    """The same message for the copies that are left, each with its present place and state."""
    head = fan_head(frame)
    attributes, origin = FAN_HEAD.unpack_from(frame)[8:]
    rest = frame[head.data_at :]
    states = b"".join(_FAN_STATE.pack(to.sent_ms, *to.state) for to in targets if to.state is not None)
    body_at = origin + attributes
    parts = (states, head.group, head.dedup, rest[:origin], rest[origin:body_at], rest[body_at:])
    return fan_frame(fan_columns(targets), [to.seq for to in targets], (head.sent_ms, head.serial), parts)


# --- the small frames


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
