"""How every shard's process runs: start, serve until what it is made of does not go on, stop. Ray restarts it then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import uvloop


class Process(Protocol):
    """A composition root's own."""

    async def start(self) -> int:
        """Serve. Returns the gRPC port."""
        ...

    async def ended(self) -> str:
        """Blocks until it cannot go on: a journal was lost to another owner, the disk failed. Returns what it was."""
        ...

    async def stop(self, grace_s: float = 2.0) -> None: ...


def run(make: Callable[[], Process], log: logging.Logger) -> None:
    """Blocks until the process cannot go on."""
    uvloop.run(_run(make, log))


async def _run(make: Callable[[], Process], log: logging.Logger) -> None:
    began = time.monotonic()
    process = make()
    port = await process.start()
    log.info("serves on port %d after %.2f s", port, time.monotonic() - began)
    try:
        log.error("the process ends: %s", await process.ended())
    finally:
        await process.stop(0)
