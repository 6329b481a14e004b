"""Key pairs and placement groups."""

from __future__ import annotations

import asyncio

from minicloud.aws.call import Call, only, refused
from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue, NotFound
from minicloud.compute import commands, keypairs, keys
from minicloud.compute.aws.base import Noun, Params, Result, named_in, tagged, tags_for, would_have
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.errors import key_not_found
from minicloud.compute.model import Group, KeyPair

_KEY_FIELDS: Fields[KeyPair] = {
    TAGS: lambda one: one.tags,
    "key-pair-id": lambda one: one.id,
    "fingerprint": lambda one: one.fingerprint,
    "key-name": lambda one: one.name,
}


class KeyPairDoor(Noun):
    async def CreateKeyPair(self, params: Params, call: Call) -> Result:
        """As PEM alone."""
        only(params, call, "KeyName", "KeyType", "KeyFormat", "TagSpecifications", "DryRun")
        if params.get("KeyFormat", "pem") != "pem":
            raise refused("KeyFormat", call, "It is 'pem'.")
        kind = params.get("KeyType", "rsa")
        if kind not in keypairs.KINDS:
            raise InvalidParameterValue(f"Value ({kind[:32]}) for parameter KeyType is invalid.", field="KeyType")
        made = await asyncio.to_thread(keypairs.generate, params["KeyName"], kind)
        key = await self._put_key(made.public, params, call)
        return {**_shown_key(key), "KeyMaterial": made.private_pem}

    async def ImportKeyPair(self, params: Params, call: Call) -> Result:
        only(params, call, "KeyName", "PublicKeyMaterial", "TagSpecifications", "DryRun")
        public = keypairs.parse(params["PublicKeyMaterial"].decode("utf-8", "replace"))
        return _shown_key(await self._put_key(public, params, call))

    async def _put_key(self, public: keypairs.PublicKey, params: Params, call: Call) -> KeyPair:
        tags = tags_for(params, "key-pair")["key-pair"]
        command = commands.PutKeyPair(
            call.caller.scope, params["KeyName"], public.type, public.line, public.fingerprint, tags
        )
        key: KeyPair = await self._submit(command, params)
        return key

    async def DescribeKeyPairs(self, params: Params, call: Call) -> Result:
        only(params, call, "KeyNames", "KeyPairIds", "IncludePublicKey", "Filters", "DryRun")
        return await self._shown(params, lambda: self._keys(params, call))

    def _keys(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        found = named_in(params, "KeyNames", lambda one: keys.find_key(self._state, scope, one))
        by_id = named_in(params, "KeyPairIds", lambda one: self._key_of(one, call))
        if found is None and by_id is None:
            found = [self._state.key_pairs[key] for key in self._state.page(KeyPair.kind, scope)]
        every = {one.name: one for one in [*(found or ()), *(by_id or ())]}
        some, result = self._page(call, params, every.items(), _KEY_FIELDS)
        return {**result, "KeyPairs": [self._key(one, bool(params.get("IncludePublicKey"))) for one in some]}

    def _key(self, one: KeyPair, public: bool) -> Result:
        extra = {"PublicKey": one.public_key} if public else {}
        return {**_shown_key(one), "KeyType": one.type, "CreateTime": one.created, **extra}

    def _key_of(self, key_id: str, call: Call) -> KeyPair:
        key, scope = self._state.key_pairs.get(key_id), call.caller.scope
        if key is None or (key.account, key.region) != (scope.account, scope.region):
            raise key_not_found(key_id)
        return key

    async def DeleteKeyPair(self, params: Params, call: Call) -> Result:
        """Nobody is told that it was not there, as in EC2."""
        only(params, call, "KeyName", "KeyPairId", "DryRun")
        if not params.get("KeyName") and not params.get("KeyPairId"):
            raise InvalidParameterCombination("A key name or a key pair id is needed", field="KeyName")
        try:
            name = params.get("KeyName") or self._key_of(params["KeyPairId"], call).name
            gone = await self._submit(commands.DeleteKeyPair(call.caller.scope, name), params)
        except NotFound:
            if params.get("DryRun"):
                would_have()
            return {"Return": True}
        return {"Return": True, "KeyPairId": gone.id}


def _shown_key(key: KeyPair) -> Result:
    return {"KeyName": key.name, "KeyPairId": key.id, "KeyFingerprint": key.fingerprint, **tagged(key.tags)}


_GROUP_FIELDS: Fields[Group] = {
    TAGS: lambda one: one.tags,
    "group-name": lambda one: one.name,
    "group-arn": lambda one: _group_arn(one),
    "group-id": lambda one: one.id,
    "spread-level": lambda one: "rack" if one.strategy == "spread" else "",
    "state": lambda one: "available",
    "strategy": lambda one: one.strategy,
}


class PlacementGroupDoor(Noun):
    async def CreatePlacementGroup(self, params: Params, call: Call) -> Result:
        """A spread group spreads over hosts."""
        only(params, call, "GroupName", "Strategy", "PartitionCount", "SpreadLevel", "TagSpecifications", "DryRun")
        strategy = params.get("Strategy", "cluster")
        if params.get("SpreadLevel", "rack") != "rack":
            raise refused("SpreadLevel", call, "A spread group spreads over hosts.")
        command = commands.CreateGroup(
            call.caller.scope,
            params.get("GroupName", ""),
            strategy,
            params.get("PartitionCount", 0),
            tags_for(params, "placement-group")["placement-group"],
        )
        return {"PlacementGroup": _shown_group(await self._submit(command, params))}

    async def DescribePlacementGroups(self, params: Params, call: Call) -> Result:
        only(params, call, "GroupNames", "GroupIds", "Filters", "DryRun")
        return await self._shown(params, lambda: self._groups(params, call))

    def _groups(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        every = [self._state.groups[key] for key in self._state.page(Group.kind, scope)]
        found = named_in(params, "GroupNames", lambda one: keys.find_group(self._state, scope, one))
        wanted = set(params.get("GroupIds", ()))
        if missing := wanted - {one.id for one in every}:
            raise NotFound(
                f"The placement group ID '{min(missing)[:64]}' is not valid.", code="InvalidPlacementGroupId.Unknown"
            )
        found = [one for one in (every if found is None else found) if not wanted or one.id in wanted]
        some, result = self._page(call, params, ((one.name, one) for one in found), _GROUP_FIELDS)
        return {**result, "PlacementGroups": [_shown_group(one) for one in some]}

    async def DeletePlacementGroup(self, params: Params, call: Call) -> Result:
        only(params, call, "GroupName", "DryRun")
        await self._submit(commands.DeleteGroup(call.caller.scope, params["GroupName"]), params)
        return {}


def _group_arn(one: Group) -> str:
    return f"arn:aws:ec2:{one.region}:{one.account}:placement-group/{one.name}"


def _shown_group(one: Group) -> Result:
    shown: Result = {
        "GroupName": one.name,
        "GroupId": one.id,
        "GroupArn": _group_arn(one),
        "State": "available",
        "Strategy": one.strategy,
        **tagged(one.tags),
    }
    if one.partitions:
        shown["PartitionCount"] = one.partitions
    if one.strategy == "spread":
        shown["SpreadLevel"] = "rack"
    return shown
