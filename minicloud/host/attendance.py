"""What is watched while a guest is spawned: its process, its memory, its init's words. Events only, no polling."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from minicloud.base.errors import CloudError
from minicloud.host.ports import GuestStatus, GuestWalls, GuestWatch
from minicloud.host.records import GuestRecord
from minicloud.host.watch import ProcessWatch

log = logging.getLogger("minicloud.host.attendance")

OOM_LOOKS_S = (0.0, 0.02, 0.1, 0.5)  # the kernel counts a kill some time after it announced it


@dataclass(frozen=True, slots=True)
class Sightings:
    """Who is told: the guest's process is gone; its init spoke; it speaks no more; memory ran out and killed."""

    gone: Callable[[], None]
    status: Callable[[GuestStatus], None]
    silence: Callable[[], None]
    out_of_memory: Callable[[], None]


class Attendance:
    """An async context manager: watches one boot of one guest."""

    def __init__(self, record: GuestRecord, watch: GuestWatch, walls: GuestWalls, seen: Sightings) -> None:
        self._record = record
        self._watch = watch
        self._walls = walls
        self._seen = seen
        self._words: asyncio.Task[None] | None = None
        self._process: ProcessWatch | None = None
        self._oom_fd = -1
        self._looks: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Attendance:
        if self._record.guest is not None:
            self._process = ProcessWatch(self._record.guest, self._seen.gone)
        self._words = asyncio.ensure_future(self._listen())
        try:
            self._oom_fd = self._walls.oom_events(self._record)
        except OSError as error:
            log.warning("memory of guest %s is not watched: %s", self._record.instance_id, error)
        if self._oom_fd >= 0:
            asyncio.get_running_loop().add_reader(self._oom_fd, self._on_oom_event)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._oom_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._oom_fd)
            os.close(self._oom_fd)
        if self._process is not None:
            self._process.close()
        for task in (self._words, self._looks):
            if task is not None:
                task.cancel()
        self._seen.silence()

    def was_killed(self) -> bool:
        """The kernel has killed for memory in this boot."""
        try:
            return self._walls.oom_kills(self._record) > self._record.oom_kills_before
        except OSError:
            return False

    async def _listen(self) -> None:
        try:
            async for status in self._watch.statuses(self._record):
                self._seen.status(status)
        except (CloudError, OSError) as error:
            log.info("guest %s is not heard: %s", self._record.instance_id, error)
        self._seen.silence()

    def _on_oom_event(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._oom_fd, 4096)
        if self._looks is None or self._looks.done():
            self._looks = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        for pause in OOM_LOOKS_S:
            await asyncio.sleep(pause)
            if self.was_killed():
                self._seen.out_of_memory()
                return
