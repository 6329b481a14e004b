"""A message broker as a process of its own, run as its actor runs it, to be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from minicloud.base.arn import Scope
from minicloud.cluster.ports import free_port
from minicloud.cluster.teardown import make_run
from minicloud.rpc.shard_ticket import BROKERS, issue
from minicloud.rpc.ticket import TICKET_METADATA
from minicloud.settings import CloudSettings, ShardSettings
from minicloud.wire import queue_pb2_grpc, topic_pb2_grpc

SECRET = bytes(range(32))
TICKET = ((TICKET_METADATA, issue(BROKERS, SECRET, 0, Scope(), 9e9)),)
CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
)
_RUN = (
    "import sys, logging; logging.basicConfig(level=logging.INFO)\n"
    "from minicloud.cloud_broker import run_message_broker\n"
    "from minicloud.settings import CloudSettings\n"
    "run_message_broker(CloudSettings.from_json(sys.stdin.read()), 0)\n"
)


class BrokerProcess:
    """Broker 0 of a cloud in this directory."""

    def __init__(self, data: Path) -> None:
        data.mkdir(mode=0o700, exist_ok=True)
        (data / "secret.key").write_bytes(SECRET)
        ports = ShardSettings(free_port("127.0.0.1"), free_port("127.0.0.1"))
        self.settings = CloudSettings("0" * 8, str(data), brokers=(ports,))
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data / "broker.log"
        make_run(self.settings)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.settings.brokers[0].port}"

    def beside(self) -> BrokerProcess:
        """Another process for the same data, on other ports."""
        return BrokerProcess(self.settings.data_path)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        assert self.process.stdin is not None
        self.process.stdin.write(self.settings.to_json().encode())
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.process.wait()

    @contextlib.asynccontextmanager
    async def stub(self) -> AsyncIterator[Any]:
        """Calls wait while nobody listens, and end at once when the process dies."""
        async with self.stubs() as (queues, _):
            yield queues

    @contextlib.asynccontextmanager
    async def stubs(self) -> AsyncIterator[tuple[Any, Any]]:
        """Of queues and of topics."""
        async with grpc.aio.insecure_channel(self.address, options=CHANNEL) as channel:
            calls: Any = _Patient(channel)
            queues = queue_pb2_grpc.QueueServiceStub(calls)  # type: ignore[no-untyped-call]
            yield queues, topic_pb2_grpc.TopicServiceStub(calls)  # type: ignore[no-untyped-call]


class _Patient:
    """A channel whose calls show a ticket and wait for a connection."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def unary_unary(self, *what: Any, **options: Any) -> Any:
        call = self._channel.unary_unary(*what, **options)

        def start(request: Any, timeout: float = 60.0) -> Any:
            return call(request, metadata=TICKET, wait_for_ready=True, timeout=timeout)

        return start
