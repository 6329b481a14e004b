"""Zips from strangers: looked through before anything is written, then unpacked below one directory.

Refused, never rewritten: names that are absolute, have `..`, `.`, empty parts, backslashes, drives or control
characters; links and devices; encrypted entries; two entries of one name, or of names that differ in case only; a file
where another entry needs a directory; compression other than deflate; zip64 (it is for more than is accepted here).

What an entry says of its size is believed by nobody: bytes are counted as they come out, and the sum is capped.
Modes: 0755 for directories and for files that somebody may execute, else 0644; owners and times are not kept.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from minicloud.base.errors import InvalidRequest

_END = b"PK\x05\x06"
_END_BYTES = 22
_COMMENT_BYTES_MAX = 65_535
_LOCATOR64 = b"PK\x06\x07"
_LOCATOR64_BYTES = 20
_DIRECTORY_BYTES_PER_ENTRY = 1_024  # more than a name that a file system takes, and its fields
_CHUNK = 1 << 18
_PART_BYTES_MAX = 255
_NAME_BYTES_MAX = 1_024
_DRIVE = re.compile(r"^[A-Za-z]:")
_FLAG_ENCRYPTED = 0x1 | 0x40
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


class BadZip(InvalidRequest):
    """Could not unzip uploaded file. Please check your file, then try to upload again."""

    default_code = "InvalidParameterValueException"


@dataclass(frozen=True, slots=True)
class Caps:
    """What a zip may unpack to."""

    bytes_max: int
    entries_max: int


def look(zip_file: IO[bytes], caps: Caps) -> int:
    """Read the whole zip, write nothing. Returns its size unpacked in bytes. Raises BadZip."""
    return sum(len(chunk) for _, chunks in _entries(zip_file, caps) for chunk in chunks)


def unpack(zip_file: IO[bytes], into: Path, caps: Caps) -> int:
    """Into a directory that is there and has none of these names. Returns bytes. Raises BadZip, OSError.

    What was written before an error stays: give it a directory of its own.
    """
    total = 0
    for info, chunks in _entries(zip_file, caps):
        path = into / info.filename
        if info.is_dir():
            _make(path, into)
            continue
        _make(path.parent, into)
        mode = 0o755 if info.external_attr >> 16 & 0o111 else 0o644
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            for chunk in chunks:
                file.write(chunk)
                total += len(chunk)
    return total


def _make(path: Path, into: Path) -> None:
    missing = []
    while path != into and not path.is_dir():
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        one.mkdir(0o755)
        one.chmod(0o755)


def _entries(zip_file: IO[bytes], caps: Caps) -> Iterator[tuple[zipfile.ZipInfo, Iterator[bytes]]]:
    """Every entry with its bytes, which are to be taken before the next entry."""
    try:
        _check_directory(zip_file, caps)
        with zipfile.ZipFile(zip_file) as opened:
            infos = opened.infolist()
            _check_entries(infos, caps)
            counted = [0]
            for info in infos:
                yield info, _chunks(opened, info, caps, counted)
    except _BROKEN as error:
        raise BadZip() from error


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, caps: Caps, counted: list[int]) -> Iterator[bytes]:
    """Raises BadZip once all entries together have too many bytes."""
    try:
        with opened.open(info) as file:
            while chunk := file.read(_CHUNK):
                counted[0] += len(chunk)
                if counted[0] > caps.bytes_max:
                    raise BadZip(f"Unzipped size must be smaller than {caps.bytes_max} bytes")
                yield chunk
    except _BROKEN as error:
        raise BadZip() from error


def _check_directory(zip_file: IO[bytes], caps: Caps) -> None:
    """Before it is parsed: a central directory of a million entries would take half a gigabyte of memory."""
    size = zip_file.seek(0, os.SEEK_END)
    start = max(0, size - _END_BYTES - _COMMENT_BYTES_MAX - _LOCATOR64_BYTES)
    zip_file.seek(start)
    tail = zip_file.read(size - start)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise BadZip()
    if at >= _LOCATOR64_BYTES and tail[at - _LOCATOR64_BYTES : at].startswith(_LOCATOR64):
        raise BadZip("Could not unzip uploaded file: zip64 archives are not accepted.")
    count = int.from_bytes(tail[at + 10 : at + 12], "little")
    bytes_of_directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if count > caps.entries_max or bytes_of_directory > caps.entries_max * _DIRECTORY_BYTES_PER_ENTRY:
        raise _too_many(caps)
    zip_file.seek(0)


def _too_many(caps: Caps) -> BadZip:
    return BadZip(f"Could not unzip uploaded file: it has more than {caps.entries_max} entries.")


def _check_entries(infos: list[zipfile.ZipInfo], caps: Caps) -> None:
    if len(infos) > caps.entries_max:
        raise _too_many(caps)
    if sum(info.file_size for info in infos) > caps.bytes_max:
        raise BadZip(f"Unzipped size must be smaller than {caps.bytes_max} bytes")
    files: set[str] = set()
    named: set[str] = set()
    above: set[str] = set()
    for info in infos:
        parts = _checked_parts(info)
        _check_kind(info)
        name = "/".join(parts)
        if name in named:
            raise _bad(info, "is there twice")
        named.add(name)
        above.update("/".join(parts[:count]) for count in range(1, len(parts)))
        if not info.is_dir():
            files.add(name)
    both = files & above
    if both:
        raise BadZip(f"Could not unzip uploaded file: {min(both)[:128]!r} is a file and a directory.")
    folded = {_fold(name) for name in named | above}
    if len(folded) < len(named | above):
        raise BadZip("Could not unzip uploaded file: names of its entries differ in case only.")


def _checked_parts(info: zipfile.ZipInfo) -> list[str]:
    name = info.orig_filename
    if "\\" in name or _DRIVE.match(name):
        raise _bad(info, "is a name of another system")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise _bad(info, "has control characters")
    if name.startswith("/"):
        raise _bad(info, "is absolute")
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise _bad(info, "leads outside of the package")
    if len(name.encode()) > _NAME_BYTES_MAX or any(len(part.encode()) > _PART_BYTES_MAX for part in parts):
        raise _bad(info, "is too long")
    return parts


def _check_kind(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _FLAG_ENCRYPTED:
        raise _bad(info, "is encrypted")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind and (kind == stat.S_IFDIR) != info.is_dir()):
        raise _bad(info, "is neither a file nor a directory")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _bad(info, "is compressed in another way than deflate")
    if info.is_dir() and info.file_size:
        raise _bad(info, "is a directory with content")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _bad(info: zipfile.ZipInfo, why: str) -> BadZip:
    return BadZip(f"Could not unzip uploaded file: the entry {info.orig_filename[:128]!r} {why}.")
