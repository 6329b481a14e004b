"""Zips from strangers: each bad one is refused with nothing written; good ones keep what matters."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from minicloud.store.zips import BadZip, Caps, look, unpack

CAPS = Caps(1_000_000, 100)


def packed(*entries: tuple[str, bytes], mode: int = 0o644, kind: int = stat.S_IFREG) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, body in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(info, body)
    return raw.getvalue()


def patched(change: Callable[[bytearray], None]) -> bytes:
    raw = bytearray(packed(("a.py", b"x" * 1000)))
    change(raw)
    return bytes(raw)


def _encrypted(raw: bytearray) -> None:
    raw[6] |= 1
    at = raw.index(b"PK\x01\x02")
    raw[at + 8] |= 1


def _lying(raw: bytearray) -> None:
    """The sizes in both headers say one byte."""
    at = raw.index(b"PK\x01\x02")
    struct.pack_into("<I", raw, 22, 1)
    struct.pack_into("<I", raw, at + 24, 1)


def _other_name(raw: bytearray) -> None:
    at = raw.index(b"PK\x01\x02")
    raw[at + 46] = ord("b")


def _damaged(raw: bytearray) -> None:
    raw[40] ^= 0xFF


BAD = {
    "absolute": packed(("/etc/passwd", b"x")),
    "up": packed(("../x", b"x")),
    "up inside": packed(("a/../../x", b"x")),
    "dot": packed(("./x", b"x")),
    "empty part": packed(("a//x", b"x")),
    "backslash": packed(("a\\..\\x", b"x")),
    "drive": packed(("C:x", b"x")),
    "newline": packed(("a\nb", b"x")),
    "long": packed(("a" * 256, b"x")),
    "link": packed(("link", b"/etc/passwd"), kind=stat.S_IFLNK),
    "device": packed(("null", b""), kind=stat.S_IFCHR),
    "fifo": packed(("pipe", b""), kind=stat.S_IFIFO),
    "case": packed(("a/X", b"1"), ("A/x", b"2")),
    "case of a directory": packed(("lib/one", b"1"), ("LIB/two", b"2")),
    "file and directory": packed(("a", b"1"), ("a/b", b"2")),
    "no zip": b"PK but no zip" * 10,
    "empty": b"",
    "cut": packed(("a.py", b"x" * 1000))[:-5],
    "encrypted": patched(_encrypted),
    "lying size": patched(_lying),
    "two names": patched(_other_name),
    "damaged": patched(_damaged),
    "bomb": packed(("zeros", bytes(1_000_001))),
    "many": packed(*((f"f{number}", b"") for number in range(101))),
}


def _twice() -> bytes:
    raw = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(raw, "w") as opened:
        opened.writestr("a", b"1")
        opened.writestr("a", b"2")
    return raw.getvalue()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_zip_is_refused_and_leaves_nothing_outside(name: str, tmp_path: Path) -> None:
    into = tmp_path / "in" / "here"
    into.mkdir(parents=True)
    for step in (lambda raw: look(raw, CAPS), lambda raw: unpack(raw, into, CAPS)):
        with pytest.raises(BadZip) as caught:
            step(io.BytesIO(BAD[name]))
        assert caught.value.code == "InvalidParameterValueException"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["here"]
    written = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    assert written <= CAPS.bytes_max


def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadZip, match="twice"):
        unpack(io.BytesIO(_twice()), tmp_path, CAPS)
    assert not list(tmp_path.iterdir())


def test_a_bomb_is_counted_while_it_comes_out() -> None:
    """The directory says little, the stream has much: counted, not believed."""
    raw = bytearray(packed(("zeros", bytes(900_000)), ("more", bytes(900_000))))
    with pytest.raises(BadZip, match="Unzipped size must be smaller than 1000000 bytes"):
        look(io.BytesIO(bytes(raw)), CAPS)


def test_files_directories_and_modes(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as opened:
        for name, mode in (("bootstrap", 0o755), ("lib/one.py", 0o600), ("setuid", 0o4777)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | mode) << 16
            opened.writestr(info, name.encode())
        opened.mkdir("lib")
        opened.mkdir("empty")
    assert look(raw, CAPS) == len("bootstrap" + "lib/one.py" + "setuid")
    assert unpack(raw, tmp_path, CAPS) == look(raw, CAPS)
    assert {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")
    } == {
        "bootstrap": 0o755,
        "lib": 0o755,
        "lib/one.py": 0o644,
        "setuid": 0o755,
        "empty": 0o755,
    }
    assert (tmp_path / "lib" / "one.py").read_bytes() == b"lib/one.py"


def test_what_is_there_already_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(FileExistsError):
        unpack(io.BytesIO(packed(("a", b"x"))), tmp_path / "in", CAPS)
    assert not (tmp_path / "outside").exists()
