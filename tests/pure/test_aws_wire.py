"""botocore's client half -> our parser -> our serialiser -> botocore's client half: nothing changes on the way.

For every service and every protocol that it is spoken in: a random operation with random parameters, and a random
result. Shapes are read from botocore's own model objects, not from ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from minicloud.aws import model
from minicloud.aws.face import Face, faces
from minicloud.aws.services import KNOWN
from minicloud.aws.wire import EPOCH, Answer, Request
from minicloud.aws.xml import Lasting, structure_writer

# SQS's query names are not in the model, so botocore cannot speak them: tests/contract/test_aws_sqs.py does.
SPOKEN = [(one.name, protocol) for one in KNOWN for protocol in model.load(one.name, ()).protocols
          if (one.name, protocol) != ("sqs", "query")]  # fmt: skip
DEPTH_MAX = 4
TEXT = st.text(st.sampled_from("abcXYZ019-_.:/ =+%&<>\"'é€\U0001f600\t\n"), max_size=8)
PLAIN = st.text("abcXYZ019-_.~", min_size=1, max_size=8)
TIMES = st.integers(0, 4_102_444_800_000).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
WHOLE_TIMES = st.integers(0, 4_102_444_800).map(lambda seconds: EPOCH + timedelta(seconds=seconds))


@cache
def botocore_model(service: str, protocol: str) -> ServiceModel:
    raw = Loader().load_service_model(service, "service-2")
    metadata = {**raw["metadata"], "protocol": protocol, "protocols": [protocol]}
    metadata.setdefault("jsonVersion", "1.1")
    return ServiceModel({**raw, "metadata": metadata}, service)


@cache
def face_of(service: str, protocol: str) -> Face:
    return faces(model.load(service), {})[protocol]


@cache
def names(service: str, protocol: str) -> list[str]:
    found = botocore_model(service, protocol)
    return [one for one in found.operation_names if not _streams(found.operation_model(one))]


def _streams(operation: OperationModel) -> bool:
    """A body that is no document: events, or what a function answered (tests/contract/test_aws_gateway.py)."""
    output = operation.output_shape
    payload = output.serialization.get("payload") if output is not None else None
    raw = payload is not None and output.members[payload].type_name == "blob"
    return raw or operation.has_event_stream_output or operation.has_event_stream_input


class Values:
    """Strategies for values of botocore's shapes. JSON has no infinity that botocore understands."""

    def __init__(self, protocol: str, *, output: bool) -> None:
        self._protocol = protocol
        self._output = output

    def of(self, shape: Any, depth: int = 0) -> SearchStrategy[Any]:
        location = shape.serialization.get("location", "")
        if shape.type_name == "structure":
            return self._structure(shape, depth)
        if shape.type_name == "list":
            return st.lists(self.of(shape.member, depth + 1), min_size=int(bool(location)), max_size=2)
        if shape.type_name == "map":
            keys = PLAIN if location else TEXT
            return st.dictionaries(keys, self.of(shape.value, depth + 1), max_size=2)
        return self._scalar(shape, location)

    def _structure(self, shape: Any, depth: int) -> SearchStrategy[Any]:
        if getattr(shape, "is_document_type", False):
            return st.dictionaries(TEXT, TEXT, max_size=2)
        members = {
            name: self.of(member, depth + 1)
            for name, member in shape.members.items()
            if depth < DEPTH_MAX or member.type_name not in ("structure", "list", "map")
        }
        if not members:
            return st.just({})
        if getattr(shape, "is_tagged_union", False):
            return st.one_of([st.fixed_dictionaries({name: one}) for name, one in members.items()])
        needed = {
            name: members[name]
            for name, member in shape.members.items()
            if member.serialization.get("location") == "uri" and name in members
        }
        return st.deferred(lambda: _some_of(members, needed))

    def _scalar(self, shape: Any, location: str) -> SearchStrategy[Any]:
        kind = shape.type_name
        if kind in ("string", "character"):
            return PLAIN if location in ("header", "headers", "uri") else TEXT
        if kind == "boolean":
            return st.booleans()
        if kind == "integer":
            if location == "statusCode":
                return st.integers(200, 203)
            return st.integers(-(2**31), 2**31 - 1)
        if kind == "long":
            return st.integers(-(2**63), 2**63 - 1)
        if kind in ("float", "double"):
            return st.floats(allow_nan=False, allow_infinity=self._protocol != "json", width=32)
        if kind == "blob":
            return st.binary(max_size=6)
        assert kind == "timestamp"
        form = shape.serialization.get("timestampFormat", "rfc822" if location == "header" else "")
        return WHOLE_TIMES if form == "rfc822" or not self._output else TIMES


