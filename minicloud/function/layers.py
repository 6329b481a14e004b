"""Layers: packages that functions share, in versions that never change. Source: lambda API, PublishLayerVersion.

A version can be shared: its policy names accounts (or *) whose functions, in the same region, may use it.
Where we differ: a layer version that a function version uses cannot be deleted (AWS hides it and keeps its package).
"""

from __future__ import annotations

import re
from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, limits, policies
from minicloud.function.checks import may_use
from minicloud.function.commands import DeleteLayer, PublishLayer, ShareLayer, UnshareLayer
from minicloud.function.functions import check_room, new_uuid
from minicloud.function.model import SERVICE, Layer, LayerVersion, Policy, Statement
from minicloud.function.state import State

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
GET = "lambda:GetLayerVersion"  # the one action of a layer's policy
_PRINCIPAL = re.compile(r"(\*|\d{12})\Z|arn:aws[a-z-]*:iam::(\d{12}):root\Z")
_ARN = re.compile(r"arn:aws:lambda:[a-z0-9-]+:\d{12}:layer:([a-zA-Z0-9_-]{1,64})\Z")
RUNTIMES_MAX = 15  # model, CompatibleRuntimes


def layer_arn(scope: Scope, name: str) -> str:
    """Of a name or ARN. Raises ValidationException, ResourceNotFoundException."""
    found = _ARN.match(name)
    if found is not None:
        if name != scope.arn(SERVICE, f"layer:{found[1]}"):
            raise errors.NoSuchThing(f"The resource you requested does not exist: {name}", field="layerName")
        return name
    if not _NAME.match(name):
        raise errors.no_match("layerName", name, "[a-zA-Z0-9-_]+")
    return scope.arn(SERVICE, f"layer:{name}")


def publish(state: State, command: PublishLayer, context: Context) -> Outcome:
    """The reply is the LayerVersion."""
    scope = command.scope
    arn = layer_arn(scope, command.name)
    errors.check_length("description", command.description, limits.DESCRIPTION_CHARS_MAX)
    errors.check_length("licenseInfo", command.license, 512)
    if len(command.runtimes) > RUNTIMES_MAX:
        raise errors.invalid(f"A layer has at most {RUNTIMES_MAX} compatible runtimes", "compatibleRuntimes")
    check_room(state, scope, command.code)
    layer = state.layers.get(arn) or Layer(arn, scope.account, scope.region, arn.rpartition(":")[2])
    layer = replace(layer, published=layer.published + 1)
    made = LayerVersion(
        arn,
        scope.account,
        scope.region,
        layer.name,
        layer.published,
        command.code,
        context.now,
        command.description,
        command.license,
        command.runtimes,
        command.architectures,
    )
    draft = Draft(state)
    draft.put(layer)
    draft.put(made)
    return draft.outcome(made)


def delete(state: State, command: DeleteLayer, _context: Context) -> Outcome:
    draft = Draft(state)
    found = state.layer_versions.get(f"{layer_arn(command.scope, command.name)}:{command.number}")
    if found is not None and _used(state, found.arn):
        raise errors.Busy(f"Layer version {found.arn} is used by a function version.", field="layerName")
    if found is not None:
        draft.drop(state.policies.get(found.arn))
    draft.drop(found)
    return draft.outcome()


def share(state: State, command: ShareLayer, context: Context) -> Outcome:
    """The reply is the Policy, with the statement in it."""
    found = find(state, command.scope, command.name, command.number)
    who = _PRINCIPAL.match(command.principal)
    if who is None:
        raise errors.no_match("principal", command.principal, _PRINCIPAL.pattern)
    new = Statement(command.sid, GET, who[1] or who[2])
    after = policies.with_statement(state, command.scope, found.arn, new, command.revision, new_uuid(context))
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(after)


def unshare(state: State, command: UnshareLayer, context: Context) -> Outcome:
    arn = find(state, command.scope, command.name, command.number).arn
    return policies.without_statement(state, arn, command.sid, command.revision, new_uuid(context))


def policy_of(state: State, scope: Scope, name: str, number: int) -> Policy:
    """Raises ResourceNotFoundException: nobody shares it."""
    policy = state.policies.get(find(state, scope, name, number).arn)
    if policy is None:
        raise errors.NoSuchThing("No policy is associated with the given resource.", field="layerName")
    return policy


def _used(state: State, arn: str) -> bool:
    return any(arn in version.settings.layers for version in state.versions.values())


def usable(state: State, scope: Scope, name: str, number: int) -> LayerVersion:
    """A version of the scope's own, or one that is shared with it, by its ARN. Raises as `find`."""
    shared = state.layer_versions.get(f"{name}:{number}")
    return shared if shared is not None and may_use(state, scope, shared) else find(state, scope, name, number)


def find(state: State, scope: Scope, name: str, number: int) -> LayerVersion:
    """The scope's own. Raises ValidationException, ResourceNotFoundException."""
    arn = f"{layer_arn(scope, name)}:{number}"
    found = state.layer_versions.get(arn)
    if found is None:
        raise errors.NoSuchThing(f"The resource you requested does not exist: {arn}", field="layerName")
    return found
