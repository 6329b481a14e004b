"""Heads of HTTP: the names in those of requests, those of answers as bytes, and what a head alone is refused for."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from minicloud.aws.wire import Answer, Request
from minicloud.base.errors import CloudError, InvalidRequest, MessageTooLarge

NAMES: dict[bytes, str] = {}  # SDKs send the same few names all the time, so they are remembered
NAMES_KEPT_MAX = 1_024
_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n" for one in HTTPStatus}


def name_of(raw: bytes) -> str:
    """In lower case."""
    name = raw.decode("latin-1").lower()
    if len(NAMES) < NAMES_KEPT_MAX:
        NAMES[raw] = name
    return name


def of(answer: Answer, date: str, *, keep_alive: bool, length: int | None) -> bytes:
    """`date`: its whole line. `length`: of the body; None: it comes in chunks."""
    text = _start(answer.status, answer.content_type, date)
    if answer.status != 204:
        text += "transfer-encoding: chunked\r\n" if length is None else f"content-length: {length}\r\n"
    for name, value in answer.headers:
        text += f"{name}: {_clean(value)}\r\n"
    text += "\r\n" if keep_alive else "connection: close\r\n\r\n"
    return text.encode("latin-1", "replace")


@lru_cache(maxsize=64)
def _start(status: int, content_type: str, date: str) -> str:
    """The same for all answers of a kind within a second."""
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} -\r\n"
    return line + date + ("" if status == 204 else f"content-type: {_clean(content_type)}\r\n")


def _clean(value: str) -> str:
    return value if value.isprintable() else "".join(char if char.isprintable() else " " for char in value)


def too_large() -> CloudError:
    return InvalidRequest("The head of the request is too large.", code="RequestHeaderSectionTooLarge")


def body_too_large(most: int) -> CloudError:
    text = f"The body of the request is larger than {most} bytes."
    return MessageTooLarge(text, code="RequestEntityTooLarge")


async def forbidden(_request: Request) -> Answer:
    return Answer(403, "text/plain", b"minicloud: not for web pages, and not under this host name")
