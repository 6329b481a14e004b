"""Errors of the gRPC door, both directions: CloudError -> google.rpc.Status -> the same CloudError class at the client.

    STATUS   class of base/errors.py -> grpc.StatusCode; a class that is absent answers with its nearest ancestor's
    details  ErrorInfo{reason: AWS-style code, domain, metadata: details + `error` (class) + `field`}, RequestInfo,
             BadRequest.FieldViolation when a field is to blame, QuotaFailure of LimitExceeded, RetryInfo of retryables

Everything travels in trailers, which peers bound at 8 KiB (gRPC's default): texts are cut, never dropped. The client
half needs grpcio and googleapis-common-protos only; a status without our details (gRPC's own refusals, proxies, other
servers) still becomes a typed error, by its code.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as rich
from google.rpc.status_pb2 import Status

from minicloud.base import errors
from minicloud.base.errors import CloudError

DOMAIN = "minicloud"
REQUEST_ID = "x-request-id"
STATUS_DETAILS = "grpc-status-details-bin"
MESSAGE_BYTES_MAX = 1024  # grpc-message is percent-encoded: three times this at worst
DETAILS_BYTES_MAX = 1024
RETRY_AFTER_S = 1.0  # unless details["retry_after_s"] says otherwise
QUOTA = "quota"  # details of a LimitExceeded: the quota's name ...
ACCOUNT = "account"  # ... and whose it is
_CLASS = "error"  # reserved keys of ErrorInfo.metadata: the class, the field
_FIELD = "field"

STATUS: dict[type[CloudError], grpc.StatusCode] = {
    CloudError: grpc.StatusCode.UNKNOWN,
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InsufficientCapacity: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InsufficientStorage: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Throttled: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}

# What a status means that came without our details: gRPC itself, a proxy or a foreign server spoke.
_BARE: dict[grpc.StatusCode, type[CloudError]] = {
    **{code: kind for kind, code in reversed(STATUS.items())},
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Throttled,  # too many calls at once
    grpc.StatusCode.UNIMPLEMENTED: errors.UnsupportedOperation,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.CANCELLED: errors.Unavailable,  # by the other side: one's own cancel never becomes an RpcError
    grpc.StatusCode.DATA_LOSS: errors.Internal,
}
# gRPC core's own refusal of a big message is RESOURCE_EXHAUSTED too, told apart by nothing but its text.
_TOO_LARGE = "larger than max"
# What gRPC core tells of a connection that could not be made: only where to, and why, is of use to people.
_NOT_CONNECTED = re.compile(r"failed to connect to all addresses; last error: .*?ipv[46]:(\S+): (.+)", re.DOTALL)
_NOT_RESOLVED = re.compile(r"errors resolving (\S+): .*", re.DOTALL)


def _tree(kind: type[CloudError]) -> list[type[CloudError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


_BY_NAME = {kind.__name__: kind for kind in _tree(CloudError) if kind.__module__ == errors.__name__}
# Codes of one entry of a batch, which comes without its class.
_OF_ENTRIES: dict[str, type[CloudError]] = {
    "AuthorizationError": errors.AccessDenied,
    "BatchRequestTooLong": errors.MessageTooLarge,
    "InvalidParameter": errors.InvalidParameterValue,
    "MessageNotInflight": errors.Conflict,
    "OverLimit": errors.LimitExceeded,
    "ParameterValueInvalid": errors.InvalidParameterValue,
    "QueueDoesNotExist": errors.NotFound,
}
# Codes that a class shares with its parent mean the parent.
_BY_REASON = {kind.default_code: kind for kind in reversed(_BY_NAME.values()) if kind is not CloudError}


def status_of(error: CloudError) -> grpc.StatusCode:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def to_status(error: CloudError, request_id: str) -> Status:
    """The error as google.rpc.Status, small enough for any peer's trailers."""
    code: Any = status_of(error).value
    status = Status(code=code[0], message=_cut(error.message, MESSAGE_BYTES_MAX))
    for detail in _details(error, request_id):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(error: CloudError, request_id: str) -> list[Message]:
    text = _cut(error.message, 256)
    details: list[Message] = [
        rich.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=_metadata(error)),
        rich.RequestInfo(request_id=request_id),
    ]
    if error.field:
        violation = rich.BadRequest.FieldViolation(field=_cut(error.field, 256), description=text)
        details.append(rich.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.LimitExceeded):
        subject = _cut(f"account:{error.details.get(ACCOUNT, '')}/{error.details.get(QUOTA, error.code)}", 256)
        details.append(rich.QuotaFailure(violations=[rich.QuotaFailure.Violation(subject=subject, description=text)]))
    if error.retryable:
        retry = rich.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(float(error.details.get("retry_after_s", RETRY_AFTER_S)) * 1e9))
        details.append(retry)
    return details


