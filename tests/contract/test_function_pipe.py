"""A response while it is made: in order, held back by a slow reader, let go by one that has left."""

from __future__ import annotations

import asyncio

import pytest

from minicloud.function.links.pipe import Pipe
from tests.turns import turn


async def test_chunks_come_in_order_and_one_is_held() -> None:
    pipe, written = Pipe(), 0

    async def work() -> str:
        nonlocal written
        await pipe.open("text/plain")
        for number in range(5):
            await pipe.write(b"%d" % number)
            written += 1
        return "done"

    task = asyncio.create_task(work())
    await pipe.opened(task)
    assert pipe.content_type == "text/plain"
    await turn(10)
    assert written == 1, "the second waits until the first is read"
    assert [chunk async for chunk in pipe.chunks(task)] == [b"0", b"1", b"2", b"3", b"4"]
    assert await task == "done"


async def test_who_leaves_holds_nothing_up() -> None:
    pipe = Pipe()

    async def work() -> str:
        for number in range(100):
            await pipe.write(b"%d" % number)
        return "done"

    task = asyncio.create_task(work())
    chunks = pipe.chunks(task)
    assert await anext(chunks) == b"0"
    await chunks.aclose()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(task, 60) == "done"


async def test_what_fails_before_its_first_byte_raises_and_what_says_nothing_ends() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def silent() -> None:
        return None

    with pytest.raises(ValueError):
        await Pipe().opened(asyncio.create_task(fails()))
    pipe, task = Pipe(), asyncio.create_task(silent())
    await pipe.opened(task)
    assert [chunk async for chunk in pipe.chunks(task)] == [] and not pipe.content_type
