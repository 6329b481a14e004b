"""One service in one protocol: which operation a request means, its parameters, its answer. Compiled at the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from minicloud.aws import cbor, faults, jsons, query, rest, validate, xml
from minicloud.aws.faults import Catalogue, Refuse
from minicloud.aws.model import Operation, Service
from minicloud.aws.wire import Answer, BadInput, Request

FORM = "application/x-www-form-urlencoded"
Labels = dict[str, str]


class Codec(NamedTuple):
    read: Callable[[Request, Labels], dict[str, Any]]
    check: Callable[[dict[str, Any]], None]
    write: Callable[[Mapping[str, Any], str], Answer]  # result, request id


class Face(NamedTuple):
    """`find`: the operation's name ('' where there is none) and the labels of its path."""

    protocol: str
    find: Callable[[Request], tuple[str, Labels]]
    codecs: Mapping[str, Codec]
    refuse: Refuse


def faces(service: Service, codes: Mapping[str, str]) -> dict[str, Face]:
    """By protocol. `codes`: see faults.Catalogue."""
    catalogue = Catalogue(service, codes)
    make = {"query": _query, "ec2": _ec2, "json": _json, "smithy-rpc-v2-cbor": _cbor, "rest-json": _rest}
    return {protocol: make[protocol](service, catalogue) for protocol in service.protocols}


def _checker(operation: Operation, service: Service, protocol: str) -> Callable[[dict[str, Any]], None]:
    return validate.checker(operation, validate.wording(service.name, protocol))


# --- query and ec2


def form_of(request: Request) -> list[tuple[str, str]]:
    """Everything that a query says, in its URL and in its body; read once. Raises BadInput."""
    if request.form is None:
        request.form = _form(request)
    return request.form


def _form(request: Request) -> list[tuple[str, str]]:
    pairs = query.pairs_of(request.query) if request.query else []
    if request.body and request.headers.get("content-type", FORM).startswith(FORM):
        try:
            pairs += query.pairs_of(request.body.decode("ascii"))
        except UnicodeDecodeError:
            raise BadInput("The body of the request is not a query string.", code="MalformedQueryString") from None
    return pairs


def action_of(request: Request) -> tuple[str, Labels]:
    try:
        return dict(form_of(request)).get("Action", ""), {}
    except BadInput as bad:
        raise _named(bad, "MalformedQueryString") from None


def _read_query(operation: Operation, service: str, *, ec2: bool) -> Callable[[Request, Labels], dict[str, Any]]:
    read = query.reader(operation.input, ec2=ec2)
    malformed = "InvalidParameterValue" if ec2 or service == "sqs" else "MalformedInput"
    takes_queue = service == "sqs" and operation.input is not None and "QueueUrl" in operation.input.members

    def parse(request: Request, _labels: Labels) -> dict[str, Any]:
        try:
            params = read(query.tree(form_of(request)))
        except BadInput as bad:
            raise _named(bad, malformed) from None
        if takes_queue and "QueueUrl" not in params and len(request.path) > 1:
            params["QueueUrl"] = request.path  # as old SDKs do: the request goes to the queue's own URL
        return params

    return parse


def _named(bad: BadInput, code: str) -> BadInput:
    """The same with a text that says where."""
    where = bad.where
    text = f"Invalid value for the parameter {where}: {bad.message}" if where else bad.message
    return BadInput(text, code=code if bad.code == BadInput.default_code else bad.code, field=where or None)


def _query(service: Service, catalogue: Catalogue) -> Face:
    codecs = {}
    for name, operation in service.operations.items():
        codecs[name] = Codec(
            _read_query(operation, service.name, ec2=False),
            _checker(operation, service, "query"),
            _write_query(operation, service),
        )
    return Face("query", action_of, codecs, faults.query_refusal(service, catalogue))


def _write_query(operation: Operation, service: Service) -> Callable[[Mapping[str, Any], str], Answer]:
    name, members = operation.name, xml.structure_writer(operation.output)
    wrapper = operation.wrapper or (f"{name}Result" if operation.output is not None else "")
    head = f'<{name}Response xmlns="{service.xmlns}">' + (f"<{wrapper}>" if wrapper else "")
    tail = (f"</{wrapper}>" if wrapper else "") + "<ResponseMetadata><RequestId>"

    def write(result: Mapping[str, Any], request_id: str) -> Answer:
        out = [head]
        members(result, out)
        out += (tail, request_id, f"</RequestId></ResponseMetadata></{name}Response>")
        return Answer(200, faults.XML, "".join(out).encode())

    return write


