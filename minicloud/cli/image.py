"""`minicloud image`: what an instance's disk starts as."""

from __future__ import annotations

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, show_list, show_one, size
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("ID", lambda i: i.id),
    ("NAME", lambda i: i.name),
    ("STATE", lambda i: i.state),
    ("BUILT-IN", lambda i: i.builtin),
    ("ARCH", lambda i: i.architecture),
    ("SIZE", lambda i: size(i.size_bytes) if i.size_bytes else None),
    ("CREATED", lambda i: i.created_time),
)


@click.group(cls=Noun)
def image() -> None:
    """Images: what an instance's disk starts as."""


@verb(image, "list")
@click.option("--own", is_flag=True, help="Leave out the built-in ones.")
def list_images(session: Session, own: bool) -> None:
    """Images that can be launched from."""
    show_list(session, session.client.images.list(include_builtin=not own), COLUMNS)


@verb(image, "show")
@click.argument("image_id")
def show(session: Session, image_id: str) -> None:
    """Everything about one image."""
    show_one(session, session.client.images.get(image_id))


@verb(image, "create")
@click.argument("instance_id")
@click.argument("name")
@click.option("--description", default="", help="For people.")
@click.option("--no-reboot", is_flag=True, help="Do not freeze a running guest for the copy.")
@click.option("--wait", is_flag=True, help="Return when it can be launched from.")
@options.tags
def create(
    session: Session, instance_id: str, name: str, description: str, no_reboot: bool, wait: bool, tags: dict[str, str]
) -> None:
    """Make an image from an instance's disk."""
    images = session.client.images
    made = images.create(instance_id, name, description=description, no_reboot=no_reboot, tags=tags)
    show_one(session, images.wait_available(made.id) if wait else made)


@verb(image, "register")
@click.argument("name")
@click.argument("tar", type=click.Path(exists=True, dir_okay=False))
@click.option("--description", default="", help="For people.")
@click.option("--architecture", type=click.Choice(["x86_64", "arm64"]), default=None, help="Of the CPU.")
@options.tags
def register(
    session: Session, name: str, tar: str, description: str, architecture: str | None, tags: dict[str, str]
) -> None:
    """Make an image from a tar of files (plain or gzip)."""
    made = session.client.images.register(
        name, tar, description=description, architecture=architecture or "", tags=tags
    )
    show_one(session, made)


@verb(image, "deregister")
@click.argument("image_id")
def deregister(session: Session, image_id: str) -> None:
    """Take an image away; instances launched from it go on."""
    show_list(session, [session.client.images.deregister(image_id)], COLUMNS)
