"""What queues cost besides throughput: one message at a time, idle polls, millions of messages, many queues."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop
from our_cloud import OurCloud
from queue_load import PAYLOAD

from minicloud import AsyncClient
from minicloud.store.log import FileLog

ECHO = "/echo.Echo/Echo"
POLL_S = 20
BATCH = 10
SMALL = 1_000  # messages in the small queue
BEFORE = 50_000
PRODUCERS = 2_000


# ---------------------------------------------------------------- one message at a time


def _echo_process(pipe: Any) -> None:
    """A bare grpc.aio server, in a process of its own as the broker is: bytes in, a message id's bytes out."""
    uvloop.run(_serve_echo(pipe))


async def _serve_echo(pipe: Any) -> None:
    async def echo(_request: bytes, _context: Any) -> bytes:
        return b"x" * 40

    server = grpc.aio.server()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await asyncio.to_thread(pipe.recv)
    await server.stop(0)


async def latency(cloud: OurCloud, folder: Path, count: int) -> dict[str, float]:
    """Median microseconds of a send, a bare gRPC echo of the same bytes, and a commit of the same bytes; by turns."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_echo_process, args=(there,))
    child.start()
    store = FileLog.open(folder / "commits", "bench")
    try:
        port = await asyncio.to_thread(here.recv)
        async with AsyncClient(cloud.endpoint) as client, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await client.queues.create("one")
            queue, bare = client.queues.bound("one"), _raw(channel)

            async def send() -> None:
                await queue.send(PAYLOAD)

            async def echo() -> None:
                await bare(PAYLOAD)

            async def commit() -> None:
                store.append([PAYLOAD])
                await store.flushed()

            took = await _by_turns({"send": send, "echo": echo, "commit": commit}, count)
    finally:
        await store.close()
        here.send(None)
        child.join(10)
    return {**took, "ratio": took["send"] / (took["echo"] + took["commit"])}


def _raw(channel: Any) -> Callable[[bytes], Awaitable[bytes]]:
    call: Callable[[bytes], Awaitable[bytes]] = channel.unary_unary(ECHO)
    return call


async def _by_turns(ways: dict[str, Callable[[], Awaitable[None]]], count: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(count + 20):
        for name, way in ways.items():
            began = time.perf_counter()
            await way()
            if number >= 20:
                taken[name].append(time.perf_counter() - began)
    return {name: 1e6 * statistics.median(times) for name, times in taken.items()}


# ---------------------------------------------------------------- waiting


async def idle(cloud: OurCloud, polls: int, seconds: float) -> dict[str, float]:
    """Per cent of a core that so many long polls use, at the broker and here, their renewal every 20 s included."""
    async with AsyncClient(cloud.endpoint) as client:
        names = [f"idle-{number}" for number in range(max(1, polls // 10))]
        await asyncio.gather(*(client.queues.create(name) for name in names))
        woken: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def wait(name: str) -> None:
            while not await client.queues.receive(name, wait_s=POLL_S):
                pass
            woken.set_result(time.perf_counter())

        tasks = [asyncio.create_task(wait(names[number % len(names)])) for number in range(polls)]
        await asyncio.sleep(3)
        began, server, ours = time.perf_counter(), cloud.cpu_s(), time.process_time()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        server, ours = cloud.cpu_s() - server, time.process_time() - ours
        began = time.perf_counter()
        await client.queues.send(names[-1], b"wake")
        wake_ms = 1_000 * (await asyncio.wait_for(woken, 10) - began)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "polls": polls,
        "broker_percent": 100 * server / took,
        "client_percent": 100 * ours / took,
        "wake_ms": wake_ms,
    }


# ---------------------------------------------------------------- millions of messages


async def big(cloud: OurCloud, messages: int, rounds: int) -> dict[str, float]:
    """Receives a second from a queue with so many messages and from one with a thousand, by turns; memory a message."""
    async with AsyncClient(cloud.endpoint) as client:
        for name in ("small", "big"):
            await client.queues.create(name, {"VisibilityTimeout": 600})
        await fill(client, "small", SMALL)
        await _drawn(client, "small")
        await client.queues.create("before")
        await fill(client, "before", BEFORE)  # the log's buffers are full from here on
        await client.queues.purge("before")
        before, began = cloud.private_bytes(), time.perf_counter()
        await fill(client, "big", messages)
        filled_s, after = time.perf_counter() - began, cloud.private_bytes()
        taken: dict[str, list[float]] = {"small": [], "big": []}
        for _ in range(rounds):
            for name, times in taken.items():
                times.append(await _drawn(client, name))
    rates = {name: SMALL / BATCH / statistics.median(times) for name, times in taken.items()}
    return {
        "messages": messages,
        "filled_per_s": messages / filled_s,
        "small_per_s": rates["small"],
        "big_per_s": rates["big"],
        "ratio": statistics.median(s / b for s, b in zip(taken["small"], taken["big"], strict=True)),
        "bytes_per_message": (after - before) / messages,
    }


async def fill(client: AsyncClient, name: str, count: int) -> None:
    """So many messages, as fast as batching goes."""
    queue, left = client.queues.bound(name), iter(range(count))

    async def produce() -> None:
        for _ in left:
            await queue.send(PAYLOAD)

    await asyncio.gather(*(produce() for _ in range(min(PRODUCERS, count))))


async def _drawn(client: AsyncClient, name: str) -> float:
    """Seconds for receiving a thousand, ten a call, four calls at once; then as many are deleted and sent again."""
    queue, calls = client.queues.bound(name), iter(range(SMALL // BATCH))
    came: list[Any] = []

    async def take() -> None:
        for _ in calls:
            came.extend(await queue.receive(BATCH, wait_s=0))

    began = time.perf_counter()
    await asyncio.gather(*(take() for _ in range(4)))
    took = time.perf_counter() - began
    if len(came) != SMALL:
        raise RuntimeError(f"{len(came)} of {SMALL} came from {name}")
    await queue.delete_messages(came)
    await fill(client, name, SMALL)
    return took


# ---------------------------------------------------------------- many queues


async def many(cloud: OurCloud, queues: int) -> dict[str, float]:
    """How long a broker with so many queues takes from its death to its first answer, and what it needs for them."""
    async with AsyncClient(cloud.endpoint, timeout=120, retry=110) as client:
        await client.queues.create("first")
        before, began, left = cloud.private_bytes(), time.perf_counter(), iter(range(queues))

        async def make() -> None:
            for number in left:
                await client.queues.create(f"many-{number:06d}")

        await asyncio.gather(*(make() for _ in range(64)))
        made_s, after = time.perf_counter() - began, cloud.private_bytes()
        killed, began = cloud.broker_pid(), time.perf_counter()
        os.kill(killed, signal.SIGKILL)
        await client.queues.get(f"many-{queues - 1:06d}")
        restart_s = time.perf_counter() - began
        if cloud.broker_pid() == killed:
            raise RuntimeError("the broker was not killed")
    return {
        "queues": queues,
        "made_per_s": queues / made_s,
        "bytes_per_queue": (after - before) / queues,
        "restart_s": restart_s,
        "memory_mib": cloud.private_bytes() / 2**20,
    }
