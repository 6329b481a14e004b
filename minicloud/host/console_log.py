"""Consoles of guests as log streams: the group `/minicloud/instances` of the account, a stream for each instance.

    console file --inotify--> whole lines --once in PAUSE_S, PART_BYTES at most--> the cloud's logs

How far a console was read stands beside it, so an agent that comes back goes on there; what was on its way when the
agent was killed comes again. A guest that prints faster than that does not push others' lines out: what its console no
longer keeps when its turn comes is left out, and the stream says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound
from minicloud.host.console import Consoles

log = logging.getLogger("minicloud.host")

GROUP = "/minicloud/instances"
PART_BYTES = 64 * 1024  # ours: of one console, read in one go
PAUSE_S = 1.0
Write = Callable[[Scope, str, str, Sequence[tuple[float, str]]], None]


class ConsoleLog:
    """`write` never blocks (scope, group, stream, lines with their times)."""

    def __init__(self, consoles: Consoles, write: Write, wall: Callable[[], float], pause_s: float = PAUSE_S) -> None:
        self._consoles = consoles
        self._write = write
        self._wall = wall
        self._pause_s = pause_s
        self._tasks: dict[Path, asyncio.Task[None]] = {}

    def follow(self, path: Path, scope: Scope, instance_id: str) -> None:
        """From now until the console ends (Consoles.end). Once is enough."""
        if path not in self._tasks:
            task = asyncio.create_task(self._run(path, scope, instance_id))
            self._tasks[path] = task
            task.add_done_callback(lambda _: self._tasks.pop(path, None))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, path: Path, scope: Scope, instance_id: str) -> None:
        try:
            await self._copy(path, scope, instance_id)
        except (NotFound, OSError) as error:
            log.warning("the console of %s is not logged any more: %s", instance_id, error)
        except Exception:
            log.exception("the console of %s is not logged any more", instance_id)

    async def _copy(self, path: Path, scope: Scope, instance_id: str) -> None:
        said = offset = _read_mark(path)
        begun = b""
        async with aclosing(self._consoles.read_from(path, offset, PART_BYTES)) as parts:
            async for start, part in parts:
                lines: list[str] = []
                if start > offset:
                    lines.append(f"[minicloud: {start - offset} bytes of this console are left out]")
                    begun = b""
                offset = start + len(part)
                whole, newline, begun = (begun + part).rpartition(b"\n")
                if not newline and len(begun) >= PART_BYTES:
                    whole, begun = begun, b""
                self._say(scope, instance_id, [*lines, *_lines(whole)])
                if said != offset - len(begun):
                    said = offset - len(begun)
                    _write_mark(path, said)
                await asyncio.sleep(self._pause_s)
        self._say(scope, instance_id, _lines(begun))
        _write_mark(path, offset)

    def _say(self, scope: Scope, instance_id: str, lines: Sequence[str]) -> None:
        if lines:
            now = self._wall()
            self._write(scope, GROUP, instance_id, [(now, line) for line in lines])


def _lines(raw: bytes) -> list[str]:
    return [text for line in raw.split(b"\n") if (text := line.decode(errors="replace").rstrip("\r"))]


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.logged")


def _read_mark(path: Path) -> int:
    try:
        return int(_mark(path).read_text())
    except (OSError, ValueError):
        return 0


def _write_mark(path: Path, offset: int) -> None:
    """Where the disk is gone already there is nothing to go on from."""
    beside = _mark(path).with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        beside.write_text(str(offset))
        os.replace(beside, _mark(path))
