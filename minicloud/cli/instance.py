"""`minicloud instance`: launch, describe, change, end. What goes into a guest is in `guest.py`."""

from __future__ import annotations

import sys
from typing import Any

import click

from minicloud.cli import guest, options
from minicloud.cli.output import Columns, shape, show_list, show_one, show_tags, write_json_line, write_line
from minicloud.cli.progress import Progress
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.models import Instance

COLUMNS: Columns = (
    ("ID", lambda i: i.id),
    ("NAME", lambda i: i.name),
    ("TYPE", lambda i: i.type),
    ("STATE", lambda i: i.state),
    ("HOST", lambda i: i.host_name),
    ("ZONE", lambda i: i.zone),
    ("ADDRESS", lambda i: i.private_ip),
    ("SHAPE", lambda i: shape(i.shape)),
    ("LAUNCHED", lambda i: i.launch_time),
    ("REASON", lambda i: i.state_reason.code if i.state_reason else None),
)
CHANGE_COLUMNS: Columns = (
    ("ID", lambda c: c.instance_id),
    ("WAS", lambda c: c.previous_state),
    ("IS", lambda c: c.current_state),
)
WAIT = click.option("--wait", is_flag=True, help="Return when it is done; shows progress.")
TIMEOUT = click.option("--timeout", type=float, default=300.0, show_default=True, help="Seconds for --wait.")
IDS = click.argument("instance_ids", nargs=-1, required=True, metavar="ID...")


@click.group(cls=Noun)
def instance() -> None:
    """Virtual servers: launch, use, change, end."""


@verb(instance, "launch")
@click.argument("type", default="", required=False, metavar="[TYPE]")
@click.option("--type", "-t", "type_option", default="", help="The same as TYPE.")
@click.option("--image", default="", help="An image's id or name (default: base).")
@click.option("--count", type=int, help="Exactly so many.")
@click.option("--min-count", type=int, help="At least so many; else none is launched.")
@click.option("--max-count", type=int, help="As many as there is room for, up to this.")
@options.user_data
@click.option("--key", "key_name", help="A key pair.")
@options.tags
@click.option("--name", help="Short for --tag Name=...")
@click.option("--zone", help="Only in this zone.")
@click.option("--host", "host_id", help="A host's id.")
@click.option("--group", "group_name", help="A placement group.")
@click.option("--security-group", "security_groups", multiple=True, help="An id or a name; several times.")
@click.option("--partition", type=int, help="Of a partition group, 1 to 7.")
@click.option(
    "--strategy", type=click.Choice(["binpack", "spread"]), help="Fill hosts one by one, or spread over them."
)
@click.option("--termination-protection", is_flag=True, default=None, help="Refuse to terminate it.")
@click.option("--http-tokens", type=click.Choice(["optional", "required"]), help="Of the metadata service.")
@click.option("--http-endpoint", type=click.Choice(["enabled", "disabled"]), help="The metadata service.")
@click.option(
    "--shutdown-behavior",
    type=click.Choice(["stop", "terminate"]),
    help="What it becomes when it shuts down from inside.",
)
@click.option("--cpu-credits", type=click.Choice(["standard", "unlimited"]), help="Of burstable types.")
@click.option("--monitoring", is_flag=True, default=None, help="Detailed: metrics every 10 s.")
@click.option("--template", help="A launch template's id or name.")
@click.option("--template-version", help="A number, $Default or $Latest.")
@click.option("--client-token", help="Makes the launch safe to repeat.")
@click.option("--dry-run", is_flag=True, default=None, help="All checks, nothing created.")
@WAIT
@TIMEOUT
def launch(session: Session, type: str, image: str, wait: bool, timeout: float, **given: Any) -> int:
    """Launch instances of a TYPE, such as t3.micro."""
    named = given.pop("type_option")
    if type and named and type != named:
        raise click.UsageError("TYPE and --type are the same thing; two were given")
    type = type or named
    if not type and not given["template"]:
        raise click.UsageError("a TYPE or a --template is needed; `minicloud type list --fits` shows types")
    launched = session.client.instances.launch(type, image, **_launch_options(given))
    if not wait:
        _show_launched(session, launched, bool(given["dry_run"]))
        return 0
    ids = [item.id for item in launched]
    try:
        ready = _follow(session, ids, timeout)
    except KeyboardInterrupt:
        sys.stderr.write(_goes_on(ids))
        raise
    _show_launched(session, ready, bool(given["dry_run"]))
    return int(any(item.user_data_status == "failed" for item in ready))


