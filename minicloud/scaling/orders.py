"""What is to be done in the world, derived from the records of a member, never stored.

Doing an order twice is harmless: a launch carries a client token, everything else an id. So after a crash, or when an
answer was lost, the orders of every member that is not plain are carried out again, until a report changes the member.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minicloud.scaling.lifecycle import ENDING, READY
from minicloud.scaling.model import Group, Member


@dataclass(frozen=True, slots=True)
class Launch:
    """`template` and `version` are those of a launch template, `type` "" the template's own."""

    group: str
    number: int
    token: str
    zone: str
    type: str
    template: str
    version: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    instance_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    instance_id: str


@dataclass(frozen=True, slots=True)
class Terminate:
    instance_id: str


@dataclass(frozen=True, slots=True)
class Register:
    instance_id: str
    target_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deregister:
    """Answered by Drained once every target group has let go of it. `release`: it goes on without the group, and must
    not carry its name any more by then."""

    instance_id: str
    target_groups: tuple[str, ...]
    release: bool = False


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell a hook's target (a topic or a queue) that an instance waits. Answered by HookTold."""

    instance_id: str
    hook: str
    token: str


Order = Launch | Start | Stop | Terminate | Register | Deregister | Notify


def orders(group: Group, member: Member) -> list[Order]:
    """What this member needs now."""
    if not member.instance_id:
        tags = {key: value for key, value in group.tags.items() if key not in group.local_tags}
        launch = Launch(
            group.key, member.number, member.token, member.zone, member.type, member.template, member.version, tags
        )
        return [launch]
    if member.state in ENDING:
        return [Terminate(member.instance_id)]
    aside = member.state == "Standby" or (member.state in READY and group.target_groups)
    if member.drains or aside:  # it may be aside because balancers were not waited for any longer
        left = member.state == "Detaching"
        return [Deregister(member.instance_id, (*group.target_groups, *group.leaving), release=left)]
    if member.state.endswith(":Wait"):
        waits = [(hook, wait) for hook, wait in sorted((member.waits or {}).items()) if not wait.get("told")]
        targets = {name: hook["target"] for name, hook in group.hooks.items()}
        return [Notify(member.instance_id, hook, wait["token"]) for hook, wait in waits if targets.get(hook)]
    if member.state == "Pending" and member.starting:
        return [Start(member.instance_id)]
    if _is_to_stop(group, member):
        return [Stop(member.instance_id)]
    if member.state == "InService" and group.target_groups and "AddToLoadBalancer" not in group.suspended:
        return [Register(member.instance_id, tuple(group.target_groups))]
    return []


def _is_to_stop(group: Group, member: Member) -> bool:
    stops = (group.warm or {}).get("state") == "Stopped"
    return stops and member.state == "Warmed:Pending:Proceed"
