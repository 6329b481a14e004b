"""The functions process's end of a zygote (sandbox/zygote.py): orders out, news in, and starting one when it is needed.

A zygote that dies takes its environments along; everybody that waited for one of them hears of it at once, and the next
order starts another zygote.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import minicloud
from minicloud.base.errors import Unavailable
from minicloud.environment.limits import SETUP_S_MAX
from minicloud.sandbox.zygote import FDS_MAX, PACKET_BYTES_MAX

log = logging.getLogger("minicloud.environment")

News = Callable[[dict[str, Any], list[socket.socket]], None]


class Zygote:
    """One, of one interpreter. All calls on the event loop's thread: it ends with the thread that started it."""

    def __init__(self, python: str, workers: Path, config: dict[str, Any]) -> None:
        self._python = python
        self._library = str(workers.parent)
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: asyncio.Future[None] | None = None
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._listeners: dict[str, News] = {}
        self.isolated = False
        self.why = ""

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Returns when it takes orders. Raises Unavailable."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"no zygote of {self._python}: {error}") from None
        finally:
            if starting.done() and (starting.cancelled() or starting.exception() is not None):
                self._starting = None

    def make(self, order: dict[str, Any], fds: dict[str, int], news: News) -> None:
        """`news` hears of the environment until it has ended. The descriptors are copied before this returns.

        Raises Unavailable, OSError.
        """
        if self._line is None:
            raise Unavailable("the zygote is gone")
        passed: list[int] = []
        try:
            passed.append(_file(json.dumps(order).encode()))
            passed.extend(os.dup(fd) for fd in fds.values())
        except BaseException:
            _close(passed)
            raise
        self._listeners[order["id"]] = news
        packet = json.dumps({"op": "make", "id": order["id"], "fds": ["order", *fds]}).encode()
        self._send(packet, passed)

    def kill(self, name: str) -> None:
        """Idempotent. `exited` follows, if it was there."""
        if self._line is not None:
            self._send(json.dumps({"op": "kill", "id": name}).encode(), [])

    async def close(self) -> None:
        """Returns when no process of it is left."""
        self._gone()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.to_thread(process.wait)

    # ------------------------------------------------------------ the process

    async def _start(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(Path(minicloud.__file__).parents[1])!r}); "
            f"from minicloud.sandbox.zygote import main; main({self._library!r})"
        )
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - 2 ms, and on this very thread
                [self._python, "-I", "-S", "-c", code],
                stdin=theirs.fileno(),
                env={"LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        mine.setblocking(False)
        try:
            await self._loop.sock_sendall(mine, json.dumps(self._config).encode())
            async with asyncio.timeout(SETUP_S_MAX):
                said = json.loads(await self._loop.sock_recv(mine, PACKET_BYTES_MAX) or b"{}")
            if said.get("op") != "ready":
                raise ConnectionError("it ended before it was ready")
        except BaseException:
            mine.close()
            self._process.kill()
            raise
        self.isolated, self.why = bool(said["isolated"]), str(said["why"])
        self._line = mine
        self._loop.add_reader(mine.fileno(), self._readable)
        log.info("zygote %d of %s, isolated: %s %s", self._process.pid, self._python, self.isolated, self.why)

    def _gone(self) -> None:
        if self._line is None:
            return
        self._loop.remove_reader(self._line.fileno())
        self._loop.remove_writer(self._line.fileno())
        self._line.close()
        self._line = self._starting = None
        for _, fds in self._unsent:
            _close(fds)
        self._unsent.clear()
        listeners, self._listeners = self._listeners, {}
        for name, news in listeners.items():
            news({"op": "exited", "id": name, "status": 128 + signal.SIGKILL}, [])

    # ------------------------------------------------------------ the line

    def _send(self, packet: bytes, fds: list[int]) -> None:
        assert self._line is not None
        self._unsent.append((packet, fds))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        line = self._line
        if line is None:
            return
        while self._unsent:
            packet, fds = self._unsent[0]
            try:
                socket.send_fds(line, [packet], fds)
            except BlockingIOError:
                self._loop.add_writer(line.fileno(), self._flush)
                return
            except OSError:
                self._gone()
                return
            self._unsent.popleft()
            _close(fds)
        self._loop.remove_writer(line.fileno())

    def _readable(self) -> None:
        while self._line is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._line, PACKET_BYTES_MAX, FDS_MAX)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                log.error("zygote %d is gone", self.pid)
                if self._process is not None:
                    self._process.poll()
                self._gone()
                return
            self._heard(json.loads(data), fds)

    def _heard(self, words: dict[str, Any], fds: Sequence[int]) -> None:
        listeners = [socket.socket(fileno=fd) for fd in fds]
        name = words["id"]
        news = self._listeners.get(name)
        if words["op"] == "exited":
            self._listeners.pop(name, None)
        if news is not None:
            news(words, listeners)
        else:
            for listener in listeners:
                listener.close()


def _file(content: bytes) -> int:
    """In memory."""
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
