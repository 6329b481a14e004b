"""What benchmarks/functions.py measures itself against, each a process of its own: `python functions.py WHAT ...`.

echo PORT               a bare gRPC server that gives back what it gets
ray PORT ADDRESS TOKEN  a gRPC server in front of four Ray actors that do nothing: the same hop, Ray behind it
loop SECONDS            awslambdaric processes on a bare HTTP Runtime API; prints how long one loop takes, and rates
pipe SECONDS            a forked process that answers JSON over a pipe
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

METHOD = "/bench.Echo/Call"
HANDLER = "def handler(event, context):\n    return event\n"
EVENT = b'{"a": 1}'


class Answers(grpc.GenericRpcHandler):
    """Bytes in, bytes out."""

    def __init__(self, answer: Any) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, details: Any) -> Any:
        return self._handler


async def serve(port: int, answer: Any) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answers(answer),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def in_front_of_ray(port: int, address: str, token: str) -> None:
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    import ray

    ray.init(address=address, namespace="bench", log_to_driver=False, configure_logging=False)

    class Nothing:
        def handle(self, request: bytes) -> bytes:
            return json.dumps(json.loads(request)).encode()

    kind = ray.remote(num_cpus=0.01)(Nothing)

    async def new_actors(count: int) -> bytes:
        """How many seconds until the last of them has answered."""
        began = time.time()
        fresh = [kind.remote() for _ in range(count)]
        await asyncio.gather(*(actor.handle.remote(b"1") for actor in fresh))
        took = time.time() - began
        for actor in fresh:
            ray.kill(actor)
        return str(took).encode()

    actors = [kind.remote() for _ in range(4)]
    await asyncio.gather(*(actor.handle.remote(b"1") for actor in actors))
    turn = itertools.cycle(actors)

    async def answer(request: bytes, context: Any) -> bytes:
        if request.startswith(b"actors "):
            return await new_actors(int(request.split()[1]))
        answered: bytes = await next(turn).handle.remote(request)
        return answered

    await serve(port, answer)


class BareApi(asyncio.Protocol):
    """A Runtime API that has always another event, and notes how long each took. One write an answer."""

    took: list[float]

    def __init__(self, took: list[float]) -> None:
        self.took = took
        self._unread = b""
        self._sent = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end].lower()
            size = 0
            if (at := head.find(b"content-length:")) >= 0:
                size = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._unread) < end + 4 + size:
                return
            self._unread = self._unread[end + 4 + size :]
            self._answer(head.startswith(b"get"))

    def _answer(self, wants_event: bool) -> None:
        if not wants_event:
            self.took.append(time.perf_counter() - self._sent)
            self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            return
        head = (
            b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 9999999999999\r\n"
            b"Lambda-Runtime-Invoked-Function-Arn: arn\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        self._sent = time.perf_counter()
        self._transport.write(head % len(EVENT) + EVENT)


async def loop(seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for count in (1, 4):
        took: list[float] = []
        server = await asyncio.get_running_loop().create_server(lambda took=took: BareApi(took), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "app.py").write_text(HANDLER)
            env = {**os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}", "LAMBDA_TASK_ROOT": folder}
            env["AWS_LAMBDA_FUNCTION_NAME"], env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = "f", "128"
            command = [sys.executable, "-m", "awslambdaric", "app.handler"]
            runtimes = [subprocess.Popen(command, env=env, cwd=folder) for _ in range(count)]  # noqa: ASYNC220
            try:
                while len(took) < 100 * count:  # noqa: ASYNC110 - until all are warm
                    await asyncio.sleep(0.05)
                took.clear()
                await asyncio.sleep(seconds)
                done = list(took)
            finally:
                for runtime in runtimes:
                    runtime.kill()
                    runtime.wait()
        server.close()
        found[str(count)] = {"loop_ms": 1000 * count * seconds / len(done), "per_s": len(done) / seconds}
    return found


def over_a_pipe(seconds: float) -> dict[str, float]:
    """One forked process."""
    (here_r, there_w), (there_r, here_w) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        while data := os.read(there_r, 65536):
            os.write(there_w, json.dumps(json.loads(data)).encode())
            if data == b"0":
                os._exit(0)
    took, payload = [], EVENT
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        os.write(here_w, payload)
        os.read(here_r, 65536)
        took.append(time.perf_counter() - began)
    os.write(here_w, b"0")
    os.waitpid(pid, 0)
    return {"median_ms": statistics.median(took) * 1000, "per_s": len(took) / sum(took)}


def main(words: list[str]) -> None:
    if words[0] == "echo":
        uvloop.run(serve(int(words[1]), echo))
    elif words[0] == "ray":
        asyncio.run(in_front_of_ray(int(words[1]), words[2], words[3]))
    elif words[0] == "pipe":
        print(json.dumps(over_a_pipe(float(words[1]))))
    else:
        print(json.dumps(uvloop.run(loop(float(words[1])))))


if __name__ == "__main__":
    main(sys.argv[1:])
