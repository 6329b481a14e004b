"""The links in what a broker sends: the certificate, ConfirmSubscription and Unsubscribe. SNS's XML.

    GET <base>/SimpleNotificationService-HASH.pem
    GET <base>/?Action=ConfirmSubscription&TopicArn=...&Token=...
    GET <base>/?Action=Unsubscribe&SubscriptionArn=...

Nobody proves who he is here: a token, or the random part of a subscription's ARN, is all that it takes, as in AWS. Only
GET does something: what looks at links with HEAD changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from minicloud.aws.wire import Answer, Request
from minicloud.aws.xml import escape
from minicloud.base.errors import AccessDenied, CloudError, NotFound, Unavailable
from minicloud.topic import errors
from minicloud.topic.seal import SigningKey
from minicloud.topic.service import TopicService

log = logging.getLogger(__name__)

_XMLNS = "http://sns.amazonaws.com/doc/2010-03-31/"
_XML = "text/xml"
_HEADERS = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]


def topic_links(
    service: TopicService, key: SigningKey, base_path: str, new_request_id: Callable[[], str]
) -> Callable[[Request], Awaitable[Answer]]:
    """For aws.http.serve. base_path: what the paths start with, without a slash at its end."""

    async def handle(request: Request) -> Answer:
        request_id = new_request_id()
        try:
            answer = await _answer(service, key, request, (base_path, request_id))
        except CloudError as error:
            answer = _refusal(error, request_id)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = Answer(500, _XML, b"")
        answer.headers += _HEADERS
        return answer

    return handle


async def _answer(service: TopicService, key: SigningKey, request: Request, where: tuple[str, str]) -> Answer:
    base_path, request_id = where
    if request.method not in ("GET", "HEAD"):
        return Answer(405, _XML, b"")
    if request.path == f"{base_path}/{key.certificate_name}":
        return Answer(200, "application/x-pem-file", key.certificate)
    if request.path != f"{base_path}/":
        return Answer(404, _XML, b"")
    if request.method == "HEAD":
        return Answer(200, _XML, b"")
    return await _act(service, dict(parse_qsl(request.query, keep_blank_values=True)), request_id)


async def _act(service: TopicService, given: dict[str, str], request_id: str) -> Answer:
    action = given.get("Action", "")
    if action == "ConfirmSubscription":
        arn, token = given.get("TopicArn", ""), given.get("Token", "")
        subscription = await service.confirm(arn, token, known=False)
        return _done(action, f"<SubscriptionArn>{escape(subscription.arn)}</SubscriptionArn>", request_id)
    if action == "Unsubscribe":
        await service.leave(given.get("SubscriptionArn", ""))
        return _done(action, "", request_id)
    raise errors.invalid("Action", "Action")


def _done(action: str, result: str, request_id: str) -> Answer:
    inner = f"<{action}Result>{result}</{action}Result>" if result else ""
    text = (
        f'<{action}Response xmlns="{_XMLNS}">{inner}'
        f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Answer(200, _XML, text.encode())


def _refusal(error: CloudError, request_id: str) -> Answer:
    text = (
        f'<ErrorResponse xmlns="{_XMLNS}"><Error><Type>Sender</Type><Code>{escape(error.code)}</Code>'
        f"<Message>{escape(error.message)}</Message></Error><RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    )
    return Answer(_status(error), _XML, text.encode())


def _status(error: CloudError) -> int:
    statuses: tuple[tuple[type[CloudError], int], ...] = ((NotFound, 404), (AccessDenied, 403), (Unavailable, 503))
    return next((status for kind, status in statuses if isinstance(error, kind)), 503 if error.retryable else 400)
