"""Tags of anything in the slice, by the resource's id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minicloud.aws.call import Call, only
from minicloud.base.errors import MissingParameter
from minicloud.compute import commands
from minicloud.compute.aws.base import Noun, Params, Result, to_tags
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.model import Group, Image, Instance, KeyPair, SecurityGroup, Template
from minicloud.compute.tagging import volume_of


@dataclass(frozen=True, slots=True)
class _Tag:
    resource: str
    kind: str
    key: str
    value: str


_FIELDS: Fields[_Tag] = {
    TAGS: lambda one: {one.key: one.value},
    "key": lambda one: one.key,
    "resource-id": lambda one: one.resource,
    "resource-type": lambda one: one.kind,
    "value": lambda one: one.value,
}


class TagDoor(Noun):
    async def CreateTags(self, params: Params, call: Call) -> Result:
        """Parts of the default network and network interfaces cannot be tagged."""
        only(params, call, "Resources", "Tags", "DryRun")
        tags = to_tags(params.get("Tags", ()))
        if not tags:
            raise MissingParameter("The request must contain the parameter Tags", field="Tags")
        await self._retag([commands.SetTags(call.caller.scope, one, tags) for one in params["Resources"]], params)
        return {}

    async def DeleteTags(self, params: Params, call: Call) -> Result:
        """A tag with a value goes where it has that value; one without goes anyway; no tags: all go."""
        only(params, call, "Resources", "Tags", "DryRun")
        given = params.get("Tags", ())
        remove = tuple(one.get("Key", "") for one in given if "Value" not in one)
        where = {one.get("Key", ""): one["Value"] for one in given if "Value" in one}
        changes = [
            commands.SetTags(call.caller.scope, one, {}, remove, where, remove_all=not given)
            for one in params["Resources"]
        ]
        await self._retag(changes, params)
        return {}

    async def _retag(self, changes: list[commands.SetTags], params: Params) -> None:
        """All are looked at before any is changed."""
        for one in changes:
            self._decide(one)
        for one in changes:
            await self._submit(one, params)
            instance = self._state.instances.get(one.resource_id)
            if instance is not None:
                self._service.push_options(instance)

    async def DescribeTags(self, params: Params, call: Call) -> Result:
        only(params, call, "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._tags(params, call))

    def _tags(self, params: Params, call: Call) -> Result:
        every = ((f"{one.resource} {one.key}", one) for one in self._all_tags(call))
        some, result = self._page(call, params, every, _FIELDS)
        shown = [
            {"Key": one.key, "Value": one.value, "ResourceId": one.resource, "ResourceType": one.kind} for one in some
        ]
        return {**result, "Tags": shown}

    def _all_tags(self, call: Call) -> Iterator[_Tag]:
        state, scope = self._state, call.caller.scope
        tables = (
            (Instance.kind, "instance", state.instances),
            (Image.kind, "image", state.images),
            (KeyPair.kind, "key-pair", state.key_pairs),
            (Template.kind, "launch-template", state.templates),
            (Group.kind, "placement-group", state.groups),
            (SecurityGroup.kind, "security-group", state.security_groups),
        )
        for kind, word, table in tables:
            for key in state.page(kind, scope):
                for name, value in table[key].tags.items():
                    yield _Tag(key, word, name, value)
        for key in state.page(SecurityGroup.kind, scope):
            group = state.security_groups[key]
            for rule in (*group.ingress, *group.egress):
                for name, value in rule.get("tags", {}).items():
                    yield _Tag(rule["id"], "security-group-rule", name, value)
        for key in state.page(Instance.kind, scope):
            one = state.instances[key]
            if one.state != "terminated":
                for name, value in one.volume_tags.items():
                    yield _Tag(volume_of(key), "volume", name, value)