def _goes_on(ids: list[str]) -> str:
    """For who stops waiting: that ends nothing."""
    look = f"`minicloud instance show {ids[0]}`" if len(ids) == 1 else "`minicloud instance list`"
    end = f"`minicloud instance terminate {' '.join(ids)}`"
    return f"{' '.join(ids)} launched all the same; look with {look}, end with {end}\n"


def _launch_options(given: dict[str, Any]) -> Any:
    text = options.read_user_data(given.pop("user_data"), given.pop("user_data_file"))
    name = given.pop("name")
    tags = {**({"Name": name} if name else {}), **given.pop("tags")}
    chosen = {key: value for key, value in given.items() if value is not None}
    return {**chosen, "tags": tags, **({} if text is None else {"user_data": text})}


def _show_launched(session: Session, items: tuple[Instance, ...], dry_run: bool) -> None:
    if dry_run and not session.json:
        write_line("all checks passed; nothing was created")
    else:
        show_list(session, items, COLUMNS)


def _follow(session: Session, ids: list[str], timeout: float) -> tuple[Instance, ...]:
    """Shows each change on the way: pending, running, user data."""
    told: dict[str, str] = {}
    with Progress(f"launching {len(ids)} instance{'s' if len(ids) > 1 else ''}") as progress:

        def tell(item: Instance) -> None:
            if told.get(item.id) != (story := _story(item)):
                told[item.id] = story
                progress.step(f"{item.id} {story}")

        return session.client.instances.wait_ready(ids, timeout, tell)


def _story(item: Instance) -> str:
    """Where a launch is: a state, where, and how the user data is doing."""
    parts = [item.state]
    if item.state == "running":
        parts.append(f"on {item.host_name or item.host_id}, {item.private_ip or 'no address'}")
        if item.user_data_status not in ("", "none"):
            exit_code = f", exit {item.user_data_exit}" if item.user_data_status == "failed" else ""
            parts.append(f"user data {item.user_data_status}{exit_code}")
    elif item.state != "pending" and item.state_reason and item.state_reason.code:
        parts.append(f"({item.state_reason.code}: {item.state_reason.message})")
    return " ".join(parts)


@verb(instance, "list")
@click.argument("instance_ids", nargs=-1, metavar="[ID]...")
@click.option("--filter", "-f", "filters", metavar="NAME=VALUE", multiple=True, help="EC2's names; * and ? match.")
@click.option("--state", multiple=True, help="Short for --filter instance-state-name=...")
@click.option("--all", "-a", "everything", is_flag=True, help="Terminated ones too.")
def list_instances(
    session: Session, instance_ids: tuple[str, ...], filters: tuple[str, ...], state: tuple[str, ...], everything: bool
) -> None:
    """Instances of this account and region; terminated ones only when asked for."""
    asked = _filters([*filters, *(f"instance-state-name={name}" for name in state)])
    shown = [
        item
        for item in session.client.instances.list(instance_ids, filters=asked)
        if everything or asked or instance_ids or item.state != "terminated"
    ]
    show_list(session, shown, COLUMNS)


