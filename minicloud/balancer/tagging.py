"""Tags on anything that has an ARN here. Source: elbv2 API, AddTags, RemoveTags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minicloud.balancer import errors
from minicloud.balancer.commands import SetTags
from minicloud.balancer.model import Balancer, Certificate, Group, Listener, Rule
from minicloud.balancer.state import State
from minicloud.base.arn import Scope
from minicloud.base.errors import LimitExceeded
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.base.tags import check_tags

_NONE = {
    "loadbalancer": (Balancer.kind, errors.no_balancer),
    "listener": (Listener.kind, errors.no_listener),
    "listener-rule": (Rule.kind, errors.no_rule),
    "targetgroup": (Group.kind, errors.no_group),
}


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Raises ValidationError (InvalidParameterValue), TooManyTags."""
    try:
        return check_tags(tags)
    except LimitExceeded as error:
        raise errors.too_many("TooManyTags", error.message, "tags") from None


def find_any(state: State, scope: Scope, arn: str) -> Any:
    """What this ARN names. Raises the not-found error of its kind."""
    resource = arn.split(":", 5)[-1].split("/", 1)[0]
    if resource == "certificate":
        kind, error = Certificate.kind, errors.no_certificate(arn)
    elif resource in _NONE:
        kind, make = _NONE[resource]
        error = make()
    else:
        raise errors.invalid(f"'{arn[:256]}' is not a valid ARN", "arn")
    entity = state.tables[kind].get(arn)
    if entity is None or entity.scope != scope:
        raise error
    return entity


def decide(state: State, command: SetTags, _context: Context) -> Outcome:
    """The reply is the tags that the resource has now."""
    entity = find_any(state, command.scope, command.arn)
    kept = {key: value for key, value in entity.tags.items() if key not in command.remove}
    after = replace(entity, tags=checked_tags({**kept, **command.tags}))
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(dict(after.tags))
