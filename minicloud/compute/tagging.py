"""Tags on any resource of the slice, found by the prefix of its id."""

from __future__ import annotations

from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue, NotFound
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tag, check_tags
from minicloud.compute import images, templates
from minicloud.compute.commands import SetTags
from minicloud.compute.instances import find as find_instance
from minicloud.compute.model import Image, Instance, KeyPair, Template
from minicloud.compute.state import Draft, State


def decide(state: State, command: SetTags, context: Context) -> Outcome:
    """The reply is the tags that the resource has now."""
    entity = _find(state, command.scope, command.resource_id)
    for key in command.remove:
        if key in entity.tags:
            check_tag(key, "", service=bool(command.service))
    kept = {key: value for key, value in entity.tags.items() if key not in command.remove}
    after = replace(entity, tags=check_tags(command.tags, kept=kept, service=bool(command.service)))
    draft = Draft()
    if after != entity:
        draft.put(after)
    return draft.outcome(dict(after.tags))


def _find(state: State, scope: Scope, resource_id: str) -> Instance | Image | Template | KeyPair:
    prefix = resource_id.split("-", 1)[0]
    if prefix == "i":
        return find_instance(state, scope, resource_id, "resource_id")
    if prefix == "ami":
        image = images.find(state, scope, resource_id)
        if image.builtin:
            raise InvalidParameterValue("a built-in image cannot be tagged", field="resource_id")
        return image
    if prefix == "lt":
        return templates.find_template(state, scope, resource_id)
    key = state.key_pairs.get(resource_id)
    if key is not None and (key.account, key.region) == (scope.account, scope.region):
        return key
    raise NotFound(f"The ID '{resource_id[:64]}' does not exist", code="InvalidID", field="resource_id")
