"""The links in what a broker sends: the certificate, ConfirmSubscription and Unsubscribe. Raw ASGI, SNS's XML.

    GET <base>/SimpleNotificationService-HASH.pem
    GET <base>/?Action=ConfirmSubscription&TopicArn=...&Token=...
    GET <base>/?Action=Unsubscribe&SubscriptionArn=...

Nobody proves who he is here: a token, or the random part of a subscription's ARN, is all that it takes, as in AWS. Only
GET does something: what looks at links with HEAD changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from minicloud.base.errors import AccessDenied, CloudError, NotFound, Unavailable
from minicloud.topic import errors
from minicloud.topic.seal import SigningKey
from minicloud.topic.service import TopicService

log = logging.getLogger(__name__)

_XMLNS = "http://sns.amazonaws.com/doc/2010-03-31/"
App = Callable[[dict[str, Any], Any, Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]


class _Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/xml"


def topic_app(service: TopicService, key: SigningKey, base_path: str, new_request_id: Callable[[], str]) -> App:
    """base_path: what the paths start with, without a slash at its end."""

    async def app(scope: dict[str, Any], _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        request_id = new_request_id()
        try:
            answer = await _answer(service, key, scope, (base_path, request_id))
        except CloudError as error:
            answer = _refusal(error, request_id)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            answer = _Answer(500, b"")
        await _send(send, answer, scope["method"])

    return app


async def _answer(service: TopicService, key: SigningKey, scope: dict[str, Any], where: tuple[str, str]) -> _Answer:
    base_path, request_id = where
    if scope["method"] not in ("GET", "HEAD"):
        return _Answer(405, b"")
    path = scope["path"]
    if path == f"{base_path}/{key.certificate_name}":
        return _Answer(200, key.certificate, "application/x-pem-file")
    if path != f"{base_path}/":
        return _Answer(404, b"")
    given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    if scope["method"] == "HEAD":
        return _Answer(200, b"")
    return await _act(service, given, request_id)


async def _act(service: TopicService, given: dict[str, str], request_id: str) -> _Answer:
    action = given.get("Action", "")
    if action == "ConfirmSubscription":
        arn, token = given.get("TopicArn", ""), given.get("Token", "")
        subscription = await service.confirm(arn, token, known=False)
        return _done(action, f"<SubscriptionArn>{escape(subscription.arn)}</SubscriptionArn>", request_id)
    if action == "Unsubscribe":
        await service.leave(given.get("SubscriptionArn", ""))
        return _done(action, "", request_id)
    raise errors.invalid("Action", "Action")


def _done(action: str, result: str, request_id: str) -> _Answer:
    inner = f"<{action}Result>{result}</{action}Result>" if result else ""
    text = (
        f'<{action}Response xmlns="{_XMLNS}">{inner}'
        f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{action}Response>"
    )
    return _Answer(200, text.encode())


def _refusal(error: CloudError, request_id: str) -> _Answer:
    text = (
        f'<ErrorResponse xmlns="{_XMLNS}"><Error><Type>Sender</Type><Code>{escape(error.code)}</Code>'
        f"<Message>{escape(error.message)}</Message></Error><RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    )
    return _Answer(_status(error), text.encode())


def _status(error: CloudError) -> int:
    statuses: tuple[tuple[type[CloudError], int], ...] = ((NotFound, 404), (AccessDenied, 403), (Unavailable, 503))
    return next((status for kind, status in statuses if isinstance(error, kind)), 503 if error.retryable else 400)


async def _send(send: Callable[[dict[str, Any]], Awaitable[None]], answer: _Answer, method: str) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if method != "HEAD" else b""})
