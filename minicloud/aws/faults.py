"""Errors on the wire: which code and status a CloudError has in a service, and how each protocol writes it.

The model says how a service calls its errors: a shape's name (JSON, CBOR, REST) and, where it differs, a code (query).
A CloudError may carry either. Errors about credentials have other names in each protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minicloud.aws import cbor, jsons
from minicloud.aws.model import Service, Shape
from minicloud.aws.wire import Answer
from minicloud.aws.xml import escape
from minicloud.base import errors
from minicloud.base.errors import CloudError

Refuse = Callable[[CloudError, str], Answer]  # error, request id
XML = "text/xml"
MESSAGE_CHARS_MAX = 4_096  # ours: of an error's text


class Known(NamedTuple):
    """An error of a service: its shape, its code in query, its status (0: by class), the member that has its text.

    `more`: its other members, and the header that each stands in ('': the body).
    """

    shape: str
    code: str
    status: int
    text: str
    more: Mapping[str, str] = {}


# What is said about credentials, by protocol: (query, ec2, JSON and CBOR, REST).
_CREDENTIALS: dict[str, tuple[str, str, str, str]] = {
    "MissingAuthenticationToken": (
        "MissingAuthenticationToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "MissingAuthenticationTokenException",
    ),
    "IncompleteSignature": (
        "IncompleteSignature",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "IncompleteSignatureException",
    ),
    "InvalidClientTokenId": (
        "InvalidClientTokenId",
        "AuthFailure",
        "UnrecognizedClientException",
        "UnrecognizedClientException",
    ),
    "SignatureDoesNotMatch": (
        "SignatureDoesNotMatch",
        "AuthFailure",
        "InvalidSignatureException",
        "InvalidSignatureException",
    ),
    "RequestExpired": ("RequestExpired", "RequestExpired", "InvalidSignatureException", "InvalidSignatureException"),
    "ExpiredToken": ("ExpiredToken", "RequestExpired", "ExpiredTokenException", "ExpiredTokenException"),
}
_COLUMN = {"query": 0, "ec2": 1, "json": 2, "smithy-rpc-v2-cbor": 2, "rest-json": 3}
_UNKNOWN_OPERATION = {"query": "InvalidAction", "ec2": "InvalidAction"}
_STATUS: tuple[tuple[type[CloudError], int], ...] = (
    (errors.Unauthenticated, 403),
    (errors.AccessDenied, 403),
    (errors.Internal, 500),
    (errors.DeadlineExceeded, 503),
    (errors.Unavailable, 503),
    (errors.InsufficientStorage, 503),
    (errors.InsufficientCapacity, 500),
    (errors.MessageTooLarge, 400),
)
_STATUS_OF_CODE = {"RequestEntityTooLarge": 413, "DryRunOperation": 412}
_REST_STATUS: tuple[tuple[type[CloudError], int], ...] = (
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.Conflict, 409),
    (errors.Throttled, 429),
    (errors.LimitExceeded, 429),
)


def unknown_service(name: str, protocol: str) -> CloudError:
    code = _UNKNOWN_OPERATION.get(protocol, "UnknownOperationException")
    return errors.UnsupportedOperation(f"The service {name} is not served by minicloud.", code=code)


def unknown_operation(name: str, protocol: str, *, real: bool = False) -> CloudError:
    """The operation is not AWS's, or (`real`) minicloud does not have it."""
    code = _UNKNOWN_OPERATION.get(protocol, "UnknownOperationException")
    text = f"The action {name[:100]} is not valid for this web service."
    if real:
        text = f"The operation {name} is not served by minicloud."
    return errors.UnsupportedOperation(text, code=code, field="Action")


class Catalogue:
    """The errors of one service. `codes`: query's codes of shapes, where the model has lost them."""

    def __init__(self, service: Service, codes: Mapping[str, str]) -> None:
        self._known: dict[str, Known] = {}
        for name, shape in service.errors.items():
            code = codes.get(name, shape.error.get("code", name))
            text = next((member for member in shape.members if member.lower() == "message"), "message")
            status = int(shape.error.get("httpStatusCode", 0))
            known = Known(name, code, status, text, _more(shape, text))
            self._known[name] = known
            self._known.setdefault(code, known)

    def find(self, code: str) -> Known:
        for name in (code, f"{code}Exception", f"{code}Fault"):
            if name in self._known:
                return self._known[name]
        return Known(code, code, 0, "message")


def _more(shape: Shape, text: str) -> Mapping[str, str]:
    """`Type` says whose fault it is, and is said of every error."""
    others = [(name, member) for name, member in shape.members.items() if name not in (text, "Type")]
    return {name: member.wire_name if member.location == "header" else "" for name, member in others}


@dataclass(frozen=True, slots=True)
class Said:
    """An error as one service says it in one protocol. `members`, `headers`: what it says beside its text."""

    shape: str
    code: str
    status: int
    text: str
    message: str
    sender: bool
    members: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()


