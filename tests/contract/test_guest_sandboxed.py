"""The init of a guest as PID 1 of a real sandbox: what only namespaces and control groups can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from minicloud.base.errors import Unavailable
from minicloud.host import boot
from minicloud.host.guest import Command, Guest
from minicloud.host.notify import Notify
from minicloud.sandbox import bwrap
from minicloud.wire.fleet_pb2 import GuestSpec
from tests.contract.guest_process import ending, run, until
from tests.contract.sandbox_bench import GUEST_S_MAX, Bench, bench, isolation_or_skip

NAME = "i-0123456789abcdef0"
FORK_BOMB = "for i in $(seq 300); do sleep 1000 & done; echo full; wait"


@asynccontextmanager
async def sandboxed(folder: Path) -> AsyncIterator[tuple[Guest, Bench]]:
    """A guest of 64 processes and 128 MiB that is up."""
    isolation = isolation_or_skip()
    with bench(isolation, folder) as made:
        layout = bwrap.layout(isolation.python)
        init = boot.init_argv(layout.python, layout.workers)
        spec = made.spec(NAME, *init, env={"MINICLOUD_CONTROL_DIR": layout.control})
        document = boot.boot_document(GuestSpec(instance_id=NAME, hostname="web"), {}, boot.BootPlace("10.0.0.5"))
        boot.write_boot_document(spec.control_dir, document)
        made.start(spec)
        guest, notify = Guest(spec.control_dir / "init.sock"), Notify()
        try:
            await guest.wait_ready(notify, 20)
        finally:
            notify.close()
        yield guest, made


@pytest.mark.root
async def test_init_is_the_first_process_and_orphans_are_its_own(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as (guest, _):
        result = await run(guest, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; (sleep 0.01 &)", tty=True)
        assert b"minicloud_workers.init" in result.stdout, result
        assert (await run(guest, "python3", "-c", "import minicloud_workers as m; print(m.__file__)")).exit.code == 0
        assert b"shutdown" in (await run(guest, "sh", "-c", "command -v shutdown")).stdout


@pytest.mark.root
async def test_a_guest_full_of_processes_answers_and_can_be_emptied(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as (guest, made):
        bomb = await guest.exec(Command(["bash", "-c", FORK_BOMB]))
        async with asyncio.timeout(60):
            while (await guest.ping(10)).processes < 60:
                pass
        refused = await guest.exec(Command(["true"]), 20)
        code = (await ending(refused, 20)).code
        assert code in (0, 126), "it started in a gap, or the refusal is told"
        bomb.close()  # hang-up, and the kill of its group
        async with asyncio.timeout(60):
            while (await guest.ping(10)).processes > 3:
                pass
        assert (await run(guest, "echo", "room again")).stdout == b"room again\n"
        await guest.shutdown(1)
        assert await asyncio.to_thread(made.guests[NAME].wait, GUEST_S_MAX) == 0


@pytest.mark.root
async def test_a_guest_that_asks_for_too_much_memory_keeps_its_init(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as (guest, _):
        eater = "x = bytearray(1 << 20)\nwhile True: x += bytes(8 << 20)"
        try:
            result = await run(guest, "python3", "-c", eater)
        except Unavailable:  # the kernel may choose init: then the guest ends, which its host reads as OutOfMemory
            return
        assert result.exit.code in (1, 137)
        assert (await guest.ping(10)).processes >= 1


@pytest.mark.root
async def test_poweroff_inside_ends_the_guest(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as (guest, made):
        session = await guest.exec(Command(tty=True))
        await until(session, b"#")
        await session.write(b"poweroff\n")
        assert await asyncio.to_thread(made.guests[NAME].wait, 8.0) == 0, "before the grace: shells are hung up"
        session.close()
