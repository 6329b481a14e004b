"""Services as botocore's models describe them, read once into small objects; the models themselves are let go.

Only data of botocore is used, none of its client. A shape is one object however often it is named, so the graph has
cycles where the model has (a filter within a filter): whoever compiles it remembers by `Shape.name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from botocore.loaders import Loader

from minicloud.aws import sqs_names


@dataclass(slots=True, eq=False)
class Member:
    """A place where a shape stands, and how this place is called on the wire ('' where it has no name of its own)."""

    shape: Shape
    wire_name: str = ""
    query_name: str = ""
    location: str = ""  # uri querystring header headers statusCode
    flattened: bool = False
    timestamp_format: str = ""
    json_text: bool = False  # a JSON value in a string


@dataclass(slots=True, eq=False)
class Shape:
    name: str
    kind: str  # structure list map string blob boolean integer long float double timestamp
    members: dict[str, Member] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    member: Member | None = None  # of a list
    key: Member | None = None
    value: Member | None = None
    flattened: bool = False
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    enum: tuple[str, ...] = ()
    timestamp_format: str = ""
    payload: str = ""
    event_stream: bool = False
    event_payload: str = ""
    document: bool = False
    error: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    name: str
    method: str
    uri: str
    status: int
    input: Shape | None
    output: Shape | None
    wrapper: str  # the element that a query answer's members stand in


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """`errors`: every error shape of the service, by shape name."""

    name: str
    version: str
    protocols: tuple[str, ...]
    signing_name: str
    target_prefix: str
    json_version: str
    xmlns: str
    query_compatible: bool
    service_id: str
    operations: Mapping[str, Operation]
    errors: Mapping[str, Shape]
    known: frozenset[str]  # names of all operations that AWS has

    @property
    def protocol(self) -> str:
        """The protocol that the newest SDKs speak."""
        return self.protocols[0]


# Protocols that the model no longer names and old SDKs still speak.
_OLDER = {"sqs": ("query",)}
_NAMESPACES = {"sqs": "http://queue.amazonaws.com/doc/2012-11-05/"}


@lru_cache(maxsize=64)
def _service(name: str, served: frozenset[str]) -> Service:
    raw = Loader().load_service_model(name, "service-2")
    about = raw["metadata"]
    shapes = _Shapes(raw["shapes"], lost_names=name == "sqs")
    own = tuple(one for one in about.get("protocols", (about["protocol"],)))
    return Service(
        name=name,
        version=about["apiVersion"],
        protocols=own + _OLDER.get(name, ()),
        signing_name=about.get("signingName", about["endpointPrefix"]),
        target_prefix=about.get("targetPrefix", ""),
        json_version=about.get("jsonVersion", "1.1"),
        xmlns=about.get("xmlNamespace", _NAMESPACES.get(name, "")),
        query_compatible="awsQueryCompatible" in about,
        service_id=about["serviceId"],
        operations={one: _operation(raw["operations"][one], shapes) for one in sorted(served)},
        errors={one: shapes.shape(one) for one, body in raw["shapes"].items() if body.get("exception")},
        known=frozenset(raw["operations"]),
    )


def load(name: str, operations: Iterable[str] | None = None) -> Service:
    """Service `name` with these operations (None: all that AWS has). Raises KeyError for one that AWS does not have."""
    if operations is None:
        operations = Loader().load_service_model(name, "service-2")["operations"]
    return _service(name, frozenset(operations))


def known_operations(name: str) -> frozenset[str]:
    return frozenset(Loader().load_service_model(name, "service-2")["operations"])


def _operation(raw: Mapping[str, Any], shapes: _Shapes) -> Operation:
    given, result, http = raw.get("input"), raw.get("output"), raw["http"]
    return Operation(
        name=raw["name"],
        method=http["method"],
        uri=http["requestUri"],
        status=int(http.get("responseCode", 200)),
        input=shapes.shape(given["shape"]) if given else None,
        output=shapes.shape(result["shape"]) if result else None,
        wrapper=result.get("resultWrapper", "") if result else "",
    )


class _Shapes:
    """The shapes of one model, made when they are first asked for."""

    def __init__(self, raw: Mapping[str, Mapping[str, Any]], *, lost_names: bool) -> None:
        self._raw = raw
        self._lost_names = lost_names
        self._made: dict[str, Shape] = {}

    def shape(self, name: str) -> Shape:
        made = self._made.get(name)
        if made is None:
            raw = self._raw[name]
            made = self._made[name] = _bare(name, raw)
            made.members = {key: self._member(body) for key, body in raw.get("members", {}).items()}
            for part in ("member", "key", "value"):
                if part in raw:
                    setattr(made, part, self._member(raw[part]))
            if self._lost_names:
                _name_parts(made)
            payloads = [key for key, body in raw.get("members", {}).items() if body.get("eventpayload")]
            made.event_payload = payloads[0] if payloads else ""
        return made

    def _member(self, raw: Mapping[str, Any]) -> Member:
        return Member(
            self.shape(raw["shape"]),
            wire_name=raw.get("locationName", ""),
            query_name=raw.get("queryName", ""),
            location=raw.get("location", ""),
            flattened=bool(raw.get("flattened")),
            timestamp_format=raw.get("timestampFormat", ""),
            json_text=bool(raw.get("jsonvalue")),
        )


def _name_parts(shape: Shape) -> None:
    """What SQS calls these in a query."""
    if shape.member is not None:
        shape.member.query_name = sqs_names.ELEMENTS.get(shape.name, "")
    if shape.key is not None and shape.value is not None and shape.name in sqs_names.MAPS:
        _, shape.key.query_name, shape.value.query_name = sqs_names.MAPS[shape.name]
    for member in shape.members.values():
        if member.shape.name in sqs_names.MAPS:
            member.query_name = sqs_names.MAPS[member.shape.name][0]


def _bare(name: str, raw: Mapping[str, Any]) -> Shape:
    kind = {"character": "string", "bigdecimal": "double", "short": "integer"}.get(raw["type"], raw["type"])
    return Shape(
        name,
        kind,
        required=tuple(raw.get("required", ())),
        flattened=bool(raw.get("flattened")),
        minimum=raw.get("min"),
        maximum=raw.get("max"),
        pattern=raw.get("pattern", ""),
        enum=tuple(raw.get("enum", ())),
        timestamp_format=raw.get("timestampFormat", ""),
        payload=raw.get("payload", ""),
        event_stream=bool(raw.get("eventstream")),
        document=bool(raw.get("document")),
        error=raw.get("error") or {},
    )
