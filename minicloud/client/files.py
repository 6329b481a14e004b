"""Files in and out of a guest, as tar streams that never lie on a disk or in memory as a whole.

`tarfile` is synchronous, so it runs in a thread; every block it writes or reads is one message of the stream,
awaited on the event loop, so the network's back pressure reaches the disk. Archives that come out of a guest are not
trusted: each member goes through tarfile's `data` filter, and what it refuses is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicloud.base.errors import InvalidParameterValue, Unavailable, UnsupportedOperation
from minicloud.client.lazy import lazy
from minicloud.client.streams import GuestStream

if TYPE_CHECKING:
    import tarfile

    from minicloud.client import models
    from minicloud.wire import guest_pb2
else:
    tarfile = lazy("tarfile")
    models = lazy("minicloud.client.models")
    guest_pb2 = lazy("minicloud.wire.guest_pb2")

_BLOCK_BYTES = 20 * 10240  # a multiple of tar's record, below limits.STREAM_CHUNK_BYTES_MAX
_SKIPPED_NAMED_MAX = 100


def local_source(path: str | Path) -> Path:
    """What to copy in, its own links followed. Raises InvalidParameterValue."""
    source = Path(path)
    if not source.exists():
        raise InvalidParameterValue(f"{source} does not exist", field="local_path")
    return source.resolve()


def local_target(path: str | Path, name: str) -> Path:
    """Where a copy goes: into a directory that exists, else as that name. Raises InvalidParameterValue."""
    target = Path(path)
    target = target / name if target.is_dir() else target
    if not target.parent.is_dir():
        raise InvalidParameterValue(f"{target.parent} is not a directory", field="local_path")
    return target


async def chunks(call: GuestStream) -> AsyncIterator[bytes]:
    """The data of a server stream. Raises CloudError."""
    try:
        while (message := await call.read()) is not None:
            if message.data:
                yield message.data
    finally:
        call.cancel()


async def send(call: GuestStream, header: guest_pb2.UploadHeader, source: Path, name: str) -> models.CopyResult:
    """Pack `source` under `name` into an open Upload call. Raises CloudError, OSError."""
    loop = asyncio.get_running_loop()

    def put(data: bytes) -> int:
        work = call.write(guest_pb2.UploadInput(chunk=data))
        if not asyncio.run_coroutine_threadsafe(work, loop).result():
            raise _Ended
        return len(data)

    try:
        if await call.write(guest_pb2.UploadInput(header=header)):
            with contextlib.suppress(_Ended):
                await asyncio.to_thread(_pack, source, name, _Sink(put))
                await call.finish()
        reply: guest_pb2.UploadResult = await call.result()
    finally:
        call.cancel()
    return models.CopyResult(files=reply.files, bytes=reply.bytes)


async def receive(call: GuestStream, target: Path) -> models.CopyResult:
    """Unpack an open Download call as `target`. Raises CloudError, OSError."""
    loop = asyncio.get_running_loop()
    source = chunks(call)

    async def following() -> bytes:
        return await anext(source, b"")

    def more() -> bytes:
        return asyncio.run_coroutine_threadsafe(following(), loop).result()

    try:
        return await asyncio.to_thread(_unpack, _Source(more), target)
    except tarfile.ReadError as error:
        raise Unavailable(f"the archive from the guest is not whole: {error}", code="StreamBroken") from None
    finally:
        call.cancel()


class _Ended(Exception):
    """The other side wants no more."""


class _Sink:
    """A file that is only written to."""

    def __init__(self, write: Any) -> None:
        self.write = write


class _Source:
    """A file that is only read from, whatever the size of the pieces it comes in."""

    def __init__(self, more: Any) -> None:
        self._more = more
        self._left = b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            self._left = self._left or self._more()
            if not self._left:
                break
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def _pack(source: Path, name: str, sink: _Sink) -> None:
    with tarfile.open(fileobj=sink, mode="w|", bufsize=_BLOCK_BYTES, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        tar.add(source, arcname=name, filter=_as_root)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The guest has its own users: what is copied in belongs to its root."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _unpack(source: _Source, target: Path) -> models.CopyResult:
    if not hasattr(tarfile, "data_filter"):
        raise UnsupportedOperation("copying out of a guest needs Python 3.11.4 or later")
    result, skipped, root = models.CopyResult(0, 0), [], 0
    with tarfile.open(fileobj=source, mode="r|", bufsize=_BLOCK_BYTES) as tar:  # type: ignore[call-overload]
        for number, member in enumerate(tar):
            if number == 0:  # the archive's root comes first: '.' when it is '/'
                root = len(_parts(member.name))
            renamed = _renamed(member, target.name, root)
            try:
                tar.extract(renamed, target.parent, filter="data")
            except tarfile.FilterError as error:
                skipped.append(f"{member.name}: {error}")
                continue
            size = renamed.size if renamed.isreg() else 0
            result = replace(result, files=result.files + renamed.isreg(), bytes=result.bytes + size)
    if not result.files and not skipped and not os.path.lexists(target):
        raise InvalidParameterValue("the guest sent nothing", field="remote_path")
    return replace(result, skipped=tuple(skipped[:_SKIPPED_NAMED_MAX]))


def _renamed(member: tarfile.TarInfo, name: str, root: int) -> tarfile.TarInfo:
    """The archive's root, `root` path components long, becomes `name`."""
    member.name = "/".join((name, *_parts(member.name)[root:]))
    if member.islnk():
        member.linkname = "/".join((name, *_parts(member.linkname)[root:]))
    return member


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
