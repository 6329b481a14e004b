"""What a guest prints, from the pipe that is its stdout and stderr: cut into lines, given to the logs, the end kept.

A guest that prints faster than LOG_BYTES_PER_S_MAX is not read for the rest of the second: the pipe fills and it waits.
What it leaves in the pipe when it dies is read to the end, as far as one pipe holds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from minicloud.environment.limits import LINE_BYTES_MAX, LOG_BYTES_PER_S_MAX, LOG_LINE_COST_BYTES
from minicloud.function.limits import TAIL_BYTES_MAX

READ_BYTES = 64 * 1024


class LogPipe:
    """`sink` takes lines with the time they were read at. `fd` becomes ours. `keeps`: which lines of the guest."""

    def __init__(
        self, fd: int, sink: Callable[[list[tuple[float, str]]], None], keeps: Callable[[bytes], bool] | None = None
    ) -> None:
        self._fd = fd
        self._sink = sink
        self._keeps = keeps
        self._loop = asyncio.get_running_loop()
        self._partial = b""
        self._tail = bytearray()
        self._second = 0
        self._this_second = 0
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def begin(self, lines: list[str]) -> None:
        """A new invocation: the tail begins with these, and has what the guest said since the last one ended."""
        self._cut()
        self._tail.clear()
        self.write(lines)

    def write(self, lines: list[str]) -> None:
        """Of our own."""
        if not lines:
            return
        now = time.time()
        self._tail += "".join(f"{line}\n" for line in lines).encode()
        self._sink([(now, line) for line in lines])

    def end(self, lines: list[str]) -> bytes:
        """Everything that was printed before, then these. Returns the tail."""
        self.drain()
        self._cut()
        self.write(lines)
        return bytes(self._tail[-TAIL_BYTES_MAX:])

    def drain(self) -> None:
        """What is in the pipe now."""
        for _ in range(16):
            if self._fd < 0 or not self._read():
                return

    def close(self) -> None:
        if self._fd >= 0:
            self.drain()
        if self._fd >= 0:
            self._close()
        self._cut()

    def _close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _readable(self) -> None:
        self._read()
        now = int(self._loop.time())
        if now != self._second:
            self._second, self._this_second = now, 0
        if self._this_second > LOG_BYTES_PER_S_MAX and self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.call_at(now + 1.0, self._read_again)

    def _read_again(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> bool:
        """False: there is no more for now."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close()
            return False
        self._take(data)
        return len(data) == READ_BYTES

    def _take(self, data: bytes) -> None:
        self._this_second += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._this_second += len(lines) * LOG_LINE_COST_BYTES
        if self._keeps is not None:
            lines = [line for line in lines if self._keeps(line)]
            data = b"".join(line + b"\n" for line in lines)
        self._tail += data
        if len(self._tail) > 4 * TAIL_BYTES_MAX:
            del self._tail[:-TAIL_BYTES_MAX]
        if lines:
            self._say(lines)
        if len(self._partial) > LINE_BYTES_MAX:
            self._cut()

    def _cut(self) -> None:
        """A line that has no end yet is one all the same."""
        if self._partial:
            line, self._partial = self._partial, b""
            if self._keeps is not None:
                if not self._keeps(line):
                    return
                self._tail += line
            if not self._tail.endswith(b"\n"):
                self._tail += b"\n"
            self._say([line])

    def _say(self, lines: list[bytes]) -> None:
        now = time.time()
        self._sink([(now, line[:LINE_BYTES_MAX].decode("utf-8", "replace").replace("\r", "\n")) for line in lines])