def _metadata(error: CloudError) -> dict[str, str]:
    metadata = {_CLASS: type(error).__name__}
    if error.field:
        metadata[_FIELD] = _cut(error.field, 256)
    left = DETAILS_BYTES_MAX
    for key, value in error.details.items():
        text = _cut(value, min(left, 512))
        left -= len(key) + len(text.encode())
        if left < 0:
            break
        metadata.setdefault(key, text)
    return metadata


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, marked where cut; what cannot be encoded becomes '?'."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= size:
        return raw.decode()
    return raw[: max(size - 3, 0)].decode("utf-8", "ignore") + "..."


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: CloudError, request_id: str) -> NoReturn:
    """End the call with this error. Always raises (grpc.aio's AbortError)."""
    status = to_status(error, request_id)
    trailers = ((REQUEST_ID, request_id), (STATUS_DETAILS, status.SerializeToString()))
    await context.abort(status_of(error), status.message, trailers)


def from_rpc_error(error: grpc.RpcError) -> CloudError:
    """The typed error behind a failed call, sync or asyncio; `request_id`, `retry_after_s` in its details if known."""
    call: Any = error
    trailers = dict(iter(call.trailing_metadata() or ()))
    found = _from_status(trailers.get(STATUS_DETAILS))
    if found is None:
        found = _bare(call.code(), call.details() or "")
    if REQUEST_ID in trailers:
        found.details.setdefault("request_id", str(trailers[REQUEST_ID]))
    return found


def from_status(raw: bytes) -> CloudError:
    """The typed error in a google.rpc.Status, as `to_status` writes it."""
    return _from_status(raw) or errors.Internal("an error that cannot be read")


def _bare(code: grpc.StatusCode, text: str) -> CloudError:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in text:
        return errors.MessageTooLarge(text)
    if code is grpc.StatusCode.UNAVAILABLE:
        text = _plain(text)
    return _BARE.get(code, CloudError)(text or None)


def _plain(text: str) -> str:
    if found := _NOT_CONNECTED.fullmatch(text):
        return f"cannot connect to {found[1]}: {found[2].removeprefix('Failed to connect to remote host: ')}"
    if found := _NOT_RESOLVED.fullmatch(text):
        return f"cannot connect to {found[1]}: there is no such name"
    return text


def from_code(code: str, message: str, field: str = "", sender_fault: bool = True) -> CloudError:
    """The typed error of one entry of a batch: its class by its code, else by whose fault it is."""
    kind = _OF_ENTRIES.get(code) or _BY_REASON.get(code) or (errors.InvalidRequest if sender_fault else errors.Internal)
    return kind(message, code=code, field=field or None)


def _from_status(raw: Any) -> CloudError | None:
    if not isinstance(raw, bytes):
        return None
    info, retry = rich.ErrorInfo(), rich.RetryInfo()
    try:
        status = Status.FromString(raw)
        for detail in status.details:
            _ = detail.Unpack(info) or detail.Unpack(retry)
    except DecodeError:
        return None
    if info.domain != DOMAIN:
        return None
    details = dict(info.metadata)
    name, field = details.pop(_CLASS, ""), details.pop(_FIELD, None)
    kind = _BY_NAME.get(name) or _BY_REASON.get(info.reason) or _by_number(status.code)
    if retry.HasField("retry_delay"):
        details.setdefault("retry_after_s", f"{retry.retry_delay.ToNanoseconds() / 1e9:g}")
    return kind(status.message, code=info.reason, field=field, details=details)


def _by_number(number: int) -> type[CloudError]:
    return next((kind for code, kind in _BARE.items() if code.value[0] == number), CloudError)
