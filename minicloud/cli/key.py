"""`minicloud key`: SSH key pairs for instances. (Access keys of accounts are `minicloud account key`.)"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, show_list, show_one, write_line
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("NAME", lambda k: k.name),
    ("ID", lambda k: k.id),
    ("TYPE", lambda k: k.type),
    ("FINGERPRINT", lambda k: k.fingerprint),
    ("CREATED", lambda k: k.created_time),
)


@click.group(cls=Noun)
def key() -> None:
    """SSH key pairs for instances."""


@verb(key, "create")
@click.argument("name")
@click.option("--save", metavar="FILE", help="Write the private half there (mode 0600) instead of printing it.")
@options.tags
def create(session: Session, name: str, save: str | None, tags: dict[str, str]) -> None:
    """Make a key pair; the cloud does not keep the private half."""
    path = _free(save) if save else None
    made = session.client.key_pairs.create(name, tags=tags)
    if path is not None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made.private_key)
        show_list(session, [made.key_pair], COLUMNS)
    elif session.json:
        show_one(session, made)
    else:
        write_line(made.private_key.rstrip("\n"))


@verb(key, "import")
@click.argument("name")
@click.argument("file", type=click.File("r"))
@options.tags
def import_key(session: Session, name: str, file: TextIO, tags: dict[str, str]) -> None:
    """Bring your own: FILE holds the public half in OpenSSH form ('-': stdin)."""
    show_list(session, [session.client.key_pairs.import_key(name, file.read().strip(), tags=tags)], COLUMNS)


@verb(key, "list")
def list_keys(session: Session) -> None:
    """All key pairs."""
    show_list(session, session.client.key_pairs.list(), COLUMNS)


@verb(key, "delete")
@click.argument("name")
def delete(session: Session, name: str) -> None:
    """Delete a key pair; instances that carry it keep it."""
    show_list(session, [session.client.key_pairs.delete(name)], COLUMNS)


def _free(save: str) -> Path:
    """Checked before the pair is made: a private half that cannot be written would be lost."""
    path = Path(save).expanduser()
    if path.exists():
        raise click.UsageError(f"{path} exists; it is not overwritten")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"cannot write to {path.parent}")
    return path
