"""Errors on the wire: every class has a status and comes back as itself; texts of any size fit into trailers."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as rich
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base import errors
from minicloud.base.errors import CloudError
from minicloud.rpc.errors import DOMAIN, REQUEST_ID, STATUS, STATUS_DETAILS, from_rpc_error, status_of, to_status


def classes(kind: type[CloudError] = CloudError) -> list[type[CloudError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in classes(child))]


ALL = [kind for kind in classes() if kind.__module__ == errors.__name__]


class Call(grpc.RpcError):
    """A failed call as a client sees it."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, Any], ...] | None = None
    ) -> None:
        self._parts = (code, details, trailers)

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> Any:
        return self._parts[2]


def sent(error: CloudError) -> Call:
    status = to_status(error, "req-1")
    return Call(status_of(error), status.message, ((REQUEST_ID, "req-1"), (STATUS_DETAILS, status.SerializeToString())))


def details_of(error: CloudError, kind: type[Any]) -> list[Any]:
    found = []
    for detail in to_status(error, "req-1").details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", ALL)
def test_every_class_has_a_status_of_its_own_or_its_parents(kind: type[CloudError]) -> None:
    nearest = next(above for above in kind.__mro__ if above in STATUS)
    assert nearest is not CloudError or kind is CloudError, f"{kind.__name__} has no row in STATUS"
    assert status_of(kind()) is STATUS[nearest]


@pytest.mark.parametrize("kind", ALL)
def test_comes_back_as_the_same_class(kind: type[CloudError]) -> None:
    error = kind("what happened", code="Some.Code", field="tags[3].key", details={"hosts": "7"})
    back = from_rpc_error(sent(error))
    assert type(back) is kind
    assert (back.message, back.code, back.field) == ("what happened", "Some.Code", "tags[3].key")
    assert back.details["hosts"] == "7"
    assert back.details["request_id"] == "req-1"


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not CloudError])
def test_a_peer_that_sends_no_class_name_is_understood_by_its_reason(kind: type[CloudError]) -> None:
    status = to_status(kind(), "req-1")
    info = rich.ErrorInfo(reason=kind.default_code, domain=DOMAIN)
    status.details[0].Pack(info)
    back = from_rpc_error(Call(status_of(kind()), status.message, ((STATUS_DETAILS, status.SerializeToString()),)))
    assert isinstance(kind(), type(back))
    assert type(back).default_code == kind.default_code


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect", errors.Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", errors.Throttled),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SERVER: Received message larger than max (5 vs. 4)",
            errors.MessageTooLarge,
        ),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.UnsupportedOperation),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, "RST_STREAM", errors.Internal),
        (grpc.StatusCode.UNKNOWN, "Stream removed", CloudError),
    ],
)
@pytest.mark.parametrize("trailers", [None, (), ((STATUS_DETAILS, b"\xff\xff"),)])
def test_a_status_without_our_details(
    code: grpc.StatusCode, text: str, kind: type[CloudError], trailers: tuple[tuple[str, Any], ...] | None
) -> None:
    back = from_rpc_error(Call(code, text, trailers))
    assert type(back) is kind
    assert back.message == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:7077: Failed to connect to remote "
            "host: Connection refused",
            "cannot connect to 127.0.0.1:7077: Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv6:%5B::1%5D:1: connection timed out",
            "cannot connect to %5B::1%5D:1: connection timed out",
        ),
        (
            "errors resolving nohost:7077: [field:hostname lookup error:address lookup failed for nohost:7077: none]",
            "cannot connect to nohost:7077: there is no such name",
        ),
    ],
)
def test_why_there_is_no_connection_is_told_in_plain_words(text: str, plain: str) -> None:
    assert from_rpc_error(Call(grpc.StatusCode.UNAVAILABLE, text, None)).message == plain


def test_no_status_code_is_left_without_a_class() -> None:
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert isinstance(from_rpc_error(Call(code, "")), CloudError)


def test_field_quota_and_retry_are_said_in_googles_words() -> None:
    wrong = errors.InvalidParameterValue("must be positive", field="max_count")
    violation = details_of(wrong, rich.BadRequest)[0].field_violations[0]
    assert (violation.field, violation.description) == ("max_count", "must be positive")
    assert not details_of(wrong, rich.RetryInfo)
    full = errors.LimitExceeded("no", details={"quota": "vcpus", "account": "123456789012"})
    assert details_of(full, rich.QuotaFailure)[0].violations[0].subject == "account:123456789012/vcpus"
    busy = errors.Throttled(details={"retry_after_s": "0.25"})
    assert details_of(busy, rich.RetryInfo)[0].retry_delay.ToMilliseconds() == 250
    assert from_rpc_error(sent(busy)).details["retry_after_s"] == "0.25"
    assert details_of(busy, rich.RequestInfo)[0].request_id == "req-1"


texts = st.text(st.characters(), max_size=3_000)  # lone surrogates included


@given(texts, texts, st.dictionaries(st.text("abc_", min_size=1, max_size=9), texts, max_size=20))
def test_whatever_is_said_fits_into_trailers(message: str, field: str, details: dict[str, str]) -> None:
    error = errors.InsufficientCapacity(message or "-", field=field, details=details)
    status = to_status(error, "r" * 128)
    on_the_wire = 3 * len(status.message.encode()) + len(status.SerializeToString()) * 4 // 3
    assert on_the_wire < 8 * 1024 - 512
    back = from_rpc_error(sent(error))
    assert type(back) is errors.InsufficientCapacity
    assert (
        back.message.removesuffix("...")
        == (message or "-").encode("utf-8", "replace").decode()[: len(back.message.removesuffix("..."))]
    )


def test_details_never_overwrite_the_class() -> None:
    error = errors.NotFound(details={"error": "Internal"})
    assert type(from_rpc_error(sent(error))) is errors.NotFound
