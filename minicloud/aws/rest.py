"""REST with JSON bodies: which operation a path means, and what stands in path, query, headers and body."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from minicloud.aws import events, jsons, wire
from minicloud.aws.documents import NOTHING
from minicloud.aws.model import Member, Operation, Shape
from minicloud.aws.query import pairs_of
from minicloud.aws.wire import Answer, BadInput, Request

Labels = dict[str, str]
_LABEL = re.compile(r"\{([^}]+)\}")
JSON = "application/json"
ANY = 0  # the depth of a path whose last label takes the rest


@dataclass(frozen=True, slots=True)
class _Route:
    pattern: re.Pattern[str]
    fixed: frozenset[str]  # what the query must have, as `name=value`
    name: str
    labels: int


class Routes:
    """The operations of a service, by method and path. Labels match one part of a path, `{Name+}` the rest of it.

    Where several match, the one that fixes most wins.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._routes: dict[tuple[str, int], list[_Route]] = defaultdict(list)
        for one in operations:
            path, _, query = one.uri.partition("?")
            parts = path.rstrip("/").split("/")
            pattern = re.compile("/".join(map(_pattern, parts)))
            depth = ANY if "+}" in path else len(parts)
            fixed = frozenset(filter(None, query.split("&")))
            self._routes[one.method, depth].append(_Route(pattern, fixed, one.name, path.count("{")))
        for routes in self._routes.values():
            routes.sort(key=lambda route: (-len(route.fixed), route.labels))

    def find(self, method: str, path: str, query: str = "") -> tuple[str, Labels] | None:
        """The operation and its labels, still quoted."""
        bare = path.rstrip("/")
        for depth in (bare.count("/") + 1, ANY):
            for route in self._routes.get((method, depth), ()):
                match = route.pattern.fullmatch(bare)
                if match is not None and (not route.fixed or route.fixed.issubset(query.split("&"))):
                    return route.name, match.groupdict()
        return None


def _pattern(part: str) -> str:
    label = _LABEL.fullmatch(part)
    if label is None:
        return re.escape(part)
    name = label[1]
    return f"(?P<{name[:-1]}>.+)" if name.endswith("+") else f"(?P<{name}>[^/]+)"


def _placed(shape: Shape, *locations: str) -> dict[str, Member]:
    return {name: member for name, member in shape.members.items() if member.location in locations}


def _body_of(shape: Shape) -> Shape:
    """The members that stand in the body, where it is one document of all of them."""
    return replace(shape, name=f"{shape.name} body", members=_placed(shape, ""), payload="")


Place = Callable[[Request, Labels, dict[str, Any]], None]  # puts what it finds into the parameters


def reader(operation: Operation) -> Callable[[Request, Labels], dict[str, Any]]:
    shape = operation.input or NOTHING
    places: list[Place] = [_body(shape)] if _placed(shape, "") else []
    places += [_label(name, member) for name, member in _placed(shape, "uri").items()]
    places += [_header(name, member) for name, member in _placed(shape, "header").items()]
    places += [_headers(name, member) for name, member in _placed(shape, "headers").items()]
    places.append(_query(_placed(shape, "querystring"), operation.uri.partition("?")[2]))

    def read(request: Request, labels: Labels) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for place in places:
            place(request, labels, params)
        return params

    return read


def _body(shape: Shape) -> Place:
    if not shape.payload:
        document = jsons.reader(_body_of(shape))
        return lambda request, _labels, params: params.update(document(jsons.loads(request.body)))
    name = shape.payload
    kind = shape.members[name].shape.kind
    convert = jsons.reader(shape.members[name].shape) if kind == "structure" else None

    def place(request: Request, _labels: Labels, params: dict[str, Any]) -> None:
        if not request.body:
            return
        if convert is not None:
            params[name] = convert(jsons.loads(request.body))
        else:
            params[name] = request.body if kind == "blob" else _decoded(request.body)

    return place


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadInput("the body must be UTF-8") from None


def _label(name: str, member: Member) -> Place:
    wire_name, convert = member.wire_name or name, _scalar(member.shape)

    def place(_request: Request, labels: Labels, params: dict[str, Any]) -> None:
        params[name] = convert(wire.unquoted(labels[wire_name]))

    return place


def _scalar(shape: Shape) -> Callable[[str], Any]:
    convert = wire.READERS[shape.kind]

    def read(text: str) -> Any:
        try:
            return convert(text)
        except BadInput as bad:
            raise bad.within(shape.name) from None

    return read


