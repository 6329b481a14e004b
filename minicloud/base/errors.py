"""Every error that a caller can meet: one tree, the docstring is the default message.

    CloudError
    |- InvalidRequest          the request can never succeed as it stands (gRPC INVALID_ARGUMENT)
    |  |- MissingParameter, InvalidParameterValue, InvalidParameterCombination, MalformedId
    |  |- IdempotentParameterMismatch, InvalidPageToken, MessageTooLarge, UnsupportedOperation
    |- NotFound                no such resource for this caller (NOT_FOUND)
    |- AlreadyExists           the name is taken (ALREADY_EXISTS)
    |- Conflict                the resource is not in a state that allows it (FAILED_PRECONDITION)
    |  |- IncorrectState, OperationNotPermitted, DependencyViolation
    |- LimitExceeded           a quota of the account (RESOURCE_EXHAUSTED)
    |- InsufficientCapacity    no host has room (RESOURCE_EXHAUSTED, retryable)
    |- InsufficientStorage     the cloud's own disk is full (RESOURCE_EXHAUSTED, retryable)
    |- Throttled               too many requests (RESOURCE_EXHAUSTED, retryable)
    |- Unauthenticated         missing or wrong credential (UNAUTHENTICATED)
    |- AccessDenied            known caller, not allowed (PERMISSION_DENIED)
    |- Unavailable             the part that answers is away for a moment (UNAVAILABLE, retryable)
    |  |- Fenced               another owner has taken over; this one must stop
    |- DeadlineExceeded        the caller's deadline passed first; whether it was done is unknown (DEADLINE_EXCEEDED)
    |- Internal                our fault (INTERNAL)

`code` is the AWS error code where AWS has one (it reaches the user on both doors), `field` names the
offending parameter, `details` carries what a program may want to read. Doors map classes, never texts.
"""

from __future__ import annotations

from typing import ClassVar, Self


class CloudError(Exception):
    """The request failed."""

    default_code: ClassVar[str] = "InternalError"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        field: str | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.code = code or self.default_code
        self.field = field
        self.details = details or {}
        super().__init__(self.message)

    def copy(self, cause: BaseException | None = None) -> Self:
        """The same error as a new object: one that is raised in many places would collect all their tracebacks."""
        twin = type(self)(self.message, code=self.code, field=self.field, details=dict(self.details))
        twin.__cause__ = cause
        return twin

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidRequest(CloudError):
    """The request is not valid."""

    default_code = "InvalidRequest"


class MissingParameter(InvalidRequest):
    """The request must contain a parameter that is missing."""

    default_code = "MissingParameter"


class InvalidParameterValue(InvalidRequest):
    """A value of a parameter is not valid."""

    default_code = "InvalidParameterValue"


class InvalidParameterCombination(InvalidRequest):
    """Parameters that cannot be used together were used together."""

    default_code = "InvalidParameterCombination"


class MalformedId(InvalidRequest):
    """The id is not of the form that ids of this kind have."""

    default_code = "InvalidId.Malformed"


class IdempotentParameterMismatch(InvalidRequest):
    """The client token was used before with other parameters."""

    default_code = "IdempotentParameterMismatch"


class InvalidPageToken(InvalidRequest):
    """The page token was not issued by this operation for this caller and filter."""

    default_code = "InvalidNextToken"


class MessageTooLarge(InvalidRequest):
    """The message is larger than the service accepts."""

    default_code = "RequestEntityTooLarge"


class UnsupportedOperation(InvalidRequest):
    """The operation or option is not supported here."""

    default_code = "UnsupportedOperation"


class NotFound(CloudError):
    """The resource does not exist."""

    default_code = "NotFound"


class AlreadyExists(CloudError):
    """A resource of this name exists already."""

    default_code = "AlreadyExists"


class Conflict(CloudError):
    """The resource is not in a state that allows the operation."""

    default_code = "Conflict"


class IncorrectState(Conflict):
    """The instance is not in a state from which this operation can be performed."""

    default_code = "IncorrectInstanceState"


class OperationNotPermitted(Conflict):
    """A protection of the resource forbids the operation."""

    default_code = "OperationNotPermitted"


class DependencyViolation(Conflict):
    """Another resource depends on this one."""

    default_code = "DependencyViolation"


class LimitExceeded(CloudError):
    """A quota of the account is exhausted."""

    default_code = "LimitExceeded"


class InsufficientCapacity(CloudError):
    """There is no host with enough free capacity."""

    default_code = "InsufficientInstanceCapacity"
    retryable = True


class InsufficientStorage(CloudError):
    """The disk that holds the cloud's state is full; free space and retry."""

    default_code = "InsufficientStorage"
    retryable = True


class Throttled(CloudError):
    """Too many requests; slow down and retry."""

    default_code = "Throttling"
    retryable = True


class Unauthenticated(CloudError):
    """The credential is missing or not valid."""

    default_code = "AuthFailure"


class AccessDenied(CloudError):
    """The caller may not perform this operation."""

    default_code = "UnauthorizedOperation"


class Unavailable(CloudError):
    """The service is not available at the moment; retry."""

    default_code = "ServiceUnavailable"
    retryable = True


class Fenced(Unavailable):
    """Another owner has taken over; retry, and it will answer."""


class DeadlineExceeded(CloudError):
    """The deadline passed before the answer came; whether the request was carried out is not known."""

    default_code = "RequestTimeout"


class Internal(CloudError):
    """An error inside minicloud; the log has the story under the request id."""

    default_code = "InternalError"
