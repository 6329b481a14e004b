"""Disks made ahead for guests of the built-in images: everything in them but what names the guest.

Measured: the directories, mount points and device nodes of a new disk take 10 to 40 ms to make, most of it in the file
system; renaming a ready one takes none, and the rest 3 ms. A blank is `.blank-<n>` beside the disks, complete by
construction (it is made under another name), so those of an agent before this one are taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from minicloud.host.quiet import Quiet

log = logging.getLogger("minicloud.host.blanks")

BLANKS = 4
BLANK, MAKING = ".blank-", ".making-"
QUIET_S = 0.5  # a launch is under way just after one was taken
NAMING = ("etc/hosts", "etc/hostname")


class Blanks:
    """`prepare(root)` makes a disk that is nobody's; blocks. `take` is called on threads, the rest on the loop.

    `under_way`: is a guest of an instance on its way?
    """

    def __init__(
        self, folder: Path, prepare: Callable[[Path], None], under_way: Callable[[], bool] = lambda: False
    ) -> None:
        self._folder = folder
        self._prepare = prepare
        self._numbers = itertools.count()
        self._quiet = Quiet(QUIET_S, under_way)
        self._filling: asyncio.Task[None] | None = None

    def take(self, disk: Path) -> bool:
        """Make a blank the disk at `disk`, which must not exist. False: there is none, or there is a disk already."""
        if disk.exists():
            return False
        for blank in self._ready():
            with contextlib.suppress(FileNotFoundError):  # another launch took it
                blank.rename(disk)
                return True
        return False

    def refill(self) -> None:
        """Soon, in the background, when it is quiet."""
        self._quiet.launched()
        if self._filling is None or self._filling.done():
            self._filling = asyncio.ensure_future(self._fill())

    def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()

    async def _fill(self) -> None:
        await self._quiet.come()
        try:
            for _ in range(BLANKS):
                await asyncio.to_thread(self._make_one)
        except OSError as error:
            log.warning("no disks are made ahead: %s", error)

    def _make_one(self) -> None:
        if len(self._ready()) >= BLANKS:
            return
        name = f"{os.getpid()}-{next(self._numbers)}"
        making = self._folder / f"{MAKING}{name}"
        try:
            self._prepare(making / "root")
            for path in NAMING:
                (making / "root" / path).unlink(missing_ok=True)
            making.rename(self._folder / f"{BLANK}{name}")
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _ready(self) -> list[Path]:
        return sorted(self._folder.glob(f"{BLANK}*"))
