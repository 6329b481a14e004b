"""`minicloud instance connect | exec | cp | logs | console | port-forward`: into a guest."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from minicloud.base.errors import CloudError, IncorrectState
from minicloud.cli import options
from minicloud.cli.output import show_one, size, write_json_line, write_line
from minicloud.cli.session import Noun, Session, verb
from minicloud.cli.trouble import show_error

if TYPE_CHECKING:
    from minicloud.client import AsyncClient
    from minicloud.client.guest import AsyncExecSession

_READ_BYTES = 64 * 1024


def add_to(group: click.Group) -> None:
    """These verbs belong to `instance`."""
    for command in _VERBS.commands.values():
        group.add_command(command)


@click.group(cls=Noun)
def _VERBS() -> None:
    """Holds the verbs until `add_to`."""


@verb(_VERBS, "connect")
@click.argument("instance_id")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--user", default="", help="Who runs it (default: root).")
def connect(session: Session, instance_id: str, command: tuple[str, ...], user: str) -> int:
    """An interactive terminal; the exit code is the shell's. Enter ~ . leaves it."""
    from minicloud.cli import terminal

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("connect needs a terminal; `minicloud instance exec` does not")

    async def work(client: AsyncClient) -> int:
        return await terminal.attach(client, instance_id, command, user)

    return _run(session, work)


@verb(_VERBS, "exec")
@click.argument("instance_id")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--env", "-e", metavar="KEY=VALUE", multiple=True, callback=options.parse_pairs, help="A variable of the command."
)
@click.option("--cwd", default="", help="Working directory in the guest.")
@click.option("--user", default="", help="Who runs it (default: root).")
@click.option("--interactive", "-i", is_flag=True, help="Pass on a keyboard as standard input; a pipe always is.")
def exec_(session: Session, instance_id: str, command: tuple[str, ...], interactive: bool, **how: Any) -> int:
    """Run a command; stdout, stderr, stdin and exit code are its own. JSON: an object with what it wrote."""
    if session.json:
        return _exec_json(session, instance_id, command, how)

    async def work(client: AsyncClient) -> int:
        running = await client.instances.open_exec(instance_id, command, **how)
        try:
            return await _stream(running, interactive or not sys.stdin.isatty())
        finally:
            await running.close()

    return _run(session, work)


def _exec_json(session: Session, instance_id: str, command: tuple[str, ...], how: Any) -> int:
    stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    result = session.client.instances.exec(instance_id, command, stdin=stdin, **how)
    write_json_line(result)
    return result.exit_code


async def _stream(running: AsyncExecSession, with_stdin: bool) -> int:
    feeder = threading.Thread(
        target=_feed, args=(running, asyncio.get_running_loop(), with_stdin), name="stdin", daemon=True
    )
    feeder.start()  # a daemon thread: a read of a keyboard cannot be interrupted, and must not hold up the exit
    async for chunk in running.output():
        out = sys.stderr.buffer if chunk.stream == "stderr" else sys.stdout.buffer
        await asyncio.to_thread(_write_all, out, chunk.data)
    if running.error:
        show_error(IncorrectState(running.error, code="CommandNotStarted"))
    return running.exit_code if running.exit_code is not None else 1


def _feed(running: AsyncExecSession, loop: asyncio.AbstractEventLoop, with_stdin: bool) -> None:
    def wait(work: Coroutine[Any, Any, None]) -> None:
        try:
            done = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise
        done.result()

    try:
        while with_stdin and (data := os.read(0, _READ_BYTES)):
            wait(running.write(data))
        wait(running.close_stdin())
    except (CloudError, RuntimeError, asyncio.CancelledError, OSError):
        return  # it ended without reading its input, or we are on our way out


def _write_all(out: Any, data: bytes) -> None:
    out.write(data)
    out.flush()


@verb(_VERBS, "cp")
@click.argument("source")
@click.argument("target")
def cp(session: Session, source: str, target: str) -> int:
    """Copy files or directories: LOCAL ID:/PATH, or ID:/PATH LOCAL."""
    there, here = _split(source), _split(target)
    if bool(there) == bool(here):
        raise click.UsageError("one side is a local path, the other ID:/PATH")
    if here:
        result = session.client.instances.upload(here[0], source, here[1])
    else:
        assert there is not None
        result = session.client.instances.download(there[0], there[1], target)
    for line in result.skipped:
        sys.stderr.write(f"warning: left out {line}\n")
    if session.json:
        show_one(session, result)
    else:
        write_line(f"{result.files} file{'' if result.files == 1 else 's'}, {size(result.bytes)}")
    return int(bool(result.skipped))


def _split(text: str) -> tuple[str, str] | None:
    """('i-...', '/path'); None: a local path, which a './' in front makes of anything."""
    instance_id, colon, path = text.partition(":")
    return (instance_id, path) if colon and instance_id.startswith("i-") and "/" not in instance_id else None


@verb(_VERBS, "logs")
@click.argument("instance_id")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--tail-bytes", type=click.IntRange(min=0), default=0, help="Only so much of the end.")
def logs(session: Session, instance_id: str, follow: bool, tail_bytes: int) -> None:
    """The console log, straight from the host: boot, user data, whatever the guest writes to its console."""
    for data in session.client.instances.logs(instance_id, follow=follow, tail_bytes=tail_bytes):
        if session.json:
            write_json_line({"data": data})
        else:
            _write_all(sys.stdout.buffer, data)


@verb(_VERBS, "console")
@click.argument("instance_id")
def console(session: Session, instance_id: str) -> None:
    """The last 64 KiB of the console log, kept for instances that have ended too."""
    found = session.client.instances.console(instance_id)
    if session.json:
        show_one(session, found)
    else:
        _write_all(sys.stdout.buffer, found.output)


@verb(_VERBS, "port-forward")
@click.argument("instance_id")
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
def port_forward(session: Session, instance_id: str, ports: tuple[str, ...]) -> int:
    """Listen on 127.0.0.1 and carry connections to ports of the guest, until Ctrl-C. LOCAL 0: a free port."""
    pairs = [_ports(text) for text in ports]

    async def work(client: AsyncClient) -> int:
        for local, remote in pairs:
            open_ = await client.instances.forward(instance_id, remote, local_port=local, on_error=_tell)
            story = {"instance_id": instance_id, "local_port": open_.local_port, "remote_port": remote}
            if session.json:
                write_json_line(story)
            else:
                write_line(f"127.0.0.1:{open_.local_port} -> {instance_id}:{remote}")
        await asyncio.Event().wait()
        return 0

    return _run(session, work)


def _ports(text: str) -> tuple[int, int]:
    local, colon, remote = text.rpartition(":")
    try:
        pair = (int(local) if colon else int(remote), int(remote))
    except ValueError:
        pair = (-1, -1)
    if not (0 <= pair[0] <= 65535 and 1 <= pair[1] <= 65535):
        raise click.UsageError(f"{text!r} is not [LOCAL:]REMOTE, two ports")
    return pair


def _tell(error: CloudError) -> None:
    sys.stderr.write(f"connection failed: {error}\n")


def _run(session: Session, work: Any) -> int:
    from minicloud.client.transport import hold_grpc

    async def with_client() -> int:
        hold_grpc()
        async with session.async_client() as client:
            code: int = await work(client)
            return code

    try:
        return asyncio.run(with_client())
    except asyncio.CancelledError:  # SIGTERM or SIGHUP, turned into an ordinary ending
        return 143
