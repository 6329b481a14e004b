"""ASGI applications as handlers of the AWS face's server: what minicloud serves beside AWS's protocols."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from minicloud.aws.http import Handler
from minicloud.aws.wire import Answer, Request


def of_asgi(app: Callable[..., Awaitable[None]]) -> Handler:
    """A handler out of an ASGI application that answers in one piece."""

    async def handle(request: Request) -> Answer:
        answer = Answer(500, "text/plain", b"")
        chunks: list[bytes] = []
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.query.encode("latin-1"),
            "headers": [(key.encode("latin-1"), text.encode("latin-1")) for key, text in request.headers.items()],
            "client": (request.peer, 0),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
                answer.content_type = dict(pairs).get("content-type", "text/plain")
                answer.headers = [one for one in pairs if one[0] not in ("content-type", "content-length")]
            else:
                chunks.append(message.get("body", b""))

        with contextlib.suppress(asyncio.IncompleteReadError):
            await app(scope, receive, send)
        answer.body = b"".join(chunks)
        return answer

    return handle
