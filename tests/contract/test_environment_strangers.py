"""Runtimes that do not keep to the Runtime API, and hosts that lack what an environment needs: nobody else feels it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.environment.environment import BUSY, ENDED, IDLE
from minicloud.environment.fleet import Fleet
from minicloud.function.ports import EnvironmentSpec
from minicloud.sandbox.zygote import SETUP_FAILED, Zygote
from tests.contract.function_bench import Bench, opened
from tests.turns import turn, until

PYTHON = os.path.realpath(sys.executable)  # as environments see it
HEAD = f"""#!{PYTHON}
import os, re, socket, sys, time
address = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
API = "/2018-06-01/runtime/invocation/"
def connect():
    return socket.create_connection(address)
def ask(sock, method, path, body=b""):
    head = f"{{method}} {{API}}{{path}} HTTP/1.1\\r\\nContent-Length: {{len(body)}}\\r\\n\\r\\n"
    sock.sendall(head.encode() + body)
def head(sock):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += sock.recv(65536) or sys.exit(1)
    return data.decode("latin-1")
def event(sock):
    ask(sock, "GET", "next")
    return re.search("request-id: (\\\\S+)", head(sock), re.I)[1]
def begin(sock, name):
    mode = "Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
    sock.sendall(f"POST {{API}}{{name}}/response HTTP/1.1\\r\\n{{mode}}".encode())
def pushed(sock, part):
    count = 0
    sock.settimeout(1)
    try:
        while count < 64 << 20:
            count += sock.send(part)
    except TimeoutError:
        pass
    return count
sock = connect()
"""
HELD_BYTES_MAX = 16 << 20  # buffers of the kernel's on both sides, and ours


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as made:
        yield made


def stranger(bench: Bench, code: str, timeout_s: int = 20) -> EnvironmentSpec:
    return bench.spec({"bootstrap": HEAD + code}, runtime="provided", handler="x", timeout_s=timeout_s)


class Slow:
    """A reader that takes the first chunk when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.size = 0

    async def open(self, content_type: str) -> None:
        return None

    async def write(self, chunk: bytes) -> None:
        await self.go.wait()
        self.size += len(chunk)


async def test_a_runtime_that_is_always_refused_is_ended(bench: Bench) -> None:
    asks = stranger(bench, "while True:\n  ask(sock, 'GET', 'nonsense')\n  head(sock)\n")
    assert (await bench.error(asks))[0] == "Runtime.Unruly"
    knocks = stranger(bench, "while True:\n  ask(sock, 'GET', 'nonsense')\n  head(sock)\n  sock = connect()\n")
    assert (await bench.error(knocks))[0] == "Runtime.Unruly"
    await bench.until(lambda: bench.host.counts() == (0, 0, 0))


async def test_who_has_answered_and_never_asks_for_more_runs_out_of_time(bench: Bench) -> None:
    spec = stranger(bench, "ask(sock, 'POST', event(sock) + '/response', b'1')\ntime.sleep(60)\n", timeout_s=1)
    assert await bench.result(spec) == 1
    assert bench.host.counts(spec.arn).busy == 1
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 0, 0))


async def test_who_sends_ahead_of_its_event_is_not_read(bench: Bench) -> None:
    code = "ask(sock, 'GET', 'next')\nprint('sent', pushed(sock, bytes(1 << 16)), flush=True)\ntime.sleep(60)\n"
    await bench.host.prepare(stranger(bench, code), 1)
    await bench.until(lambda: any(line.startswith("sent") for line in bench.lines.all()))
    (said,) = (line for line in bench.lines.all() if line.startswith("sent"))
    assert int(said.split()[1]) < HELD_BYTES_MAX


async def test_a_slow_reader_of_a_stream_slows_the_function(bench: Bench) -> None:
    code = """
begin(sock, event(sock))
part = b"%x\\r\\n" % (1 << 16) + bytes(1 << 16) + b"\\r\\n"
print("sent", pushed(sock, part), flush=True)
sock.settimeout(None)
time.sleep(60)
"""
    sink = Slow()
    call = asyncio.ensure_future(bench.invoke(stranger(bench, code), sink=sink))
    await bench.until(lambda: any(line.startswith("sent") for line in bench.lines.all()))
    (said,) = (line for line in bench.lines.all() if line.startswith("sent"))
    assert int(said.split()[1]) < HELD_BYTES_MAX
    sink.go.set()
    await until(lambda: sink.size > int(said.split()[1]) * 0.9)  # and then it goes on
    call.cancel()


async def test_a_stream_that_breaks_is_an_error_and_leaves_nothing_behind(bench: Bench) -> None:
    before = asyncio.all_tasks()
    cut = "begin(sock, event(sock))\nsock.sendall(b'3\\r\\none\\r\\n')\nsock.close()\ntime.sleep(60)\n"
    sink = Slow()
    sink.go.set()
    outcome = await bench.invoke(stranger(bench, cut), sink=sink)
    assert json.loads(outcome.payload)["errorType"] == "Runtime.TruncatedResponse"
    assert sink.size == 3
    dies = "begin(sock, event(sock))\nsock.sendall(b'3\\r\\none\\r\\n')\nos._exit(3)\n"
    outcome = await bench.invoke(stranger(bench, dies), sink=Slow())
    assert json.loads(outcome.payload)["errorType"] == "Runtime.ExitError"
    await until(lambda: not [task for task in asyncio.all_tasks() - before if "_pump" in repr(task)])


async def test_who_does_not_wait_for_prepared_environments_holds_nobody_up(bench: Bench) -> None:
    spec = bench.spec("def handler(e, c):\n  return e\n")
    preparing = asyncio.ensure_future(bench.host.prepare(spec, 2))
    await turn()
    preparing.cancel()
    await asyncio.wait([preparing])
    assert await bench.result(spec, 1) == 1
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 2, 0))


async def test_an_order_that_a_zygote_cannot_carry_out_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zygote = Zygote(line, {"isolated": False})

    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(zygote, "_fork", full)
    with ours, line:
        for name, fds in (("a", []), ("b", ["order", "api"])):  # no process; descriptors that did not arrive
            ours.send(json.dumps({"op": "make", "id": name, "fds": fds}).encode())
            assert zygote._hear()
            said = [json.loads(ours.recv(65_536)) for _ in range(2)]
            assert [(one["op"], one["id"]) for one in said] == [("failed", name), ("exited", name)]
            assert said[1]["status"] == SETUP_FAILED


class Fake:
    """As much of an environment as a fleet sees."""

    def __init__(self) -> None:
        self.state, self.ready, self.turning, self.near = IDLE, True, False, True


async def test_an_environment_whose_question_was_lost_is_passed_over_and_not_forgotten(tmp_path: Path) -> None:
    asked: list[int] = []
    fleet = Fleet(Bench(tmp_path).spec(""), lambda _, count: asked.append(count))
    one: Any = Fake()
    other: Any = Fake()
    fleet.free(one)
    fleet.free(other)
    other.ready = False
    assert await fleet.get() is one
    assert fleet.idle == [other]
    fleet.later(other)
    one.state = BUSY
    fleet.later(one)
    assert fleet.idle == [other]
    waiting = asyncio.ensure_future(fleet.get())
    await turn()
    one.state = ENDED
    fleet.members.discard(one)
    fleet.free(one)  # given back by who was cancelled, after its end
    assert fleet.members == {other}
    fleet.free(other)
    assert await waiting is other
