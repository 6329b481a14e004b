"""The query protocols: `Filter.1.Name=tag:x` in, parameters out. One for EC2, one for all others.

    tree(pairs)            names split at dots: {"Filter": {"1": {"Name": "tag:x", "Value": {"1": "a"}}}}
    reader(shape, ec2)     a function from such a node to a value, made once for each operation

Which names a list or map goes by: EC2 puts the index after the list's own name; others put `member` (or `entry`)
between, unless the list is flattened. Numbers after names need not be dense; their order counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minicloud.aws.model import Member, Shape
from minicloud.aws.wire import LIST_MAX, READERS, BadInput, unquoted

DEPTH_MAX = 32  # ours: parts of a name
FIELDS_MAX = 10_000  # ours: names of a request
# What is in a request besides the operation's parameters.
ENVELOPE = frozenset(
    {
        "Action",
        "Version",
        "AWSAccessKeyId",
        "Signature",
        "SignatureMethod",
        "SignatureVersion",
        "SecurityToken",
        "Timestamp",
        "Expires",
        "ContentType",
    }
)
Node = Any  # str or dict[str, Node]
Read = Callable[[Node], Any]


def pairs_of(text: str) -> list[tuple[str, str]]:
    """`a=1&b=2` taken apart. Raises BadInput."""
    pieces = text.split("&")
    if len(pieces) > FIELDS_MAX:
        raise BadInput(f"a request has at most {FIELDS_MAX} parameters", code="MalformedQueryString")
    pairs = []
    for piece in pieces:
        if piece:
            name, _, value = piece.partition("=")
            pairs.append((unquoted(name, plus=True), unquoted(value, plus=True)))
    return pairs


def tree(pairs: Iterable[tuple[str, str]]) -> dict[str, Node]:
    """Raises BadInput where a name is a value and a prefix at once, is given twice, or is too deep."""
    root: dict[str, Node] = {}
    for name, value in pairs:
        if name in ENVELOPE or name.startswith("X-Amz-"):
            continue
        parts = name.split(".")
        if len(parts) > DEPTH_MAX:
            raise BadInput(f"a name has at most {DEPTH_MAX} parts").within(name[:100])
        node = root
        for part in parts[:-1]:
            below = node.setdefault(part, {})
            if isinstance(below, str):
                below = node[part] = _reopened(below, name)
            node = below
        if parts[-1] in node:
            known = node[parts[-1]]
            if value == "" and isinstance(known, dict):
                continue  # a list that is given both empty and with elements
            raise BadInput("it is given more than once").within(name[:100])
        node[parts[-1]] = value
    return root


def _reopened(value: str, name: str) -> dict[str, Node]:
    if value:
        raise BadInput("it is both a value and a list").within(name[:100])
    return {}


def reader(shape: Shape | None, *, ec2: bool) -> Callable[[dict[str, Node]], dict[str, Any]]:
    """From the tree of a request to its parameters."""
    if shape is None:
        shape = Shape("Nothing", "structure")
    return _Compiler(ec2).structure(shape)


def name_of(member: Member, default: str, *, ec2: bool) -> str:
    """How a member is called in a query."""
    if member.query_name:
        return member.query_name
    if ec2:
        name = member.wire_name or default
        return name[0].upper() + name[1:]
    shape = member.shape
    if shape.kind == "list" and (shape.flattened or member.flattened) and shape.member is not None:
        return shape.member.query_name or shape.member.wire_name or member.wire_name or default
    return member.wire_name or default


class _Compiler:
    def __init__(self, ec2: bool) -> None:
        self._ec2 = ec2
        self._made: dict[tuple[str, bool], Read] = {}

    def read(self, member: Member) -> Read:
        """What reads a member; a recursive shape is looked up when it is met."""
        shape = member.shape
        if shape.kind not in ("structure", "list", "map"):
            return _scalar(shape.kind)
        key = (shape.name, member.flattened)
        if key in self._made:
            return self._made[key]
        self._made[key] = lambda node: self._made[key](node)
        make = {"structure": lambda: self.structure(shape), "list": lambda: self._list(member)}
        self._made[key] = make[shape.kind]() if shape.kind in make else self._map(member)
        return self._made[key]

    def structure(self, shape: Shape) -> Read:
        members = {
            name_of(member, name, ec2=self._ec2): (name, self.read(member)) for name, member in shape.members.items()
        }

        def read(node: Node) -> dict[str, Any]:
            if isinstance(node, str):
                if node:
                    raise BadInput("it has parts, so it is no value of its own")
                return {}
            value: dict[str, Any] = {}
            for wire_name, below in node.items():
                known = members.get(wire_name)
                if known is None:
                    raise BadInput("The parameter is not recognized", code="UnknownParameter").within(wire_name[:100])
                try:
                    value[known[0]] = known[1](below)
                except BadInput as bad:
                    raise bad.within(wire_name) from None
            return value

        return read

    def _list(self, member: Member) -> Read:
        shape = member.shape
        assert shape.member is not None
        element = self.read(shape.member)
        between = "" if self._ec2 or shape.flattened or member.flattened else shape.member.wire_name or "member"

        def read(node: Node) -> list[Any]:
            if node == "":
                return []
            rows = _below(node, between)
            return _elements(rows, element)

        return read

    def _map(self, member: Member) -> Read:
        shape = member.shape
        assert shape.key is not None
        assert shape.value is not None
        between = "" if shape.flattened or member.flattened else "entry"
        key_name = shape.key.query_name or shape.key.wire_name or "key"
        value_name = shape.value.query_name or shape.value.wire_name or "value"
        read_value = self.read(shape.value)

        def entry(node: Node) -> tuple[str, Any]:
            key = node.get(key_name) if isinstance(node, dict) else None
            if not isinstance(key, str) or node.keys() - {key_name, value_name}:
                raise BadInput(f"an entry has a {key_name} and a {value_name}")
            try:
                return key, read_value(node.get(value_name, ""))
            except BadInput as bad:
                raise bad.within(value_name) from None

        def read(node: Node) -> dict[str, Any]:
            if node == "":
                return {}
            return dict(_elements(_below(node, between), entry))

        return read


def _below(node: Node, between: str) -> Node:
    """The numbered elements; what should stand between may be left out, as old SDKs do."""
    if not between or not isinstance(node, dict) or between not in node:
        return node
    if len(node) > 1:
        raise BadInput("it is numbered in two ways")
    return node[between]


def _elements(node: Node, read: Read) -> list[Any]:
    if node == "":
        return []
    if isinstance(node, str) or not all(key.isascii() and key.isdigit() and len(key) <= 6 for key in node):
        raise BadInput("it is a list: its elements are numbered from 1")
    values = []
    for index in sorted(node, key=int):
        if int(index) > LIST_MAX:
            raise BadInput(f"a list has at most {LIST_MAX} elements")
        try:
            values.append(read(node[index]))
        except BadInput as bad:
            raise bad.within(index) from None
    return values


def _scalar(kind: str) -> Read:
    convert = READERS[kind]

    def read(node: Node) -> Any:
        if not isinstance(node, str):
            raise BadInput("it is one value, without parts")
        return convert(node)

    return read
