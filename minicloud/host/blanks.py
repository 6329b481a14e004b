"""Disks made ahead for guests of the built-in images: everything in them but what names the guest.

Measured: the directories, mount points and device nodes of a new disk take 10 to 40 ms to make, 12 of them CPU in a
burst (a file system that was busy looks long for free inodes); renaming a ready one takes none. A blank is `.blank-<n>`
beside the disks, complete by construction (it is made under another name), so those of an agent before this one are
taken over; but what a disk of this agent needs they may lack, so they are gone over once more.

A blank costs 100 KB of the disk and nothing else, so there are enough for a burst. All but the first few are made one
by one, with a pause after each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from minicloud.host.quiet import Quiet

log = logging.getLogger("minicloud.host.blanks")

BLANKS = 64
AT_ONCE = 4  # the others are in no hurry
PAUSE_S = 0.03
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
        self._quiet = Quiet(QUIET_S, under_way)
        self._filling: asyncio.Task[None] | None = None
        self._closed = False
        self._making = threading.Lock()
        self._ready: deque[Path] = deque()
        self._inherited = deque(sorted(folder.glob(f"{BLANK}*")))

    def take(self, disk: Path) -> bool:
        """Make a blank the disk at `disk`, if there is a blank and no disk. True: nothing is missing but its name."""
        if disk.exists():
            return False
        if _take(self._ready, disk):
            return True
        _take(self._inherited, disk)
        return False

    def count(self) -> int:
        return len(self._ready) + len(self._inherited)

    def refill(self) -> None:
        """Soon, in the background, when it is quiet."""
        self._quiet.launched()
        if self._filling is None or self._filling.done():
            self._filling = asyncio.ensure_future(self._fill())

    def close(self) -> None:
        """Nothing is made any more. Waits for the one that is being made."""
        self._closed = True
        with self._making:
            pass
        if self._filling is not None:
            self._filling.cancel()

    async def _fill(self) -> None:
        try:
            while not self._closed and self.count() < BLANKS:
                await self._quiet.come()
                await asyncio.to_thread(self.make_one)
                await asyncio.sleep(0.0 if self.count() < AT_ONCE else PAUSE_S)
        except OSError as error:
            log.warning("no disks are made ahead: %s", error)

    def make_one(self) -> None:
        """Blocks. Raises OSError."""
        with self._making:
            if not self._closed:
                self._make()

    def _make(self) -> None:
        name = f"{os.getpid()}-{time.time_ns():x}"  # one of an agent before may have any number
        making, blank = self._folder / f"{MAKING}{name}", self._folder / f"{BLANK}{name}"
        try:
            self._prepare(making / "root")
            for path in NAMING:
                (making / "root" / path).unlink(missing_ok=True)
            making.rename(blank)
            self._ready.append(blank)
        finally:
            shutil.rmtree(making, ignore_errors=True)


def _take(blanks: deque[Path], disk: Path) -> bool:
    while True:
        try:
            blanks.popleft().rename(disk)
        except IndexError:
            return False
        except FileNotFoundError:  # somebody has tidied up
            continue
        return True
