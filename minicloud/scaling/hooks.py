"""Lifecycle hooks: an instance that launches or terminates waits until someone says to go on, or time runs out.

After the EC2 Auto Scaling User Guide, "Lifecycle hooks". All hooks of a transition begin together, each with a token of
its own; the instance proceeds when the last has ended. Abandoning a launch ends the instance; abandoning a termination
ends the waiting. A heartbeat renews a hook's timeout, but not beyond 48 hours or 100 timeouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from minicloud.base.errors import CloudError
from minicloud.scaling import limits, moves
from minicloud.scaling.checks import check_name
from minicloud.scaling.commands import DeleteHook, EndWait, HookSpec, PutHook
from minicloud.scaling.errors import invalid, no_such, too_many
from minicloud.scaling.model import Member
from minicloud.scaling.moves import LAUNCHING, TERMINATING
from minicloud.scaling.state import Turn

TRANSITIONS = (LAUNCHING, TERMINATING)
RESULTS = ("CONTINUE", "ABANDON")


# --- the hooks of a group


def put(turn: Turn, command: PutHook) -> None:
    """Raises InvalidParameterValue, LimitExceeded."""
    check_name(command.hook, "hook")
    before = turn.group.hooks.get(command.hook)
    if before is None and len(turn.group.hooks) >= limits.HOOKS_MAX:
        raise too_many("Lifecycle hooks of a group", limits.HOOKS_MAX, "hook")
    start = before or {
        "transition": None, "timeout_s": limits.HOOK_TIMEOUT_S_DEFAULT, "default": "ABANDON", "target": "",
        "metadata": "", "role": "",
    }  # fmt: skip
    given = {name: getattr(command, name) for name in start if getattr(command, name) is not None}
    after = {**start, **given}
    _check(after)
    turn.change(hooks={**turn.group.hooks, command.hook: after})


def checked(given: Mapping[str, HookSpec]) -> dict[str, dict[str, Any]]:
    """The hooks of a new group. Raises InvalidParameterValue, LimitExceeded."""
    if len(given) > limits.HOOKS_MAX:
        raise too_many("Lifecycle hooks of a group", limits.HOOKS_MAX, "hooks")
    found = {check_name(name, "hook"): asdict(spec) for name, spec in given.items()}
    for hook in found.values():
        _check(hook)
    return found


def _check(hook: dict[str, Any]) -> None:
    if hook["transition"] not in TRANSITIONS:
        raise invalid(f"LifecycleTransition must be one of {', '.join(TRANSITIONS)}", "transition")
    if not limits.HOOK_TIMEOUT_S_MIN <= hook["timeout_s"] <= limits.HOOK_TIMEOUT_S_MAX:
        raise invalid(
            f"HeartbeatTimeout must be {limits.HOOK_TIMEOUT_S_MIN} to {limits.HOOK_TIMEOUT_S_MAX}", "timeout_s"
        )
    if hook["default"] not in RESULTS:
        raise invalid("DefaultResult must be CONTINUE or ABANDON", "default")
    if len(hook["metadata"]) > limits.HOOK_METADATA_CHARS_MAX:
        raise invalid(f"NotificationMetadata: at most {limits.HOOK_METADATA_CHARS_MAX} characters", "metadata")


def delete(turn: Turn, command: DeleteHook) -> None:
    """Instances that wait for it are abandoned, as at AWS. Raises NotFound."""
    if command.hook not in turn.group.hooks:
        raise _no_such_hook(command.hook)
    for member in list(turn.members.values()):
        if command.hook in (member.waits or {}):
            moves.end_wait(turn, member, command.hook, "ABANDON", "the lifecycle hook was deleted")
    turn.change(hooks={name: hook for name, hook in turn.group.hooks.items() if name != command.hook})


# --- answers to what waits


def answer(turn: Turn, command: EndWait) -> None:
    """Raises InvalidParameterValue: nothing waits under this token."""
    if command.hook not in turn.group.hooks:
        raise _no_such_hook(command.hook)
    if command.result and command.result not in RESULTS:
        raise invalid("LifecycleActionResult must be CONTINUE or ABANDON", "result")
    for member in list(turn.members.values()):
        wait = (member.waits or {}).get(command.hook)
        named = command.token or command.instance_id
        if wait is None or named not in (wait["token"], member.instance_id):
            continue
        if command.result:
            moves.end_wait(turn, member, command.hook, command.result, "Lifecycle Action was completed")
        else:
            _beat(turn, member, command.hook, wait)
        return
    what = f"token {command.token}" if command.token else f"instance ID {command.instance_id}"
    raise invalid(f"No active Lifecycle Action found with {what}", "token")


def _beat(turn: Turn, member: Member, hook: str, wait: dict[str, Any]) -> None:
    deadline = min(turn.now + turn.group.hooks[hook]["timeout_s"], wait["end"])
    turn.put(member, waits={**(member.waits or {}), hook: {**wait, "deadline": deadline}})


def _no_such_hook(name: str) -> CloudError:
    return no_such("Lifecycle Hook", name, "hook")
