"""What all parts of the servicer share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from minicloud.base import pages
from minicloud.base.arn import Caller
from minicloud.base.errors import InvalidRequest, MessageTooLarge
from minicloud.function import limits
from minicloud.function.service import FunctionService


class Part:
    """`pages` signs page tokens. `url_of`: the address of a function URL by its id."""

    def __init__(self, service: FunctionService, page_secret: bytes, url_of: Callable[[str], str]) -> None:
        self._service = service
        self._pages = page_secret
        self._url_of = url_of

    def _cut(self, keys: Sequence[str], kind: str, caller: Caller, request: Any) -> tuple[Sequence[str], str]:
        context = f"{kind}/{caller.scope.account}/{caller.scope.region}"
        return pages.cut(self._pages, context, keys, request.page_token, pages.checked_size(request.page_size))


async def upload(requests: AsyncIterator[Any]) -> tuple[Any, bytes]:
    """The first message, and the packages of all of them. Raises MessageTooLarge, InvalidRequest."""
    first, raw = None, bytearray()
    async for request in requests:
        first = request if first is None else first
        raw += request.package
        if len(raw) > limits.ZIP_BYTES_MAX:
            text = f"Request must be smaller than {limits.ZIP_BYTES_MAX} bytes for the package of a function"
            raise MessageTooLarge(text, code="RequestEntityTooLargeException", field="package")
    if first is None:
        raise InvalidRequest("the stream ended before its first message", code="MalformedRequest")
    return first, bytes(raw)