def _header(name: str, member: Member) -> Place:
    wire_name = (member.wire_name or name).lower()
    if member.shape.kind == "list":
        assert member.shape.member is not None
        one = _scalar(member.shape.member.shape)
        convert: Callable[[str], Any] = lambda text: [one(part.strip()) for part in text.split(",")]  # noqa: E731
    else:
        convert = _scalar(member.shape)

    def place(request: Request, _labels: Labels, params: dict[str, Any]) -> None:
        text = request.headers.get(wire_name)
        if text is not None:
            params[name] = convert(text)

    return place


def _headers(name: str, member: Member) -> Place:
    prefix = member.wire_name.lower()

    def place(request: Request, _labels: Labels, params: dict[str, Any]) -> None:
        found = {key[len(prefix) :]: value for key, value in request.headers.items() if key.startswith(prefix)}
        if found:
            params[name] = found

    return place


def _query(queried: Mapping[str, Member], fixed: str) -> Place:
    """`fixed`: what the operation's own path has in its query. A parameter that nobody knows is refused."""
    others = {"x-id", *(piece.partition("=")[0] for piece in fixed.split("&"))}
    scalars: dict[str, tuple[str, Callable[[str], Any]]] = {}
    lists: dict[str, tuple[str, Callable[[str], Any]]] = {}
    rest = ""
    for name, member in queried.items():
        if member.shape.kind == "map":
            rest = name
        elif member.shape.kind == "list":
            assert member.shape.member is not None
            lists[member.wire_name or name] = (name, _scalar(member.shape.member.shape))
        else:
            scalars[member.wire_name or name] = (name, _scalar(member.shape))

    def place(request: Request, _labels: Labels, params: dict[str, Any]) -> None:
        for key, text in pairs_of(request.query) if request.query else ():
            if key in scalars:
                name, convert = scalars[key]
                params[name] = convert(text)
            elif key in lists:
                name, convert = lists[key]
                params.setdefault(name, []).append(convert(text))
            elif key.startswith("X-Amz-") or key in others:
                continue
            elif rest:
                params.setdefault(rest, {})[key] = text
            else:
                raise BadInput("The parameter is not recognized", code="UnknownParameter").within(key[:100])

    return place


def writer(operation: Operation) -> Callable[[Mapping[str, Any]], Answer]:
    shape = operation.output
    if shape is None:
        return lambda _result: Answer(operation.status, JSON, b"" if operation.status == 204 else b"{}")
    write_body = _body_writer(shape)
    headers = [_header_writer(name, member) for name, member in _placed(shape, "header", "headers").items()]
    status = next(iter(_placed(shape, "statusCode")), "")

    def write(result: Mapping[str, Any]) -> Answer:
        code = int(result.get(status, operation.status)) if status else operation.status
        content_type, body = write_body(result)
        answer = Answer(code, content_type, b"" if code == 204 else body)
        for put in headers:
            put(result, answer)
        return answer

    return write


def _body_writer(shape: Shape) -> Callable[[Mapping[str, Any]], tuple[str, Any]]:
    if not shape.payload:
        bodies = _body_of(shape)
        names, convert = frozenset(bodies.members), jsons.writer(bodies)

        def write(result: Mapping[str, Any]) -> tuple[str, bytes]:
            kept = {name: value for name, value in result.items() if name in names and value is not None}
            return JSON, jsons.dumps(kept if convert is None else convert(kept))

        return write
    name, payload = shape.payload, shape.members[shape.payload].shape
    if payload.event_stream:
        frames = events.encoder(payload)
        return lambda result: (events.CONTENT_TYPE, frames(result.get(name)))
    if payload.kind in ("blob", "string"):
        return lambda result: (JSON, _raw(result.get(name)))
    inner = jsons.writer(payload)
    return lambda result: (JSON, jsons.dumps(result.get(name, {}) if inner is None else inner(result.get(name, {}))))


def _raw(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value or b""


def _header_writer(name: str, member: Member) -> Callable[[Mapping[str, Any], Answer], None]:
    wire_name = member.wire_name or name
    shape = member.shape
    if shape.kind == "map":
        return lambda result, answer: answer.headers.extend(
            (f"{wire_name}{key}", value) for key, value in (result.get(name) or {}).items()
        )
    text = wire.writer(shape.kind, member.timestamp_format or shape.timestamp_format or "rfc822")

    def put(result: Mapping[str, Any], answer: Answer) -> None:
        value = result.get(name)
        if value is None:
            return
        if wire_name.lower() == "content-type":
            answer.content_type = text(value) if answer.content_type == JSON else answer.content_type
        else:
            answer.headers.append((wire_name, text(value)))

    return put
