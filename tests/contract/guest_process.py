"""A guest's init as an ordinary process of this machine, as the `process` driver runs it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import minicloud_workers

from minicloud.host.guest import Command, ExecSession, Exit, Guest, Output
from minicloud.host.notify import Notify

LIBRARY = Path(minicloud_workers.__file__).parent.parent
START = f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); from minicloud_workers.init import main; main()"
PYTHON = os.path.realpath(sys.executable)
INSTANCE = "i-0123456789abcdef0"


# Shells lose a signal that comes just before they wait; these programs wait for signals that they have blocked before.
TELL_SIZES = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
print(*os.get_terminal_size(), "ready", flush=True)
while True:
    signal.sigwait([signal.SIGWINCH])
    print(*os.get_terminal_size(), flush=True)
"""
SAY_BYE = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("up", flush=True)
signal.sigwait([signal.SIGTERM])
open(sys.argv[1], "w").write("bye")
"""


class GuestProcess:
    """`folder` holds control/, root/ and console.log."""

    def __init__(self, folder: Path, boot: dict[str, Any]) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.control = folder / "control"
        self.console = folder / "console.log"
        for directory in (self.root, self.control):
            directory.mkdir(exist_ok=True)
        document = {
            "instance_id": INSTANCE,
            "hostname": "guest",
            "isolated": False,
            "root": str(self.root),
            "addresses": ["127.0.0.1"],
            "env": {},
            "public_key": "",
            "user_data": None,
            **boot,
        }
        (self.control / "boot.json").write_text(json.dumps(document))
        self.guest = Guest(self.control / "init.sock")

    async def start(self) -> None:
        with self.console.open("ab") as console:
            self.process = subprocess.Popen(  # noqa: ASYNC220 nothing else runs in this loop
                [PYTHON, "-I", "-S", "-c", START],
                env={"MINICLOUD_CONTROL_DIR": str(self.control), "PATH": os.environ["PATH"]},
                stdout=console,
                stderr=console,
                stdin=subprocess.DEVNULL,
            )
        notify = Notify()
        try:
            await self.guest.wait_ready(notify, 60)
        finally:
            notify.close()

    async def ended(self, seconds: float = 60) -> int:
        """The exit code of init."""
        return await asyncio.to_thread(self.process.wait, seconds)

    async def user_data(self) -> tuple[str, int]:
        """State and exit code once user data is through."""
        async with asyncio.timeout(60):
            async for status in self.guest.watch():
                if status.user_data_state in ("done", "failed"):
                    return status.user_data_state, status.user_data_exit
        raise AssertionError("the guest ended")

    def log(self) -> str:
        return self.console.read_text(errors="replace")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@asynccontextmanager
async def running(folder: Path, **boot: Any) -> AsyncIterator[GuestProcess]:
    """A guest that is up; shut down at the end, so that nothing of it stays."""
    one = GuestProcess(folder, boot)
    await one.start()
    try:
        yield one
        if one.process.poll() is None:
            await one.guest.shutdown(0.0)
            assert await one.ended() == 0
    finally:
        one.kill()


class Result:
    """All that a command wrote, and its end."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        self.exit = Exit(-1)

    def add(self, event: Output | Exit) -> None:
        if isinstance(event, Exit):
            self.exit = event
        elif event.stream == "stdout":
            self.stdout += event.data
        else:
            self.stderr += event.data


async def run(guest: Guest, *argv: str, stdin: bytes = b"", **options: Any) -> Result:
    """A command from start to end."""
    result = Result()
    async with asyncio.timeout(60), await guest.exec(Command(argv, **options)) as session:
        feeding = asyncio.ensure_future(_feed(session, stdin))
        async for event in session:
            result.add(event)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    return result


async def _feed(session: Any, stdin: bytes) -> None:
    await session.write(stdin)
    await session.end_input()


async def until(session: ExecSession, text: bytes, seconds: float = 60) -> bytes:
    """Output up to where `text` came."""
    got = b""
    async with asyncio.timeout(seconds):
        async for event in session:
            assert isinstance(event, Output), f"ended with {event} after {got!r}"
            got += event.data
            if text in got:
                return got
    raise AssertionError(got)


async def ending(session: ExecSession, seconds: float = 60) -> Exit:
    async with asyncio.timeout(seconds):
        async for event in session:
            if isinstance(event, Exit):
                return event
    raise AssertionError("no exit")


def gone(pid: int, seconds: float = 60) -> bool:
    """Whether the process ends within that time; waits on the kernel."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)
