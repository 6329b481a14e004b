"""`minicloud group hook ...` and `minicloud group warm-pool ...`: what instances wait for, and where they wait."""

from __future__ import annotations

from typing import Any

import click

from minicloud.cli import options
from minicloud.cli.groups.noun import COLUMNS, NAME, group
from minicloud.cli.output import Columns, say, show_list, show_one
from minicloud.cli.session import Session, verb

HOOKS: Columns = (
    ("NAME", lambda h: h.name),
    ("TRANSITION", lambda h: h.transition),
    ("TIMEOUT", lambda h: f"{h.timeout_s} s"),
    ("DEFAULT", lambda h: h.default_result),
    ("TARGET", lambda h: h.target),
)
HOOK = click.argument("hook")
WHO = click.argument("who", metavar="INSTANCE|TOKEN")


@group.group(name="hook")
def hook() -> None:
    """Lifecycle hooks: instances wait until they are told to go on."""


@verb(hook, "put")
@NAME
@HOOK
@click.argument("transition", required=False, type=click.Choice(["launching", "terminating"]))
@click.option("--timeout", "timeout_s", callback=options.seconds, help="After it the default is done (1h).")
@click.option("--default", "default_result", type=click.Choice(["CONTINUE", "ABANDON"]), help="ABANDON at first.")
@click.option("--target", help="ARN of a topic or queue that is told.")
@click.option("--metadata", help="Is told with it.")
def put(session: Session, name: str, hook: str, transition: str | None, **given: Any) -> None:
    """Make a hook, or change what is given."""
    changed = session.client.groups.put_hook(name, hook, transition, **given)
    show_list(session, changed.hooks, HOOKS)


@verb(hook, "list")
@NAME
def list_hooks(session: Session, name: str) -> None:
    """Hooks of a group."""
    show_list(session, session.client.groups.get(name).hooks, HOOKS)


@verb(hook, "delete")
@NAME
@HOOK
def delete(session: Session, name: str, hook: str) -> None:
    """Delete a hook; what waits for it is abandoned."""
    show_list(session, session.client.groups.delete_hook(name, hook).hooks, HOOKS)


@verb(hook, "complete")
@NAME
@HOOK
@WHO
@click.option("--abandon", is_flag=True, help="Not to go on: a launch is ended.")
def complete(session: Session, name: str, hook: str, who: str, abandon: bool) -> None:
    """Tell an instance that waits to go on."""
    result = "ABANDON" if abandon else "CONTINUE"
    session.client.groups.complete_action(name, hook, result, **_who(who))
    say(session, {"completed": who, "result": result}, f"{who}: {result}")


@verb(hook, "heartbeat")
@NAME
@HOOK
@WHO
def heartbeat(session: Session, name: str, hook: str, who: str) -> None:
    """Renew the time that an instance waits."""
    session.client.groups.heartbeat(name, hook, **_who(who))
    say(session, {"renewed": who}, f"{who}: its time begins anew")


def _who(text: str) -> dict[str, str]:
    return {"instance_id": text} if text.startswith("i-") else {"token": text}


@group.group(name="warm-pool")
def warm_pool() -> None:
    """Warm pools: instances that have booted ahead."""


@verb(warm_pool, "put")
@NAME
@click.option("--min", "min_size", type=int, default=0, show_default=True, help="At least so many in the pool.")
@click.option("--max-prepared", type=int, help="Of group and pool together (the group's maximum).")
@click.option(
    "--state",
    type=click.Choice(["Stopped", "Running"]),
    default="Stopped",
    show_default=True,
    help="What they wait as.",
)
@click.option("--reuse", is_flag=True, help="Instances go back into it at a scale-in, where it has room.")
def put_pool(session: Session, name: str, min_size: int, max_prepared: int | None, state: str, reuse: bool) -> None:
    """Make a pool, or change it as a whole."""
    changed = session.client.groups.put_warm_pool(
        name, min_size=min_size, max_prepared=max_prepared, state=state, reuse_on_scale_in=reuse
    )
    show_one(session, changed.warm_pool)


@verb(warm_pool, "delete")
@NAME
def delete_pool(session: Session, name: str) -> None:
    """Delete a pool, and end the instances in it."""
    show_list(session, [session.client.groups.delete_warm_pool(name)], COLUMNS)