def said(error: CloudError, catalogue: Catalogue, protocol: str) -> Said:
    if error.code in _CREDENTIALS and isinstance(error, errors.Unauthenticated):
        names = _CREDENTIALS[error.code]
        shape = names[_COLUMN[protocol]]
        code = shape if protocol in ("query", "ec2") else names[0]
        return Said(shape, code, 401 if code == "AuthFailure" else 403, "message", _clean(error.message), sender=True)
    code = "InternalFailure" if isinstance(error, errors.Internal) and error.code == "InternalError" else error.code
    known = catalogue.find(code)
    status = known.status or _status(error, protocol)
    details = [
        (name, where, _clean(error.details[name])) for name, where in known.more.items() if name in error.details
    ]
    return Said(
        known.shape,
        known.code,
        status,
        known.text,
        _clean(error.message),
        sender=status < 500,
        members={name: value for name, where, value in details if not where},
        headers=tuple((where, value) for _, where, value in details if where),
    )


def _clean(text: str) -> str:
    """Whatever a request had in it can be written, and is not long."""
    return text[:MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode()


def _status(error: CloudError, protocol: str) -> int:
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    if error.code == "UnknownOperationException" and protocol == "rest-json":
        return 404
    table = _STATUS + _REST_STATUS if protocol == "rest-json" else _STATUS
    return next((status for kind, status in table if isinstance(error, kind)), 400)


def query_refusal(service: Service, catalogue: Catalogue) -> Refuse:
    def refuse(error: CloudError, request_id: str) -> Answer:
        one = said(error, catalogue, "query")
        text = (
            f'<ErrorResponse xmlns="{service.xmlns}"><Error><Type>{"Sender" if one.sender else "Receiver"}</Type>'
            f"<Code>{escape(one.code)}</Code><Message>{escape(one.message)}</Message></Error>"
            f"<RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
        )
        return Answer(one.status, XML, text.encode())

    return refuse


def ec2_refusal(catalogue: Catalogue) -> Refuse:
    def refuse(error: CloudError, request_id: str) -> Answer:
        one = said(error, catalogue, "ec2")
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{escape(one.code)}</Code>'
            f"<Message>{escape(one.message)}</Message></Error></Errors>"
            f"<RequestID>{escape(request_id)}</RequestID></Response>"
        )
        return Answer(one.status, XML, text.encode())

    return refuse


def json_refusal(service: Service, catalogue: Catalogue) -> Refuse:
    content_type = f"application/x-amz-json-{service.json_version}"
    prefix = f"com.amazonaws.{service.service_id.lower()}#" if service.query_compatible else ""

    def refuse(error: CloudError, _request_id: str) -> Answer:
        one = said(error, catalogue, "json")
        body = jsons.dumps({"__type": prefix + one.shape, one.text: one.message})
        return Answer(one.status, content_type, body, _query_error(one, service))

    return refuse


def cbor_refusal(service: Service, catalogue: Catalogue) -> Refuse:
    def refuse(error: CloudError, _request_id: str) -> Answer:
        one = said(error, catalogue, "smithy-rpc-v2-cbor")
        body = cbor.dumps({"__type": f"com.amazonaws.{service.service_id.lower()}#{one.shape}", one.text: one.message})
        headers = [("smithy-protocol", "rpc-v2-cbor"), *_query_error(one, service)]
        return Answer(one.status, "application/cbor", body, headers)

    return refuse


def _query_error(one: Said, service: Service) -> list[tuple[str, str]]:
    if not service.query_compatible:
        return []
    return [("x-amzn-query-error", f"{one.code};{'Sender' if one.sender else 'Receiver'}")]


def rest_refusal(catalogue: Catalogue) -> Refuse:
    def refuse(error: CloudError, _request_id: str) -> Answer:
        one = said(error, catalogue, "rest-json")
        body: dict[str, Any] = {"Type": "User" if one.sender else "Service", one.text: one.message, **one.members}
        headers = [("x-amzn-ErrorType", one.shape), *one.headers]
        return Answer(one.status, "application/json", jsons.dumps(body), headers)

    return refuse


def plain_refusal(error: CloudError, request_id: str, protocol: str) -> Answer:
    """For services that nobody here knows: in the form of the protocol that was spoken."""
    status, message = _status(error, "query"), _clean(error.message)
    body = {"__type": error.code, "message": message}
    if protocol == "json":
        return Answer(status, "application/x-amz-json-1.1", jsons.dumps(body))
    if protocol == "smithy-rpc-v2-cbor":
        return Answer(status, "application/cbor", cbor.dumps(body))
    text = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(error.code)}</Code>"
        f"<Message>{escape(message)}</Message></Error><RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    )
    return Answer(status, XML, text.encode(), [("x-amzn-ErrorType", error.code)])
