"""Key pairs and placement groups: small named things."""

from __future__ import annotations

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import AlreadyExists, DependencyViolation, InvalidParameterValue, LimitExceeded
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tags
from minicloud.compute import names
from minicloud.compute.commands import CreateGroup, DeleteGroup, DeleteKeyPair, PutKeyPair
from minicloud.compute.errors import group_not_found, key_not_found
from minicloud.compute.model import Group, KeyPair
from minicloud.compute.state import Draft, State

GROUP_STRATEGIES = ("cluster", "spread", "partition")


def find_key(state: State, scope: Scope, name: str) -> KeyPair:
    key = state.named(KeyPair.kind, scope, name)
    if not isinstance(key, KeyPair):
        raise key_not_found(name)
    return key


def put_key(state: State, command: PutKeyPair, context: Context) -> Outcome:
    names.check_name(command.name)
    if state.named(KeyPair.kind, command.scope, command.name) is not None:
        raise AlreadyExists(
            f"The keypair '{command.name}' already exists.", code="InvalidKeyPair.Duplicate", field="name"
        )
    if len(state.page(KeyPair.kind, command.scope)) >= limits.KEY_PAIRS_MAX:
        raise LimitExceeded(f"an account has at most {limits.KEY_PAIRS_MAX} key pairs", field="name")
    key = KeyPair(
        id=context.new_id("key"),
        account=command.scope.account,
        region=command.scope.region,
        name=command.name,
        type=command.type,
        public_key=command.public_key,
        fingerprint=command.fingerprint,
        created=context.now,
        tags=check_tags(command.tags),
    )
    draft = Draft()
    draft.put(key)
    return draft.outcome(key)


def delete_key(state: State, command: DeleteKeyPair, context: Context) -> Outcome:
    key = find_key(state, command.scope, command.name)
    draft = Draft()
    draft.drop(key)
    return draft.outcome(key)


def find_group(state: State, scope: Scope, name: str) -> Group:
    group = state.named(Group.kind, scope, name)
    if not isinstance(group, Group):
        raise group_not_found(name)
    return group


def create_group(state: State, command: CreateGroup, context: Context) -> Outcome:
    names.check_name(command.name)
    if command.strategy not in GROUP_STRATEGIES:
        raise InvalidParameterValue(
            f"'{command.strategy[:32]}' is not one of {', '.join(GROUP_STRATEGIES)}", field="strategy"
        )
    partitions = _partitions(command)
    if state.named(Group.kind, command.scope, command.name) is not None:
        raise AlreadyExists(
            f"The placement group '{command.name}' already exists.",
            code="InvalidPlacementGroup.Duplicate",
            field="name",
        )
    group = Group(
        id=context.new_id("pg"),
        account=command.scope.account,
        region=command.scope.region,
        name=command.name,
        strategy=command.strategy,
        created=context.now,
        partitions=partitions,
        tags=check_tags(command.tags),
    )
    draft = Draft()
    draft.put(group)
    return draft.outcome(group)


def _partitions(command: CreateGroup) -> int:
    if command.strategy != "partition":
        if command.partitions:
            raise InvalidParameterValue("only partition groups have partitions", field="partitions")
        return 0
    partitions = command.partitions or 2
    if not 1 <= partitions <= limits.PARTITIONS_MAX:
        raise InvalidParameterValue(f"partitions must be 1 to {limits.PARTITIONS_MAX}", field="partitions")
    return partitions


def delete_group(state: State, command: DeleteGroup, context: Context) -> Outcome:
    group = find_group(state, command.scope, command.name)
    if any(True for _ in state.in_group(command.scope, command.name)):
        raise DependencyViolation(
            f"The placement group '{group.name}' is in use and may not be deleted.",
            code="InvalidPlacementGroup.InUse",
            field="name",
        )
    draft = Draft()
    draft.drop(group)
    return draft.outcome(group)
