"""The errors of logs: classes of the one tree (base/errors.py) with CloudWatch Logs' codes and texts."""

from __future__ import annotations

from minicloud.base.errors import AlreadyExists, InvalidParameterValue, LimitExceeded, NotFound, UnsupportedOperation

_INVALID = "InvalidParameterException"


def invalid(text: str, field: str) -> InvalidParameterValue:
    return InvalidParameterValue(text, code=_INVALID, field=field)


def not_of_form(value: str, field: str, form: str) -> InvalidParameterValue:
    text = (
        f"1 validation error detected: Value '{value[:64]}' at '{field}' failed to satisfy constraint: Member must "
        f"satisfy regular expression pattern: {form}"
    )
    return InvalidParameterValue(text, code=_INVALID, field=field)


def bad_pattern(why: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"Invalid filter pattern: {why}", code=_INVALID, field="filterPattern")


def not_supported(what: str, field: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"{what} is not supported by minicloud.", code=_INVALID, field=field)


def no_group() -> NotFound:
    text = "The specified log group does not exist."
    return NotFound(text, code="ResourceNotFoundException", field="logGroupName")


def no_stream() -> NotFound:
    text = "The specified log stream does not exist."
    return NotFound(text, code="ResourceNotFoundException", field="logStreamName")


def group_exists() -> AlreadyExists:
    text = "The specified log group already exists"
    return AlreadyExists(text, code="ResourceAlreadyExistsException", field="logGroupName")


def stream_exists() -> AlreadyExists:
    text = "The specified log stream already exists"
    return AlreadyExists(text, code="ResourceAlreadyExistsException", field="logStreamName")


def too_many(what: str, most: int, field: str) -> LimitExceeded:
    return LimitExceeded(f"There can be {most:,} {what} here.", code="LimitExceededException", field=field)