@st.composite
def _some_of(draw: DrawFn, members: dict[str, SearchStrategy[Any]], needed: dict[str, SearchStrategy[Any]]) -> Any:
    chosen = draw(st.lists(st.sampled_from(sorted(members)), max_size=4, unique=True))
    return {name: draw(members[name]) for name in dict.fromkeys([*needed, *chosen])}


def plain(value: Any, protocol: str) -> Any:
    """Times as seconds; what XML and query cannot say (empty lists and structures) left out."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp(), 3)
    if isinstance(value, dict):
        kept = {name: plain(one, protocol) for name, one in value.items()}
        return {name: one for name, one in kept.items() if not _nothing(one, protocol)}
    if isinstance(value, list):
        return [one for one in (plain(one, protocol) for one in value) if not _nothing(one, protocol)]
    if isinstance(value, float):
        return value if not math.isfinite(value) else float(f"{value:.12g}")
    return value


def _nothing(value: Any, protocol: str) -> bool:
    return protocol in ("query", "ec2") and value in ({}, [])


def sent(service: str, protocol: str, name: str, params: dict[str, Any]) -> Request:
    operation = botocore_model(service, protocol).operation_model(name)
    made = create_serializer(protocol, include_validation=False).serialize_to_request(params, operation)
    prepare_request_dict(made, "http://127.0.0.1:4566", user_agent="test")
    prepared = create_request_object(made).prepare()
    url = prepared.url.removeprefix("http://127.0.0.1:4566")
    path, _, query = url.partition("?")
    body = prepared.body or b""
    headers = {
        key.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for key, value in prepared.headers.items()
    }
    return Request(prepared.method, path, query, headers, body.encode() if isinstance(body, str) else bytes(body))


def received(service: str, protocol: str, name: str, answer: Answer) -> dict[str, Any]:
    operation = botocore_model(service, protocol).operation_model(name)
    headers = {"content-type": answer.content_type, **dict(answer.headers)}
    whole = {"status_code": answer.status, "headers": headers, "body": answer.body}
    parsed: dict[str, Any] = create_parser(protocol).parse(whole, operation.output_shape)
    parsed.pop("ResponseMetadata", None)
    return parsed


@st.composite
def calls(draw: DrawFn, service: str, protocol: str, *, output: bool) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(names(service, protocol)))
    operation = botocore_model(service, protocol).operation_model(name)
    shape = operation.output_shape if output else operation.input_shape
    return name, {} if shape is None else draw(Values(protocol, output=output).of(shape))


CHECKS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("service", "protocol"), SPOKEN)
def test_parameters_survive(service: str, protocol: str) -> None:
    face = face_of(service, protocol)

    @CHECKS
    @given(calls(service, protocol, output=False))
    def check(call: tuple[str, dict[str, Any]]) -> None:
        name, params = call
        request = sent(service, protocol, name, params)
        found, labels = face.find(request)
        assert found == name
        read = plain(face.codecs[name].read(request, labels), protocol)
        assert said(read) == said(plain(params, protocol))

    check()


def said(params: dict[str, Any]) -> dict[str, Any]:
    """An empty payload and an absent one are the same bytes."""
    return {name: one for name, one in params.items() if one not in (b"", "", {})}


@pytest.mark.parametrize(("service", "protocol"), SPOKEN)
def test_results_survive(service: str, protocol: str) -> None:
    face = face_of(service, protocol)

    @CHECKS
    @given(calls(service, protocol, output=True))
    def check(call: tuple[str, dict[str, Any]]) -> None:
        name, result = call
        answer = face.codecs[name].write(result, "request-1")
        assert without_noise(plain(received(service, protocol, name, answer), protocol), result) == plain(
            result, protocol
        )

    check()


def without_noise(read: Any, result: dict[str, Any]) -> Any:
    """What a client makes of an absent payload or status."""
    return {name: one for name, one in read.items() if name in result or one not in (b"", "", 200, 201, 202, 204)}


def test_every_operation_of_every_service_compiles() -> None:
    def all_faces() -> Iterator[Face]:
        for service, protocol in SPOKEN:
            yield face_of(service, protocol)

    assert sum(len(face.codecs) for face in all_faces()) > 1_500


def test_what_lasts_is_written_once_and_let_go() -> None:
    shape = model.load("ec2", ["DescribeInstances"]).operations["DescribeInstances"].output
    write = structure_writer(shape)
    one = Lasting({"InstanceId": "i-1", "Tags": [{"Key": "a", "Value": "<"}]})

    def written() -> str:
        out: list[str] = []
        write({"Reservations": [{"Instances": [one, {"InstanceId": "i-2"}]}]}, out)
        return "".join(out)

    first = written()
    assert "<instanceId>i-1</instanceId>" in first and "&lt;" in first and "i-2" in first
    one.let_go()
    assert not one and written() == first
