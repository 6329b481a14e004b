"""Tags on any resource of the slice, found by the prefix of its id. A root volume's tags are on its instance."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue, NotFound, UnsupportedOperation
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import RESERVED, check_tag, check_tags
from minicloud.compute import images, security, templates
from minicloud.compute.commands import SetTags
from minicloud.compute.instances import find as find_instance
from minicloud.compute.model import Group, Image, Instance, KeyPair, SecurityGroup, Template
from minicloud.compute.state import Draft, State

VOLUME, RULE = "vol-", "sgr-"
_NETWORK = ("vpc", "subnet", "igw", "rtb", "acl", "dopt", "eni")
Tagged: TypeAlias = Instance | Image | Template | KeyPair | Group | SecurityGroup


def decide(state: State, command: SetTags, context: Context) -> Outcome:
    """The reply is the tags that the resource has now."""
    if command.resource_id.startswith(RULE):
        return _retag_rule(state, command)
    entity = _find(state, command.scope, command.resource_id)
    service = bool(command.service)
    on_volume = isinstance(entity, Instance) and command.resource_id.startswith(VOLUME)
    before = entity.volume_tags if on_volume and isinstance(entity, Instance) else entity.tags
    kept = _kept(before, command)
    for key in before.keys() - kept.keys():
        check_tag(key, "", service=service)
    tags = check_tags(command.tags, kept=kept, service=service)
    after: Tagged
    if on_volume and isinstance(entity, Instance):
        after = replace(entity, volume_tags=tags)
    else:
        after = replace(entity, tags=tags)
    draft = Draft()
    if after != entity:
        draft.put(after)
    return draft.outcome(tags)


def _retag_rule(state: State, command: SetTags) -> Outcome:
    """A security group's rule has its tags in the group's record."""
    group, rule = security.find_rule(state, command.scope, command.resource_id)
    tags = check_tags(command.tags, kept=_kept(rule.get("tags", {}), command), service=bool(command.service))
    draft = Draft()
    draft.put(security.with_rule(group, {**rule, "tags": tags}))
    return draft.outcome(tags)


def _kept(tags: dict[str, str], command: SetTags) -> dict[str, str]:
    if command.remove_all:  # less those of the cloud's own services
        return {key: value for key, value in tags.items() if key.startswith(RESERVED)}
    return {
        key: value for key, value in tags.items() if key not in command.remove and command.remove_if.get(key) != value
    }


def volume_of(instance_id: str) -> str:
    """The id of an instance's root disk, as a volume: the same digits."""
    return VOLUME + instance_id.partition("-")[2]


def volume_owner(state: State, scope: Scope, volume_id: str) -> Instance:
    """Raises NotFound (InvalidVolume.NotFound)."""
    instance = state.instances.get("i-" + volume_id.removeprefix(VOLUME))
    if instance is None or instance.scope != scope or instance.state == "terminated":
        raise NotFound(
            f"The volume '{volume_id[:64]}' does not exist.", code="InvalidVolume.NotFound", field="resource_id"
        )
    return instance


def _find(state: State, scope: Scope, resource_id: str) -> Tagged:
    prefix = resource_id.split("-", 1)[0]
    if prefix == "i":
        return find_instance(state, scope, resource_id, "resource_id")
    if resource_id.startswith(VOLUME):
        return volume_owner(state, scope, resource_id)
    if prefix == "ami":
        image = images.find(state, scope, resource_id)
        if image.builtin:
            raise InvalidParameterValue("a built-in image cannot be tagged", field="resource_id")
        return image
    if prefix == "lt":
        return templates.find_template(state, scope, resource_id)
    if prefix == "sg":
        return security.find(state, scope, resource_id)
    if prefix in _NETWORK:
        raise UnsupportedOperation(
            f"'{resource_id[:64]}' is of the default network or goes with an instance; it cannot be tagged",
            field="resource_id",
        )
    found = state.key_pairs.get(resource_id) or state.groups.get(resource_id)
    if found is not None and (found.account, found.region) == (scope.account, scope.region):
        return found
    raise NotFound(f"The ID '{resource_id[:64]}' does not exist", code="InvalidID", field="resource_id")
