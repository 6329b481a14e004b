"""Aliases: names for versions, with a share of invocations for a second one. Source: lambda API, CreateAlias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, limits, names
from minicloud.function.commands import CreateAlias, DeleteAlias, UpdateAlias
from minicloud.function.functions import check_revision, new_uuid
from minicloud.function.model import LATEST, Alias, Function
from minicloud.function.state import State


def create(state: State, command: CreateAlias, context: Context) -> Outcome:
    function = names.find(state, command.scope, command.function)
    if not names.ALIAS.match(command.name):
        raise errors.no_match("name", command.name, "(?!^[0-9]+$)([a-zA-Z0-9-_]+)")
    if f"{function.arn}:{command.name}" in state.aliases:
        text = f"Alias already exists: {function.arn}:{command.name}"
        raise errors.Taken(text, field="name")
    made = Alias(
        function.arn,
        function.account,
        function.region,
        command.name,
        command.version,
        new_uuid(context),
        command.description,
        dict(command.weights),
    )
    return _put(state, function, made)


def update(state: State, command: UpdateAlias, context: Context) -> Outcome:
    function = names.find(state, command.scope, command.function)
    before = find(state, function, command.name)
    check_revision(before.revision, command.revision)
    after = replace(
        before,
        version=before.version if command.version is None else command.version,
        description=before.description if command.description is None else command.description,
        weights=before.weights if command.weights is None else dict(command.weights),
        revision=new_uuid(context),
    )
    return _put(state, function, after)


def delete(state: State, command: DeleteAlias, _context: Context) -> Outcome:
    """One that is not there is not an error."""
    function = names.find(state, command.scope, command.function)
    alias = state.aliases.get(f"{function.arn}:{command.name}")
    draft = Draft(state)
    if alias is not None:
        for table in (state.policies, state.event_invokes, state.provisioned, state.urls):
            draft.drop(table.get(alias.arn))
        draft.drop(alias)
    return draft.outcome()


def find(state: State, function: Function, name: str) -> Alias:
    alias = state.aliases.get(f"{function.arn}:{name}")
    if alias is None:
        raise names.no_alias(f"{function.arn}:{name[:128]}")
    return alias


def _put(state: State, function: Function, alias: Alias) -> Outcome:
    errors.check_length("description", alias.description, limits.DESCRIPTION_CHARS_MAX)
    for number in (alias.version, *alias.weights):
        if f"{function.arn}:{number}" not in state.versions:
            raise errors.no_function(f"{function.arn}:{number[:64]}")
    _check_weights(alias.version, alias.weights)
    draft = Draft(state)
    draft.put(alias)
    return draft.outcome(alias)


def _check_weights(version: str, weights: Mapping[str, float]) -> None:
    if not weights:
        return
    if len(weights) > 1:
        raise errors.invalid("Number of items in AdditionalVersionWeights cannot be greater than 1", "routingConfig")
    ((other, weight),) = weights.items()
    if version == LATEST or other == LATEST:
        raise errors.invalid("$LATEST is not supported for an alias pointing to more than 1 version", "routingConfig")
    if other == version:
        raise errors.invalid(
            f"Invalid function version {other}. Function version {other} is already included in routing configuration.",
            "routingConfig",
        )
    if not 0.0 <= weight <= 1.0:
        raise errors.out_of_model(
            "routingConfig.additionalVersionWeights", weight, "Map value must be between 0.0 and 1.0"
        )
