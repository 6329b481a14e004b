"""Functions and their versions: made, changed, published, deleted. Source: lambda API, CreateFunction and its kin.

$LATEST changes, numbered versions never do. Publishing what is the same as the newest version gives that one again.
Every change gives $LATEST another revision id; a request that names an older one is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidRequest
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.base.tags import check_tags
from minicloud.function import checks, errors, limits, names
from minicloud.function.commands import (
    CreateFunction,
    DeleteFunction,
    PublishVersion,
    SetTags,
    UpdateCode,
    UpdateSettings,
)
from minicloud.function.model import LATEST, SERVICE, Code, Function, Version
from minicloud.function.model import Mapping as SourceMapping
from minicloud.function.state import State, everything


def create(state: State, command: CreateFunction, context: Context) -> Outcome:
    """The reply is the Version that was made: $LATEST, or 1 where it is published."""
    scope = command.scope
    names.check_name(command.name)
    arn = scope.arn(SERVICE, f"function:{command.name}")
    if arn in state.functions:
        raise errors.Taken(f"Function already exist: {command.name}", field="name")
    made = checks.settings(state, scope, command.given, None)
    check_room(state, scope, command.code)
    checks.check_unzipped(state, made.layers, command.code.unzipped)
    draft = Draft(state)
    function = Function(arn, scope.account, scope.region, command.name, context.now, tags=checked_tags(command.tags))
    latest = Version(
        arn, scope.account, scope.region, command.name, LATEST, made, command.code, context.now, new_uuid(context)
    )
    draft.put(latest)
    if command.publish:
        function = replace(function, published=1)
        latest = replace(latest, version="1", revision=new_uuid(context))
        draft.put(latest)
    draft.put(function)
    return draft.outcome(latest)


def update_code(state: State, command: UpdateCode, context: Context) -> Outcome:
    """The reply is the Version that it made: $LATEST, or the number where it is published."""
    function = names.find(state, command.scope, command.function)
    latest = state.latest(function.arn)
    check_revision(latest.revision, command.revision)
    check_room(state, command.scope, command.code)
    checks.check_unzipped(state, latest.settings.layers, command.code.unzipped)
    after = replace(latest, code=command.code, modified=context.now, revision=new_uuid(context))
    if command.dry_run:
        return Outcome(after)
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(_publish(draft, function, after, None, context) if command.publish else after)


def update_settings(state: State, command: UpdateSettings, context: Context) -> Outcome:
    """The reply is $LATEST."""
    function = names.find(state, command.scope, command.function)
    latest = state.latest(function.arn)
    check_revision(latest.revision, command.revision)
    changed = checks.settings(state, command.scope, command.given, latest.settings)
    checks.check_unzipped(state, changed.layers, latest.code.unzipped)
    after = replace(latest, settings=changed, modified=context.now, revision=new_uuid(context))
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(after)


def publish(state: State, command: PublishVersion, context: Context) -> Outcome:
    """The reply is the new Version, or the newest where nothing has changed since."""
    function = names.find(state, command.scope, command.function)
    latest = state.latest(function.arn)
    check_revision(latest.revision, command.revision)
    if command.code_sha256 and command.code_sha256 != shown_sha256(latest.code):
        raise errors.invalid(
            f"CodeSHA256 ({command.code_sha256[:64]}) is different from current CodeSHA256 in $LATEST "
            f"({shown_sha256(latest.code)}). Please try again with the CodeSHA256 in $LATEST.",
            "code_sha256",
        )
    draft = Draft(state)
    return draft.outcome(_publish(draft, function, latest, command.description, context))


def _publish(
    draft: Draft[State], function: Function, latest: Version, description: str | None, context: Context
) -> Version:
    state = draft.state
    newest = state.versions.get(f"{function.arn}:{function.published}")
    wanted = latest.settings if description is None else replace(latest.settings, description=description)
    if newest is not None and newest.code == latest.code and newest.settings == wanted:
        return newest
    check_room(state, function.scope, latest.code)
    number = function.published + 1
    made = replace(latest, version=str(number), settings=wanted, modified=context.now, revision=new_uuid(context))
    draft.put(made)
    draft.put(replace(function, published=number))
    return made


def delete(state: State, command: DeleteFunction, _context: Context) -> Outcome:
    """A function with everything that hangs on it, or one version that no alias needs."""
    name = names.parse(command.scope, command.function, command.qualifier)
    draft = Draft(state)
    if not name.qualifier:
        function = names.find(state, command.scope, name.name)
        for entity in everything(state, function.arn):
            draft.drop(entity)
        return draft.outcome()
    if name.qualifier == LATEST:
        raise errors.invalid("$LATEST version cannot be deleted without deleting the function.", "qualifier")
    target = names.resolve(state, command.scope, name.name, name.qualifier)
    if target.alias is not None:
        raise errors.invalid(
            "A qualifier that is an alias cannot be deleted with the function; delete the alias", "qualifier"
        )
    version = target.version
    users = [
        alias.name
        for alias in state.aliases_of(target.function.arn)
        if version.version == alias.version or version.version in alias.weights
    ]
    if users:
        raise errors.Busy(f"Version cannot be deleted because it is used by aliases: {users}", field="qualifier")
    for table in (state.policies, state.event_invokes, state.provisioned):
        draft.drop(table.get(version.arn))
    draft.drop(version)
    return draft.outcome()


def set_tags(state: State, command: SetTags, _context: Context) -> Outcome:
    """Of a function or mapping. The reply is all tags."""
    entity: Function | SourceMapping | None = state.functions.get(command.arn)
    if entity is None and ":event-source-mapping:" in command.arn:
        entity = state.mappings.get(command.arn.rpartition(":")[2])
    if entity is None or entity.scope != command.scope:
        raise errors.NoSuchThing(f"The resource does not exist: {command.arn[:256]}", field="arn")
    kept = {key: value for key, value in entity.tags.items() if key not in command.remove}
    after = replace(entity, tags=checked_tags(kept | dict(command.tags)))
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(after.tags)


# --- what others use


def check_room(state: State, scope: Scope, code: Code) -> None:
    if state.code_bytes(scope) + code.bytes > limits.STORAGE_BYTES_MAX:
        raise errors.storage_exceeded()


def check_revision(there: str, given: str) -> None:
    """Raises PreconditionFailedException."""
    if given and given != there:
        text = (
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        )
        raise errors.Busy(text, code="PreconditionFailedException", field="revision")


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    try:
        return check_tags(tags)
    except CloudError as error:
        raise InvalidRequest(error.message, code="InvalidParameterValueException", field="tags") from None


def shown_sha256(code: Code) -> str:
    """As AWS shows it."""
    return base64.b64encode(bytes.fromhex(code.sha256)).decode()


def new_uuid(context: Context) -> str:
    """Version 4."""
    text = context.hex(32)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"
