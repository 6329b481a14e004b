"""Launch templates: numbered, immutable versions of what a launch presets. Source: EC2 API, CreateLaunchTemplate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import (
    AlreadyExists,
    IdempotentParameterMismatch,
    InvalidParameterValue,
    LimitExceeded,
    OperationNotPermitted,
)
from minicloud.base.ids import check_id
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tags
from minicloud.compute import names
from minicloud.compute.catalog import Catalog
from minicloud.compute.checks import check_token, check_user_data_text
from minicloud.compute.commands import (
    CreateTemplate,
    CreateTemplateVersion,
    DeleteTemplate,
    DeleteTemplateVersion,
    LaunchSpec,
    SetDefaultVersion,
)
from minicloud.compute.errors import template_not_found, template_version_not_found
from minicloud.compute.model import Template, TemplateVersion
from minicloud.compute.ports import UserDataCheck
from minicloud.compute.state import Draft, State

MARK = "aws:ec2launchtemplate"  # EC2 User Guide, "Launch instances using a launch template"
_FIELDS = frozenset(item.name for item in fields(LaunchSpec))


def find_template(state: State, scope: Scope, text: str) -> Template:
    """By id or name. Raises MalformedId, NotFound."""
    if text.startswith("lt-"):
        check_id("lt", text, "template")
        template = state.templates.get(text)
    else:
        template = state.named(Template.kind, scope, text)
    if template is None or template.account != scope.account or template.region != scope.region:
        raise template_not_found(text)
    return template


def find(state: State, scope: Scope, text: str, version: str) -> TemplateVersion:
    template = find_template(state, scope, text)
    if version in ("", "$Default"):
        number = template.default_version
    elif version == "$Latest":
        number = max(one.version for one in versions(state, template))
    elif version.isascii() and version.isdigit():
        number = int(version[:18])
    else:
        raise InvalidParameterValue(
            f"'{version[:32]}' is not a version number, $Default or $Latest", field="launch_template.version"
        )
    found = state.versions.get(f"{template.id}/{number}")
    if found is None:
        raise template_version_not_found(template.name, version)
    return found


def versions(state: State, template: Template) -> Iterator[TemplateVersion]:
    """Those there are, oldest first; deleted ones leave gaps, the default one is always there."""
    for number in range(1, template.latest_version + 1):
        found = state.versions.get(f"{template.id}/{number}")
        if found is not None:
            yield found


def merge(preset: dict[str, Any], spec: LaunchSpec) -> LaunchSpec:
    """What the request gives wins; tags are joined, the request's value for a key that both have."""
    given = {item.name: getattr(spec, item.name) for item in fields(LaunchSpec)}
    joined = {name: value for name, value in preset.items() if name in _FIELDS}
    joined.update(
        {name: value for name, value in given.items() if value is False or value not in ("", None, 0, {}, ())}
    )
    for name in ("tags", "volume_tags", "echo"):
        joined[name] = {**preset.get(name, {}), **given[name]}
    return LaunchSpec(**joined)


def marks(version: TemplateVersion) -> dict[str, str]:
    """The tags of what was launched from it."""
    return {f"{MARK}:id": version.template_id, f"{MARK}:version": str(version.version)}


def create(state: State, command: CreateTemplate, context: Context, check_user_data: UserDataCheck) -> Outcome:
    """The reply is (Template, TemplateVersion)."""
    scope = command.scope
    names.check_template_name(command.name)
    taken = state.named(Template.kind, scope, command.name)
    if taken is not None:
        return _same_or_taken(state, taken, command)
    if len(state.page(Template.kind, scope)) >= limits.LAUNCH_TEMPLATES_MAX:
        raise LimitExceeded(f"an account has at most {limits.LAUNCH_TEMPLATES_MAX} launch templates", field="name")
    _check_data(command.data, check_user_data)
    template = Template(
        id=context.new_id("lt"),
        account=scope.account,
        region=scope.region,
        name=command.name,
        created=context.now,
        tags=check_tags(command.tags),
    )
    version = TemplateVersion(
        template.id,
        1,
        context.now,
        names.check_description(command.description),
        dict(command.data),
        check_token(command.client_token, limits.TEMPLATE_TOKEN_CHARS_MAX),
    )
    draft = Draft()
    draft.put(template)
    draft.put(version)
    return draft.outcome((template, version))


def _same_or_taken(state: State, taken: Template, command: CreateTemplate) -> Outcome:
    """A repeat under a client token is answered with what the first made, when it is the same request."""
    first = state.versions.get(f"{taken.id}/1")
    if command.client_token and first is not None and first.token == command.client_token:
        if first.data != command.data or taken.tags != command.tags:
            raise IdempotentParameterMismatch(field="client_token")
        return Outcome((taken, first))
    raise AlreadyExists(
        f"a launch template named '{taken.name}' exists already ({taken.id})",
        code="InvalidLaunchTemplateName.AlreadyExistsException",
        field="name",
    )


def create_version(
    state: State, command: CreateTemplateVersion, context: Context, check_user_data: UserDataCheck
) -> Outcome:
    template = find_template(state, command.scope, command.template)
    token = check_token(command.client_token, limits.TEMPLATE_TOKEN_CHARS_MAX)
    made = next((one for one in versions(state, template) if one.token == token), None) if token else None
    if made is None and template.latest_version >= limits.LAUNCH_TEMPLATE_VERSIONS_MAX:
        raise LimitExceeded(
            f"a launch template has at most {limits.LAUNCH_TEMPLATE_VERSIONS_MAX} versions", field="template"
        )
    data = dict(command.data)
    if command.source_version:
        source = find(state, command.scope, command.template, command.source_version)
        data = {**source.data, **data}
    if made is not None:
        if made.data != data or made.description != command.description:
            raise IdempotentParameterMismatch(field="client_token")
        return Outcome((template, made))
    _check_data(data, check_user_data)
    after = replace(template, latest_version=template.latest_version + 1)
    description = names.check_description(command.description)
    version = TemplateVersion(template.id, after.latest_version, context.now, description, data, token)
    draft = Draft()
    draft.put(after)
    draft.put(version)
    return draft.outcome((after, version))


def set_default(state: State, command: SetDefaultVersion, context: Context) -> Outcome:
    template = find_template(state, command.scope, command.template)
    find(state, command.scope, command.template, str(command.version))
    after = replace(template, default_version=command.version)
    draft = Draft()
    draft.put(after)
    return draft.outcome(after)


def delete(state: State, command: DeleteTemplate, context: Context) -> Outcome:
    template = find_template(state, command.scope, command.template)
    draft = Draft()
    draft.drop(template)
    for version in versions(state, template):
        draft.drop(version)
    return draft.outcome(template)


def delete_version(state: State, command: DeleteTemplateVersion, context: Context) -> Outcome:
    """Its number is not given again. Raises OperationNotPermitted for the default version."""
    template = find_template(state, command.scope, command.template)
    version = find(state, command.scope, command.template, command.version)
    if version.version == template.default_version:
        raise OperationNotPermitted(
            f"version {version.version} is the default version of '{template.name}' and cannot be deleted",
            field="version",
        )
    draft = Draft()
    draft.drop(version)
    return draft.outcome(version)


def _check_data(data: dict[str, Any], check_user_data: UserDataCheck) -> None:
    """Form only, as EC2 does; that an image or key exists is checked at launch."""
    if data.get("instance_type"):
        Catalog.load().get(data["instance_type"])
    if data.get("user_data"):
        check_user_data_text(data["user_data"], check_user_data)
    check_tags(data.get("tags", {}))
