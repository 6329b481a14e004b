"""Turns of the event loop, for tests that wait for what others in this process do: no time passes of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS_MAX = 60.0


async def turn(times: int = 1) -> None:
    """Let everybody else have so many turns."""
    for _ in range(times):
        await asyncio.sleep(0)


async def until(holds: Callable[[], T]) -> T:
    """The first true value. What it waits for comes from sockets and threads of this process, which have no event for
    it. Raises TimeoutError where it never comes.
    """
    async with asyncio.timeout(SECONDS_MAX):
        while not (value := holds()):
            await turn()
    return value
