"""`minicloud template`: presets of a launch, with versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, show_list, show_one
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.models import TemplateData

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: Columns = (
    ("ID", lambda t: t.id),
    ("NAME", lambda t: t.name),
    ("DEFAULT", lambda t: t.default_version),
    ("LATEST", lambda t: t.latest_version),
    ("CREATED", lambda t: t.created_time),
    ("TAGS", lambda t: t.tags),
)
VERSION_COLUMNS: Columns = (
    ("VERSION", lambda v: v.version),
    ("DEFAULT", lambda v: v.version == v.template.default_version),
    ("TYPE", lambda v: v.data.instance_type),
    ("IMAGE", lambda v: v.data.image_id),
    ("DESCRIPTION", lambda v: v.description),
    ("CREATED", lambda v: v.created_time),
)


@click.group(cls=Noun)
def template() -> None:
    """Launch templates and their versions."""


def preset(function: F) -> F:
    """What a template may preset; TAGS of the instances are --instance-tag."""
    for option in (
        click.option(
            "--instance-tag",
            metavar="KEY=VALUE",
            multiple=True,
            callback=options.parse_pairs,
            help="A tag of what is launched.",
        ),
        click.option("--cpu-credits", type=click.Choice(["standard", "unlimited"]), help="Of burstable types."),
        click.option("--monitoring/--no-monitoring", default=None, help="Detailed: metrics every 10 s."),
        click.option(
            "--shutdown-behavior",
            type=click.Choice(["stop", "terminate"]),
            help="What it becomes when it shuts down from inside.",
        ),
        click.option("--http-tokens", type=click.Choice(["optional", "required"]), help="Of the metadata service."),
        click.option(
            "--termination-protection/--no-termination-protection", default=None, help="Refuse to terminate it."
        ),
        click.option(
            "--strategy", type=click.Choice(["binpack", "spread"]), help="Fill hosts one by one, or spread over them."
        ),
        click.option("--group", "group_name", help="A placement group."),
        click.option("--zone", help="Only in this zone."),
        options.user_data,
        click.option("--key", "key_name", help="A key pair."),
        click.option("--image", "image_id", help="An image's id or name."),
        click.option("--type", "instance_type", help="An instance type."),
    ):
        function = option(function)
    return function


def _data(given: dict[str, Any]) -> TemplateData:
    text = options.read_user_data(given.pop("user_data"), given.pop("user_data_file"))
    given["tags"] = given.pop("instance_tag")
    protection = given.pop("termination_protection")
    said = {name: value for name, value in given.items() if value is not None}
    return TemplateData(user_data=text or "", termination_protection=protection, **said)


@verb(template, "create")
@click.argument("name")
@click.option("--description", default="", help="Of version 1.")
@options.tags
@preset
def create(session: Session, name: str, description: str, tags: dict[str, str], **given: Any) -> None:
    """Make a template; this is its version 1."""
    made = session.client.templates.create(name, _data(given), version_description=description, tags=tags)
    show_one(session, made)


@verb(template, "create-version")
@click.argument("template")
@click.option("--source", "source_version", default="", help="What is not given comes from this version.")
@click.option("--description", default="", help="For people.")
@preset
def create_version(session: Session, template: str, source_version: str, description: str, **given: Any) -> None:
    """Add a version; the default version stays."""
    made = session.client.templates.create_version(
        template, _data(given), source_version=source_version, version_description=description
    )
    show_one(session, made)


@verb(template, "list")
def list_templates(session: Session) -> None:
    """All templates."""
    show_list(session, session.client.templates.list(), COLUMNS)


@verb(template, "show")
@click.argument("template")
@click.option("--version", default="$Default", help="A number, $Default or $Latest.")
def show(session: Session, template: str, version: str) -> None:
    """Everything about one version."""
    show_one(session, session.client.templates.get(template, version))


@verb(template, "versions")
@click.argument("template")
def versions(session: Session, template: str) -> None:
    """All versions of a template."""
    show_list(session, session.client.templates.list_versions(template), VERSION_COLUMNS)


@verb(template, "set-default")
@click.argument("template")
@click.argument("version", type=int)
def set_default(session: Session, template: str, version: int) -> None:
    """Choose the version that launches use when none is named."""
    show_list(session, [session.client.templates.set_default_version(template, version)], COLUMNS)


@verb(template, "delete")
@click.argument("template")
def delete(session: Session, template: str) -> None:
    """Delete a template with all its versions."""
    show_list(session, [session.client.templates.delete(template)], COLUMNS)
