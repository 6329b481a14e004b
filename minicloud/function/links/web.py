"""Function URLs over HTTP: who may call one, and the invocation behind it. Where: `aws.http.serve`, by the host name.

AuthType NONE needs a permission for everybody (lambda:InvokeFunctionUrl to *), as in AWS; AWS_IAM a signature of the
function's own account, or of one that a permission names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from minicloud.aws.wire import Answer, Request
from minicloud.base.arn import Caller
from minicloud.base.errors import CloudError, InvalidRequest, MessageTooLarge, Throttled
from minicloud.function import invoking, policies, web
from minicloud.function.links.pipe import Pipe
from minicloud.function.model import EVERYBODY, Url
from minicloud.function.service import FunctionService
from minicloud.function.web import Asked, Told

PRELUDE_BYTES_MAX = 64 * 1024  # ours: of status and headers in front of a streamed answer
UNTYPED = "application/octet-stream"
FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


class UrlHandler:
    """For `AwsFace.start({".lambda-url.": handler})`. `admit`: who signed a request; raises CloudError."""

    def __init__(self, service: FunctionService, admit: Callable[[Request], Caller], wall: Callable[[], float]) -> None:
        self._service = service
        self._admit = admit
        self._wall = wall

    async def __call__(self, request: Request) -> Answer:
        url = self._service.state.by_url.get(request.headers.get("host", "").partition(".")[0])
        if url is None:
            return _answer(web.refusal(404, "There is no function at this address"))
        account = self._caller(request, url)
        asked = Asked(
            request.method, request.path, request.query, request.headers, request.body, request.peer, account or ""
        )
        cors = web.cors_headers(url.cors, asked) if url.cors is not None else []
        if url.cors is not None and web.is_preflight(asked):
            return _answer(Told(200, web.JSON_TYPE, b"", cors))
        if account is None:
            return _answer(web.refusal(403, FORBIDDEN), cors)
        try:
            return await self._invoke(url, asked, cors)
        except Throttled:
            return _answer(web.refusal(429, "Rate Exceeded."), [*cors, ("Retry-After", "1")])
        except MessageTooLarge as error:
            return _answer(web.refusal(413, error.message), cors)
        except InvalidRequest as error:
            return _answer(web.refusal(400, error.message), cors)
        except CloudError:
            return _answer(web.broken(), cors)

    def _caller(self, request: Request, url: Url) -> str | None:
        """'' for everybody; None: may not."""
        policy = self._service.state.policies.get(url.arn)
        if url.auth == EVERYBODY:
            return "" if policies.allows(policy, policies.INVOKE_URL, "*", url_auth=url.auth) else None
        try:
            account = self._admit(request).scope.account
        except CloudError:
            return None
        allowed = policies.allows(policy, policies.INVOKE_URL, account, url_auth=url.auth)
        return account if account == url.account or allowed else None

    async def _invoke(self, url: Url, asked: Asked, cors: list[tuple[str, str]]) -> Answer:
        request_id = self._service.new_request_id()
        payload = web.event(asked, url, request_id, self._wall())
        pipe = _Body() if url.streams else None
        trace = asked.headers.get("x-amzn-trace-id", "")
        request = invoking.Request(url.scope, url.arn, payload, trace_id=trace, request_id=request_id, sink=pipe)
        if pipe is not None:
            return await pipe.answer(asyncio.create_task(self._service.invoke(request)), cors)
        outcome = (await self._service.invoke(request)).outcome
        return _answer(web.broken() if outcome.function_error else web.told(outcome.payload), cors)


def _answer(told: Told, more: list[tuple[str, str]] | None = None) -> Answer:
    return Answer(told.status, told.content_type, told.body, [*told.headers, *(more or [])])


class _Body(Pipe):
    """Its bytes are the body of an answer."""

    async def answer(self, work: asyncio.Task[Any], cors: list[tuple[str, str]]) -> Answer:
        """As soon as its head is known. Raises what the invocation raises before that."""
        first = await self.next(work)
        content_type = self.content_type or UNTYPED
        if first is None:
            outcome = (await work).outcome
            return _answer(web.broken() if outcome.function_error else Told(200, content_type, b""), cors)
        if content_type != web.PRELUDE_TYPE:
            return Answer(200, content_type, self._rest(first, work), list(cors))
        while web.PRELUDE_END not in first and len(first) < PRELUDE_BYTES_MAX and (more := await self.next(work)):
            first += more
        head, _, first = first.partition(web.PRELUDE_END)
        told = web.prelude(head) or web.broken()
        return Answer(told.status, told.content_type, self._rest(first, work), [*told.headers, *cors])

    async def _rest(self, first: bytes, work: asyncio.Task[Any]) -> AsyncIterator[bytes]:
        if first:
            yield first
        async for chunk in self.chunks(work):
            yield chunk
        if (await work).outcome.function_error:
            raise ConnectionError(
                "the function failed in the middle of its answer"
            )  # the reader must not think it whole
