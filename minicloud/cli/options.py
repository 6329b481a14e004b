"""Options that several nouns have."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from minicloud.client.models import MessageAttribute

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_CHUNK = 1_000


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


# ---------------------------------------------------------------- messages


def message_attributes(texts: Sequence[str]) -> dict[str, MessageAttribute]:
    """NAME[:TYPE]=VALUE, several times; the type is String where none is named; Binary values are base64."""
    from minicloud.client.models import MessageAttribute

    found = {}
    for text in texts:
        head, equals, value = text.partition("=")
        name, _, kind = head.partition(":")
        if not equals or not name:
            raise click.UsageError(f"{text!r} is not NAME=VALUE or NAME:TYPE=VALUE")
        raw = _decoded(text, value) if kind.startswith("Binary") else value.encode("utf-8", "surrogateescape")
        found[name] = MessageAttribute(kind or "String", raw)
    return found


def bodies(given: Sequence[str], body: str | None, lines: bool) -> Iterator[bytes]:
    """What is to be sent: arguments, all of standard input ('-'), or each line of it."""
    texts = [*given, *([] if body is None else [body])]
    if lines and texts:
        raise click.UsageError("either --lines or messages")
    if not lines and not texts:
        raise click.UsageError("a BODY is needed; --body - takes standard input, --lines each line of it")
    if lines:
        return (line.removesuffix(b"\n").removesuffix(b"\r") for line in sys.stdin.buffer)
    return (sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape") for text in texts)


def chunked(entries: Iterable[T]) -> Iterator[list[T]]:
    """So that standard input may be longer than memory."""
    chunk: list[T] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def printable(value: bytes) -> str:
    """Text as it is, other bytes as base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _decoded(text: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise click.UsageError(f"{text!r}: a Binary value is given as base64") from None


_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw]?)\Z")


def duration(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """Seconds of 90, 90s, 15m, 3h, 2d, 1w."""
    match = _DURATION.match(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 30s, 15m, 3h or 2d", ctx, option)
    return float(match[1]) * _SECONDS[match[2]]


def seconds(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Whole seconds of an option that is a duration and may be left out."""
    return None if value is None else int(duration(ctx, option, value))
