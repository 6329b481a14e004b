"""Options that several nouns have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def parse_pairs(ctx: click.Context, option: click.Parameter, value: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE, several times. An empty value is a value."""
    pairs = {}
    for text in value:
        key, found, item = text.partition("=")
        if not found or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", ctx, option)
        pairs[key] = item
    return pairs


def tags(function: F) -> F:
    """--tag KEY=VALUE, several times; the parameter is `tags`."""
    option = click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, callback=parse_pairs, help="A tag.")
    return option(function)


def user_data(function: F) -> F:
    """--user-data TEXT or --user-data-file FILE."""
    by_file: Callable[[F], F] = click.option(
        "--user-data-file", metavar="FILE", help="The same, from a file ('-': stdin)."
    )
    by_text: Callable[[F], F] = click.option(
        "--user-data", help="Script or #cloud-config that runs once at first boot."
    )
    return by_text(by_file(function))


def read_user_data(text: str | None, file: str | None) -> str | None:
    """None: neither was given. Raises click.UsageError."""
    if text is not None and file is not None:
        raise click.UsageError("either --user-data or --user-data-file")
    if file is None:
        return text
    raw = sys.stdin.buffer.read() if file == "-" else _read(file)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is not UTF-8 text") from None


def _read(file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
