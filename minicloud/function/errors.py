"""What AWS says of functions, in its codes (lambda's model) and, where they are known, its words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from minicloud.base.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    InvalidRequest,
    LimitExceeded,
    MessageTooLarge,
    NotFound,
    Throttled,
)


class TooManyRequests(Throttled):
    """Rate Exceeded."""

    default_code: ClassVar[str] = "TooManyRequestsException"


class NoSuchThing(NotFound):
    """The resource you requested does not exist."""

    default_code: ClassVar[str] = "ResourceNotFoundException"


class Taken(AlreadyExists):
    """The resource already exists."""

    default_code: ClassVar[str] = "ResourceConflictException"


class Busy(Conflict):
    """The operation conflicts with the resource's state."""

    default_code: ClassVar[str] = "ResourceConflictException"


def invalid(text: str, field: str) -> InvalidRequest:
    return InvalidRequest(text, code="InvalidParameterValueException", field=field)


def out_of_model(name: str, value: object, text: str) -> InvalidRequest:
    """A value that lambda's model does not allow."""
    shown = str(value)[:256]
    whole = f"1 validation error detected: Value '{shown}' at '{name}' failed to satisfy constraint: {text}"
    return InvalidRequest(whole, code="ValidationException", field=name)


def not_one_of(name: str, value: object, options: Iterable[str]) -> InvalidRequest:
    return out_of_model(name, value, f"Member must satisfy enum value set: [{', '.join(options)}]")


def no_match(name: str, value: object, pattern: str) -> InvalidRequest:
    return out_of_model(name, value, f"Member must satisfy regular expression pattern: {pattern}")


def check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    """Raises ValidationException."""
    least, most = limits
    if value < least:
        raise out_of_model(name, value, f"Member must have value greater than or equal to {least}")
    if value > most:
        raise out_of_model(name, value, f"Member must have value less than or equal to {most}")


def check_length(name: str, value: str, most: int) -> None:
    """Raises ValidationException."""
    if len(value) > most:
        raise out_of_model(name, value, f"Member must have length less than or equal to {most}")


def not_supported(what: str, field: str) -> InvalidRequest:
    return invalid(f"{what} is not supported by minicloud", field)


def policy_too_long(most: int) -> InvalidRequest:
    text = f"The final policy size is bigger than the limit ({most})."
    return InvalidRequest(text, code="PolicyLengthExceededException", field="statementId")


def no_function(arn: str) -> NoSuchThing:
    return NoSuchThing(f"Function not found: {arn}", field="function")


def throttled(reason: str, retry_after_s: float = 1.0) -> TooManyRequests:
    """`reason`: of TooManyRequestsException's model."""
    return TooManyRequests("Rate Exceeded.", details={"Reason": reason, "retryAfterSeconds": f"{retry_after_s:g}"})


def no_room(what: str) -> TooManyRequests:
    """No host has room for another environment; `what` says of which dimension."""
    text = f"No function host has room for another execution environment: {what}"
    return TooManyRequests(text, details={"Reason": "ConcurrentInvocationLimitExceeded", "retryAfterSeconds": "1"})


def no_runtime(runtime: str) -> InvalidRequest:
    text = f"The runtime {runtime} is not installed on the machines of this cloud"
    return InvalidRequest(text, code="InvalidRuntimeException", field="runtime")


def broken_package(why: str) -> InvalidRequest:
    text = f"Lambda was not able to unzip the file: {why}"
    return InvalidRequest(text, code="InvalidZipFileException", field="code")


def too_large(bytes_max: int, bytes_given: int) -> MessageTooLarge:
    text = f"Request must be smaller than {bytes_max} bytes for the InvokeFunction operation"
    return MessageTooLarge(text, code="RequestTooLargeException", field="payload", details={"bytes": str(bytes_given)})


def not_allowed(action: str, arn: str) -> AccessDenied:
    text = f"No resource-based policy allows the {action} action on {arn}"
    return AccessDenied(text, code="AccessDeniedException")


def storage_exceeded() -> LimitExceeded:
    return LimitExceeded("Code storage limit exceeded.", code="CodeStorageExceededException", field="code")