def _filters(texts: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{text!r} is not NAME=VALUE")
        found.setdefault(name, []).append(value)
    return found


@verb(instance, "show")
@click.argument("instance_id")
def show(session: Session, instance_id: str) -> None:
    """Everything about one instance, with how it is isolated."""
    show_one(session, session.client.instances.get(instance_id))


@verb(instance, "start")
@IDS
@WAIT
@TIMEOUT
def start(session: Session, instance_ids: tuple[str, ...], wait: bool, timeout: float) -> None:
    """Start stopped instances."""
    changes = session.client.instances.start(*instance_ids)
    if wait:
        show_list(session, _until(session, instance_ids, "running", timeout), COLUMNS)
    else:
        show_list(session, changes, CHANGE_COLUMNS)


@verb(instance, "stop")
@IDS
@click.option("--force", is_flag=True, help="No grace: the guest is killed.")
@WAIT
@TIMEOUT
def stop(session: Session, instance_ids: tuple[str, ...], force: bool, wait: bool, timeout: float) -> None:
    """Stop instances; their disks stay."""
    changes = session.client.instances.stop(*instance_ids, force=force)
    if wait:
        show_list(session, _until(session, instance_ids, "stopped", timeout), COLUMNS)
    else:
        show_list(session, changes, CHANGE_COLUMNS)


@verb(instance, "reboot")
@IDS
def reboot(session: Session, instance_ids: tuple[str, ...]) -> None:
    """Restart the guests in place."""
    show_list(session, session.client.instances.reboot(*instance_ids), CHANGE_COLUMNS)


@verb(instance, "terminate")
@IDS
@WAIT
@TIMEOUT
def terminate(session: Session, instance_ids: tuple[str, ...], wait: bool, timeout: float) -> None:
    """End instances and delete their disks."""
    changes = session.client.instances.terminate(*instance_ids)
    if wait:
        show_list(session, _until(session, instance_ids, "terminated", timeout), COLUMNS)
    else:
        show_list(session, changes, CHANGE_COLUMNS)


def _until(session: Session, ids: tuple[str, ...], state: str, timeout: float) -> tuple[Instance, ...]:
    told: dict[str, str] = {}
    with Progress(f"waiting for {state}") as progress:

        def tell(item: Instance) -> None:
            if told.get(item.id) != item.state:
                told[item.id] = item.state
                progress.step(f"{item.id} {item.state}")

        return session.client.instances.wait_until(ids, state, timeout, tell)


@verb(instance, "modify")
@click.argument("instance_id")
@click.option("--type", help="Only while it is stopped.")
@click.option("--termination-protection/--no-termination-protection", default=None, help="Refuse to terminate it.")
@options.user_data
@click.option(
    "--shutdown-behavior",
    type=click.Choice(["stop", "terminate"]),
    help="What it becomes when it shuts down from inside.",
)
@click.option("--cpu-credits", type=click.Choice(["standard", "unlimited"]), help="Of burstable types.")
@click.option("--monitoring/--no-monitoring", default=None, help="Detailed: metrics every 10 s.")
@click.option("--http-tokens", type=click.Choice(["optional", "required"]), help="Of the metadata service.")
@click.option("--http-endpoint", type=click.Choice(["enabled", "disabled"]), help="The metadata service.")
@click.option("--security-group", "security_groups", multiple=True, help="An id or a name; those it has then.")
def modify(session: Session, instance_id: str, **given: Any) -> None:
    """Change an instance: its type, protection, user data, metadata service."""
    text = options.read_user_data(given.pop("user_data"), given.pop("user_data_file"))
    given["user_data"] = text
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    if not chosen:
        raise click.UsageError("nothing to change was named; see --help")
    show_list(session, [session.client.instances.modify(instance_id, **chosen)], COLUMNS)


@verb(instance, "watch")
@IDS
def watch(session: Session, instance_ids: tuple[str, ...]) -> None:
    """The state of instances now and every change, until Ctrl-C; JSON: one object a line."""
    for item in session.client.instances.watch(instance_ids):
        if session.json:
            write_json_line(item)
        else:
            write_line(f"{item.id} {_story(item)}")


@verb(instance, "tag")
@click.argument("resource_id")
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
def tag(session: Session, resource_id: str, tags: dict[str, str]) -> None:
    """Add tags or change their values (instances, images, templates, key pairs)."""
    show_tags(session, session.client.tags.add(resource_id, tags))


@verb(instance, "untag")
@click.argument("resource_id")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, resource_id: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.tags.remove(resource_id, *keys))


guest.add_to(instance)
