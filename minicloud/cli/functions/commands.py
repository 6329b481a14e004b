"""`minicloud function`: deploy, invoke, look at, publish, delete. FUNCTION is a name or ARN, maybe with :QUALIFIER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, cell, memory, say, show_list, show_one, size, write_json, write_line
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.convert import to_data

if TYPE_CHECKING:
    from minicloud.client.function_models import Invoked
    from minicloud.client.functions import FunctionOptions
    from minicloud.client.log_models import LogEvent

COLUMNS: Columns = (
    ("NAME", lambda f: f.name),
    ("VERSION", lambda f: f.version),
    ("RUNTIME", lambda f: f.runtime),
    ("HANDLER", lambda f: f.handler),
    ("MEMORY", lambda f: memory(f.memory_mib)),
    ("TIMEOUT", lambda f: f"{f.timeout_s} s"),
    ("CODE", lambda f: size(f.code_bytes)),
    ("MODIFIED", lambda f: f.modified_time),
)
ALIASES: Columns = (
    ("NAME", lambda a: a.name),
    ("VERSION", lambda a: a.version),
    ("WEIGHTS", lambda a: a.weights),
    ("DESCRIPTION", lambda a: a.description),
)
FUNCTION = click.argument("function")
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_AGAIN_S = 0.5  # between two looks for a log that is not there yet


@click.group(cls=Noun)
def function() -> None:
    """Functions: code that runs when it is called."""


@verb(function, "deploy")
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="DIR|ZIP")
@click.option("--name", help="Else the name of DIR or ZIP.")
@click.option("--handler", help="MODULE.FUNCTION; else by the files that are there.")
@click.option("--runtime", help="python3.11, nodejs20.x, provided.al2023; else by the files that are there.")
@click.option("--memory", "memory_mib", type=int, help="MiB.")
@click.option("--timeout", "timeout_s", type=int, help="Seconds.")
@click.option("--ephemeral", "ephemeral_mib", type=int, help="MiB of /tmp.")
@click.option(
    "--env",
    "environment",
    metavar="NAME=VALUE",
    multiple=True,
    callback=options.parse_pairs,
    help="A variable of the function.",
)
@click.option("--layer", "layers", multiple=True, help="ARN of a layer version; may be given several times.")
@click.option("--description", help="For people.")
@click.option("--dead-letter", "dead_letter_arn", help="ARN of a queue or topic.")
@click.option("--tracing", type=click.Choice(["PassThrough", "Active"]), help="Active begins traces.")
@click.option("--log-format", type=click.Choice(["Text", "JSON"]), help="Levels are JSON's alone.")
@click.option("--log-level", "application_log_level", type=click.Choice(_LEVELS), help="Of its own lines.")
@click.option("--system-log-level", type=click.Choice(_LEVELS[1:4]), help="Of START, REPORT and the like.")
@click.option("--log-group", help="Else /aws/lambda/NAME.")
@click.option("--publish", is_flag=True, help="As a new version.")
def deploy(session: Session, path: Path, name: str | None, publish: bool, **given: Any) -> None:
    """Make a function from a folder or zip, or change the one that is there."""
    from minicloud.client.deploy import deploy, guess, pack_path

    runtime, handler = guess(path)
    chosen: FunctionOptions = {key: value for key, value in given.items() if value not in (None, {}, ())}  # type: ignore[assignment]
    if runtime:
        chosen.setdefault("runtime", runtime)
    if handler:
        chosen.setdefault("handler", handler)
    name = name or path.resolve().name.removesuffix(".zip")
    made = deploy(session.client, name, pack_path(path), **chosen)
    if publish:
        made = session.client.functions.publish(name)
    show_list(session, [made], COLUMNS)


@verb(function, "invoke")
@FUNCTION
@click.argument("payload", default="", metavar="[PAYLOAD | @FILE | -]")
@click.option("--tail", is_flag=True, help="The end of its log, on stderr.")
@click.option("--later", is_flag=True, help="Asynchronously: it is tried until it succeeds, up to three times.")
@click.option("--dry-run", is_flag=True, help="Only check whether it could be invoked.")
@click.option("--stream", is_flag=True, help="Show the answer while it is made.")
@click.option("--wait", "wait_s", type=float, default=900.0, help="Seconds.")
def invoke(session: Session, function: str, payload: str, stream: bool, later: bool, **given: Any) -> int:
    """Run a function and show its answer. PAYLOAD is JSON, from a file with @, from standard input with -.

    Exit code 1 if the function failed.
    """
    raw = _payload(payload)
    if stream:
        for chunk in session.client.functions.invoke_stream(function, raw):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return 0
    if later:
        request_id = session.client.functions.invoke_async(function, raw)
        say(session, {"request_id": request_id}, f"{request_id} is taken")
        return 0
    done = session.client.functions.invoke(function, raw, **given)
    if given["tail"]:
        sys.stderr.write(done.tail.decode(errors="replace"))
    _show(session, done)
    return 1 if done.function_error else 0


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"cannot read {text[1:]}: {error.strerror}") from None
    return text.encode()


def _show(session: Session, done: Invoked) -> None:
    if session.json:
        write_json(to_data(done))
    elif done.status == 200:
        write_line(done.payload.decode(errors="replace"))
        if done.function_error:
            click.echo(f"the function failed ({done.function_error})", err=True)
    else:
        write_line("it could be invoked")


@verb(function, "list")
def list_functions(session: Session) -> None:
    """Functions of this account and region."""
    show_list(session, session.client.functions.list(), COLUMNS)


@verb(function, "show")
@FUNCTION
def show(session: Session, function: str) -> None:
    """Everything about a function, or one of its versions."""
    show_one(session, session.client.functions.get(function))


@verb(function, "logs")
@FUNCTION
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until it is interrupted.")
@click.option("--since", default="1h", show_default=True, callback=options.duration, help="How far back.")
def logs(session: Session, function: str, follow: bool, since: float) -> None:
    """What a function has written."""
    import time

    from minicloud.base.errors import NotFound

    group, start = session.client.functions.get(function).log_group, time.time() - since
    while True:
        read = session.client.logs.tail if follow else session.client.logs.filter
        try:
            for event in read(group, start=start):
                _line(session, event)
            return
        except NotFound:  # its log is made with its first line
            if not follow:
                click.echo(f"{function} has written nothing yet", err=True)
                return
        time.sleep(_AGAIN_S)


def _line(session: Session, event: LogEvent) -> None:
    from minicloud.cli.output import write_json_line

    if session.json:
        write_json_line(event)
    else:
        write_line(event.message.rstrip("\n"))


@verb(function, "versions")
@FUNCTION
@click.option("--publish", is_flag=True, help="Make one of $LATEST first.")
def versions(session: Session, function: str, publish: bool) -> None:
    """Versions of a function."""
    if publish:
        session.client.functions.publish(function)
    show_list(session, session.client.functions.versions(function), COLUMNS)


@verb(function, "alias")
@FUNCTION
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option(
    "--weight",
    "weights",
    metavar="VERSION=SHARE",
    multiple=True,
    callback=options.parse_pairs,
    help="Share, 0 to 1, of invocations for another version.",
)
@click.option("--delete", "end", is_flag=True, help="Delete the alias.")
def alias(
    session: Session, function: str, name: str | None, version: str | None, weights: dict[str, str], end: bool
) -> None:
    """Aliases of a function; with NAME and VERSION, make or move one."""
    from minicloud.base.errors import AlreadyExists

    functions = session.client.functions
    if name is None:
        show_list(session, functions.aliases(function), ALIASES)
        return
    if end:
        functions.delete_alias(function, name)
        say(session, {"deleted": name}, f"{name} is deleted")
        return
    if version is None:
        raise click.UsageError("VERSION is needed: which one does the alias stand for?")
    shares = _shares(weights)
    try:
        made = functions.create_alias(function, name, version, weights=shares)
    except AlreadyExists:
        made = functions.update_alias(function, name, version=version, weights=shares)
    show_list(session, [made], ALIASES)


def _shares(weights: dict[str, str]) -> dict[str, float]:
    try:
        return {version: float(share) for version, share in weights.items()}
    except ValueError:
        raise click.UsageError(f"a share is a number from 0 to 1: {cell(weights)}") from None


@verb(function, "delete")
@FUNCTION
def delete(session: Session, function: str) -> None:
    """Delete a function with all that hangs on it; with :VERSION, that version."""
    session.client.functions.delete(function)
    say(session, {"deleted": function}, f"{function} is deleted")
