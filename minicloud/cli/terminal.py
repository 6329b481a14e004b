"""The user's terminal as the screen and keyboard of a guest's.

raw mode        every key goes to the guest, Ctrl-C and Ctrl-Z too; put back however this ends (SIGTERM and SIGHUP
                are turned into ordinary endings for that)
SIGWINCH        the guest's terminal takes the new size
Enter ~ .       leaves, as in ssh: the way out when the guest does not answer
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from minicloud.base.errors import CloudError
from minicloud.client.config import terminal_type

if TYPE_CHECKING:
    from minicloud.client import AsyncClient
    from minicloud.client.guest import AsyncExecSession

_READ_BYTES = 16 * 1024
_LEFT = 255  # the exit code of ssh when the connection, not the shell, ended


class Left(Exception):
    """The user left with Enter ~ ."""


async def attach(client: AsyncClient, instance_id: str, command: Sequence[str], user: str) -> int:
    """Run a terminal session to its end; the shell's exit code. Raises CloudError."""
    size = window()
    session = await client.instances.connect(
        instance_id, command, rows=size.lines, columns=size.columns, user=user, env={"TERM": terminal_type()}
    )
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    with raw_terminal(sys.stdin.fileno()):
        resizes: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(signal.SIGWINCH, _resize, session, resizes)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(ending, task.cancel)
        try:
            return await _carry(session)
        finally:
            for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
            await session.close()


def window() -> os.terminal_size:
    """The terminal's own word, not that of COLUMNS and LINES, which do not follow a resize."""
    size = os.get_terminal_size(sys.stdin.fileno())
    return size if size.lines and size.columns else os.terminal_size((80, 24))


@contextlib.contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Keys as they are pressed. What the terminal was is put back."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class Escape:
    """Finds Enter ~ . in what is typed. `~~` after Enter is one `~`."""

    def __init__(self) -> None:
        self._at_start = True
        self._tilde = False

    def feed(self, data: bytes) -> bytes:
        """What goes to the guest. Raises Left."""
        passed = bytearray()
        for byte in data:
            if self._tilde:
                self._tilde = False
                if byte == ord("."):
                    raise Left
                if byte != ord("~"):
                    passed += b"~"
            elif self._at_start and byte == ord("~"):
                self._tilde = True
                continue
            passed.append(byte)
            self._at_start = byte in b"\r\n"
        return bytes(passed)


async def _carry(session: AsyncExecSession) -> int:
    keys = asyncio.ensure_future(_keyboard(session))
    screen = asyncio.ensure_future(_screen(session))
    try:
        await asyncio.wait((keys, screen), return_when=asyncio.FIRST_COMPLETED)
        if keys.done() and isinstance(keys.exception(), Left):
            return _LEFT
        return await screen  # the keyboard may end first; the guest has the last word
    finally:
        for task in (keys, screen):
            task.cancel()
        await asyncio.gather(keys, screen, return_exceptions=True)


async def _screen(session: AsyncExecSession) -> int:
    async for chunk in session.output():
        _write(chunk.data)
    if session.error:
        _write(f"{session.error}\r\n".encode())
    return session.exit_code if session.exit_code is not None else 1


async def _keyboard(session: AsyncExecSession) -> None:
    escape = Escape()
    with contextlib.suppress(CloudError):  # the session ended while we typed: `_screen` tells how
        while data := await _read(sys.stdin.fileno()):
            if passed := escape.feed(data):
                await session.write(passed)
        await session.close_stdin()


async def _read(descriptor: int) -> bytes:
    """What was typed, waiting for it on the event loop; b'' when the terminal is gone."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""
    finally:
        loop.remove_reader(descriptor)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def _resize(session: AsyncExecSession, running: set[asyncio.Task[None]]) -> None:
    async def tell() -> None:
        size = window()
        with contextlib.suppress(CloudError):
            await session.resize(size.lines, size.columns)

    task = asyncio.ensure_future(tell())
    running.add(task)  # the loop itself keeps only a weak reference
    task.add_done_callback(running.discard)