def _ec2(service: Service, catalogue: Catalogue) -> Face:
    codecs = {}
    for name, operation in service.operations.items():
        codecs[name] = Codec(
            _read_query(operation, service.name, ec2=True),
            _checker(operation, service, "ec2"),
            _write_ec2(operation, service),
        )
    return Face("ec2", action_of, codecs, faults.ec2_refusal(catalogue))


def _write_ec2(operation: Operation, service: Service) -> Callable[[Mapping[str, Any], str], Answer]:
    name, members = operation.name, xml.structure_writer(operation.output)
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}Response xmlns="{service.xmlns}/"><requestId>'
    done = "" if operation.output is not None else "<return>true</return>"

    tail = f"</{name}Response>".encode()

    def write(result: Mapping[str, Any], request_id: str) -> Answer:
        start = f"{head}{request_id}</requestId>{done}".encode()
        if type(result) is xml.Whole:
            return Answer(200, faults.XML, (start, xml.encoded(result, members), tail))
        return Answer(200, faults.XML, start + xml.encoded(result, members) + tail)

    return write


# --- JSON and CBOR


def _json(service: Service, catalogue: Catalogue) -> Face:
    content_type = f"application/x-amz-json-{service.json_version}"
    codecs = {}
    for name, operation in service.operations.items():
        codecs[name] = Codec(
            _read_document(jsons.loads, jsons.reader(operation.input)),
            _checker(operation, service, "json"),
            _write_document(jsons.dumps, jsons.writer(operation.output), content_type, []),
        )

    def find(request: Request) -> tuple[str, Labels]:
        return request.headers.get("x-amz-target", "").rpartition(".")[2], {}

    return Face("json", find, codecs, faults.json_refusal(service, catalogue))


def _cbor(service: Service, catalogue: Catalogue) -> Face:
    codecs = {}
    for name, operation in service.operations.items():
        codecs[name] = Codec(
            _read_document(cbor.loads, cbor.reader(operation.input)),
            _checker(operation, service, "smithy-rpc-v2-cbor"),
            _write_document(
                cbor.dumps, cbor.writer(operation.output), "application/cbor", [("smithy-protocol", "rpc-v2-cbor")]
            ),
        )

    def find(request: Request) -> tuple[str, Labels]:
        return request.path.rpartition("/")[2], {}

    return Face("smithy-rpc-v2-cbor", find, codecs, faults.cbor_refusal(service, catalogue))


def _read_document(
    loads: Callable[[bytes], Any], read: Callable[[Any], Any]
) -> Callable[[Request, Labels], dict[str, Any]]:
    def parse(request: Request, _labels: Labels) -> dict[str, Any]:
        try:
            params: dict[str, Any] = read(loads(request.body))
        except BadInput as bad:
            raise _named(bad, BadInput.default_code) from None
        return params

    return parse


def _write_document(
    dumps: Callable[[Any], bytes],
    convert: Callable[[Any], Any] | None,
    content_type: str,
    headers: list[tuple[str, str]],
) -> Callable[[Mapping[str, Any], str], Answer]:
    def write(result: Mapping[str, Any], _request_id: str) -> Answer:
        return Answer(200, content_type, dumps(result if convert is None else convert(result)), list(headers))

    return write


# --- REST


def _rest(service: Service, catalogue: Catalogue) -> Face:
    routes = rest.Routes(service.operations.values())
    codecs = {}
    for name, operation in service.operations.items():
        codecs[name] = Codec(_read_rest(operation), _checker(operation, service, "rest-json"), _write_rest(operation))

    def find(request: Request) -> tuple[str, Labels]:
        return routes.find(request.method, request.path, request.query) or ("", {})

    return Face("rest-json", find, codecs, faults.rest_refusal(catalogue))


def _read_rest(operation: Operation) -> Callable[[Request, Labels], dict[str, Any]]:
    read = rest.reader(operation)

    def parse(request: Request, labels: Labels) -> dict[str, Any]:
        try:
            return read(request, labels)
        except BadInput as bad:
            raise _named(bad, BadInput.default_code) from None

    return parse


def _write_rest(operation: Operation) -> Callable[[Mapping[str, Any], str], Answer]:
    write = rest.writer(operation)
    return lambda result, _request_id: write(result)
