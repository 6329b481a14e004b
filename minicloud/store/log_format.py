"""The bytes of the message log: pure functions over buffers, no files.

    segment file    header page (4 KiB: the same line twice, at 0 and 2048) | link | frame | frame | ...
    frame           crc 4 | magic 3, kind 1 | length 4 | body crc 4 | durable 4 | content

`crc` covers the rest of the head and the first PREFIX_BYTES of the content, `body crc` what is left of it: a replay
that wants only prefixes need not read bodies. Both start from a seed made of the log's secret salt, the segment's
number and the frame's offset, so nothing that was written elsewhere, or by a sender into a body, passes for a frame.

`durable` is the offset up to which this segment was known to be on disk when the frame was queued. After a crash it
tells damage (before it: was acknowledged) from what a power cut left half written (behind it: never was).

The link, first in every segment, says where the segment before it ends and what to skip in it. That is final: bytes
which an owner that lost the log writes there afterwards are never read. Integers are little-endian.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minicloud.store.schema import StoreRefused

FORMAT = 1
SEGMENT_SHIFT = 40  # queue.ports: address = segment number << 40 | offset
OFFSET_MASK = (1 << SEGMENT_SHIFT) - 1
PAGE_BYTES = 4096
LINK_BYTES_MAX = 4096
SKIPS_MAX = 100  # ranges to skip in one link; more, and the segment is cut before the rest
PREFIX_BYTES = 512
HEAD = struct.Struct("<IIIII")
HEAD_BYTES = HEAD.size
FRAME_BYTES_MAX = 16 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024

_FIELDS = struct.Struct("<IIII")
_CRC = struct.Struct("<I")
_MAGIC = b"\xb5mL"
FRAME = int.from_bytes(_MAGIC + b"\0", "little")
LINK = int.from_bytes(_MAGIC + b"\1", "little")
CLOSED = int.from_bytes(_MAGIC + b"\2", "little")
_KINDS = frozenset({FRAME, LINK, CLOSED})
_TITLE = b"minicloud message log "
_COPY_BYTES = PAGE_BYTES // 2

Read = Callable[[int, int], bytes]  # (offset, length) -> bytes, fewer at the end of the file
Span = tuple[int, int]  # from offset, to offset


class Header(NamedTuple):
    number: int
    epoch: int
    salt: int


class Link(NamedTuple):
    """What a segment says about the one before it (0: there was none)."""

    previous: int
    end: int
    skips: list[Span]


class Batch(NamedTuple):
    """Frames found one after the other: offsets, lengths of their contents, and the first bytes of these."""

    offsets: list[int]
    lengths: list[int]
    prefixes: list[bytes]


def seed_of(salt: int, number: int) -> int:
    return (salt ^ number * 0x9E3779B1) & 0xFFFFFFFF


# --- lines: headers of segments, and the epoch file


def line(fields: dict[str, Any], width: int) -> bytes:
    """A titled JSON line with its checksum, padded with zeros."""
    text = _TITLE + json.dumps(fields, separators=(",", ":")).encode()
    text += b" %08x\n" % zlib.crc32(text)
    if len(text) > width:
        raise ValueError(f"{len(text)} bytes do not fit into {width}")
    return text.ljust(width, b"\0")


def parse_line(data: bytes, name: str) -> dict[str, Any] | None:
    """None where it is damaged. Raises StoreRefused where it is of a newer format."""
    text = data.partition(b"\n")[0]
    body, _, crc = text.rpartition(b" ")
    if not body.startswith(_TITLE) or crc != b"%08x" % zlib.crc32(body):
        return None
    fields: dict[str, Any] = json.loads(body[len(_TITLE) :])
    if fields["format"] > FORMAT:
        raise StoreRefused(
            f"{name} was written by a newer minicloud (message log format {fields['format']}, this one knows formats "
            f"up to {FORMAT}). Install that version again, or use another data directory. Nothing was changed.",
            details={"format": str(fields["format"]), "format_max": str(FORMAT)},
        )
    return fields


def header_page(header: Header) -> bytes:
    return line({"format": FORMAT, **header._asdict()}, _COPY_BYTES) * 2


def parse_header(page: bytes, name: str) -> Header | None:
    """None where both copies are damaged. Raises StoreRefused."""
    for copy in (page[:_COPY_BYTES], page[_COPY_BYTES:]):
        fields = parse_line(copy, name)
        if fields is not None:
            return Header(fields["number"], fields["epoch"], fields["salt"])
    return None


# --- writing


def encode(frames: list[bytes], at: int, seed: int, durable: int) -> tuple[list[int], list[bytes]]:
    """Frames for offset `at`. Returns their offsets, and the pieces to write there one after the other."""
    offsets: list[int] = []
    pieces: list[bytes] = []
    crc32, pack, crc_bytes = zlib.crc32, _FIELDS.pack, _CRC.pack
    for frame in frames:
        length = len(frame)
        if length <= PREFIX_BYTES:
            fields = pack(FRAME, length, 0, durable)
            crc = crc32(frame, crc32(fields, seed + at))
        else:
            fields = pack(FRAME, length, crc32(frame[PREFIX_BYTES:], seed + at), durable)
            crc = crc32(frame[:PREFIX_BYTES], crc32(fields, seed + at))
        offsets.append(at)
        pieces += (crc_bytes(crc), fields, frame)
        at += HEAD_BYTES + length
    return offsets, pieces


def encode_note(kind: int, content: bytes, at: int, seed: int, durable: int) -> bytes:
    """One frame of our own: LINK, CLOSED."""
    fields = _FIELDS.pack(kind, len(content), zlib.crc32(content[PREFIX_BYTES:], seed + at), durable)
    crc = zlib.crc32(content[:PREFIX_BYTES], zlib.crc32(fields, seed + at))
    return _CRC.pack(crc) + fields + content


def encode_link(link: Link, seed: int) -> bytes:
    return encode_note(LINK, json.dumps(link).encode(), PAGE_BYTES, seed, 0)


# --- reading


def check(buffer: bytes, index: int, seed_at: int) -> bytes | None:
    """The content of the frame at `index`, or None where it is damaged, cut short or none of ours."""
    start = index + HEAD_BYTES
    if start > len(buffer):
        return None
    crc, kind, length, body_crc, _ = HEAD.unpack_from(buffer, index)
    stop = start + length
    middle = min(stop, start + PREFIX_BYTES)
    if kind not in _KINDS or stop > len(buffer) or zlib.crc32(buffer[index + 4 : middle], seed_at) != crc:
        return None
    if middle < stop and zlib.crc32(buffer[middle:stop], seed_at) != body_crc:
        return None
    return buffer[start:stop]


def prefix_of(buffer: bytes, index: int, seed_at: int) -> bytes | None:
    """The first bytes of the content of a frame whose head is good."""
    start = index + HEAD_BYTES
    if start > len(buffer):
        return None
    crc, kind, length, _, _ = HEAD.unpack_from(buffer, index)
    stop = start + min(length, PREFIX_BYTES)
    if kind not in _KINDS or stop > len(buffer) or zlib.crc32(buffer[index + 4 : stop], seed_at) != crc:
        return None
    return buffer[start:stop]


def parse_link(buffer: bytes, seed: int) -> Link | None:
    """From the bytes behind the header page."""
    content = check(buffer, 0, seed + PAGE_BYTES)
    if content is None or HEAD.unpack_from(buffer)[1] != LINK:
        return None
    previous, end, skips = json.loads(content)
    return Link(previous, end, [(start, stop) for start, stop in skips])


def walk(buffer: bytes, base: int, seed: int, take: int) -> tuple[Batch, int]:
    """Every frame with a good head from the buffer's start on, and the offset behind the last.

    `base` is the buffer's offset in its segment. Stops where the next head is damaged or not wholly in the buffer.
    """
    offsets: list[int] = []
    lengths: list[int] = []
    prefixes: list[bytes] = []
    unpack, crc32 = HEAD.unpack_from, zlib.crc32
    at, size, seed = 0, len(buffer), seed + base
    while at + HEAD_BYTES <= size:
        crc, kind, length, _, _ = unpack(buffer, at)
        start = at + HEAD_BYTES
        stop = start + (length if length < PREFIX_BYTES else PREFIX_BYTES)
        if stop > size or crc32(buffer[at + 4 : stop], seed + at) != crc or kind not in _KINDS:
            break
        if kind == FRAME:
            offsets.append(base + at)
            lengths.append(length)
            prefixes.append(buffer[start : start + take if start + take < stop else stop])
        at = start + length
    return Batch(offsets, lengths, prefixes), base + at


def scan(
    read: Read, span: Span, seed: int, take: int, damaged: list[Span], chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Batch]:
    """Every frame with a good head in a span of a segment; what cannot be read is added to `damaged`."""
    at, end = span
    while at < end:
        batch, after = walk(read(at, min(chunk_bytes, end - at)), at, seed, take)
        if batch.offsets:
            yield batch
        if after == at:
            after = next_frame(read, (at, end), seed)
            damaged.append((at, after))
        at = after


def next_frame(read: Read, span: Span, seed: int) -> int:
    """Where the next good head lies behind a damaged one; the span's end where none does."""
    at, end = span
    head = read(at, HEAD_BYTES)
    if len(head) == HEAD_BYTES:
        by_length: int = at + HEAD_BYTES + HEAD.unpack(head)[2]
        if by_length < end and _good_head(read(by_length, HEAD_BYTES + PREFIX_BYTES), 0, seed + by_length):
            return by_length
    window_at = at + 1
    while window_at < end:
        window = read(window_at, CHUNK_BYTES + HEAD_BYTES + PREFIX_BYTES)
        found = _first_good(window, window_at, seed)
        if found is not None:
            return min(found, end)
        if len(window) <= CHUNK_BYTES:
            break
        window_at += CHUNK_BYTES
    return end


def _first_good(window: bytes, base: int, seed: int) -> int | None:
    index = window.find(_MAGIC, 4)
    while index >= 0:
        if _good_head(window, index - 4, seed + base + index - 4):
            return base + index - 4
        index = window.find(_MAGIC, index + 1)
    return None


def _good_head(buffer: bytes, index: int, seed_at: int) -> bool:
    return prefix_of(buffer, index, seed_at) is not None
