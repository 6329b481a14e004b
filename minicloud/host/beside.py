"""A process beside the agent: started with it, started again when it ends, and never there without it.

It gets its orders as one line of JSON on stdin, which stays open: the end of stdin is the end of the agent, and so its
own. Started on the event loop's thread, whose end it may ask the kernel to be told of as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from minicloud.shell.background import Background

log = logging.getLogger("minicloud.host")

PAUSE_S = (0.1, 5.0)  # between two, doubling; one that ran for longer than the second is started again at once


class Beside(Background):
    """`module`: what is run, as `python -m`. `orders`: its line. `said`: the file that it writes to."""

    def __init__(self, module: str, words: tuple[str, ...], orders: Callable[[], str], said: Path) -> None:
        self._command = [sys.executable, "-m", module, *words]
        self._orders = orders
        self._said = said

    async def _run(self) -> None:
        pause_s, loop = PAUSE_S[0], asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                status = await self._once()
                log.warning("%s ended with status %s", self._command[2], status)
            except OSError as error:
                log.error("%s does not start: %s", self._command[2], error)
            pause_s = PAUSE_S[0] if loop.time() - began > PAUSE_S[1] else min(pause_s * 2, PAUSE_S[1])
            await asyncio.sleep(pause_s)

    async def _once(self) -> int:
        """Its exit status. Whoever is cancelled has ended it. Raises OSError."""
        with self._said.open("ab") as said:
            process = subprocess.Popen(  # noqa: ASYNC220 - 2 ms, and on this very thread
                self._command, stdin=subprocess.PIPE, stdout=said, stderr=said, start_new_session=True
            )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(self._orders().encode() + b"\n")
                process.stdin.flush()
            await _ended(process.pid)
        finally:
            process.kill()
            status = process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        return status


async def _ended(pid: int) -> None:
    """Raises OSError."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    fd = os.pidfd_open(pid)
    try:
        loop.add_reader(fd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
