"""Results as XML, for the query protocols: a function for each shape, made once, that appends pieces of text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from minicloud.aws.model import Member, Shape
from minicloud.aws.wire import writer

Write = Callable[[Any, list[str]], None]
_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def escape(text: str) -> str:
    """Characters that XML cannot have become U+FFFD."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda found: _NAMED.get(found.group(), "\ufffd"), text)


def structure_writer(shape: Shape | None) -> Write:
    """Writes the members of a structure, without an element around them."""
    if shape is None:
        return lambda _value, _out: None
    return _Compiler().structure(shape)


class Lasting(dict[str, Any]):
    """A structure that never changes and is shown often: how it is written is remembered in it.

    Once it has been written, `let_go` frees its members and what is written stays the same. It stands in one place of
    one operation's result: elsewhere it would be written as it was there.
    """

    __slots__ = ("text",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self.text = ""

    def let_go(self) -> Lasting:
        if self.text:
            self.clear()
        return self


class Whole(dict[str, Any]):
    """An operation's result that never changes and is asked for often: its bytes are remembered in it.

    Once it has been written, `let_go` frees its members.
    """

    __slots__ = ("data",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self.data = b""

    def let_go(self) -> Whole:
        if self.data:
            self.clear()
        return self


def encoded(result: Mapping[str, Any], write: Write) -> bytes:
    if type(result) is not Whole:
        out: list[str] = []
        write(result, out)
        return "".join(out).encode()
    if not result.data:
        result.data = encoded(dict(result), write)
    return result.data


class _Compiler:
    def __init__(self) -> None:
        self._made: dict[str, Write] = {}

    def structure(self, shape: Shape) -> Write:
        if shape.name in self._made:
            return self._made[shape.name]
        self._made[shape.name] = lambda value, out: self._made[shape.name](value, out)
        members = {name: self._member(member, name) for name, member in shape.members.items()}

        def write(value: Any, out: list[str]) -> None:
            if type(value) is Lasting:
                if not value.text:
                    value.text = _written(value, members)
                out.append(value.text)
                return
            for name, below in value.items():
                if below is not None:
                    members[name](below, out)

        self._made[shape.name] = write
        return write

    def _member(self, member: Member, name: str) -> Write:
        """A value with its element around it."""
        shape = member.shape
        tag = member.query_name or member.wire_name or name
        if shape.kind == "list":
            return self._list(member, tag)
        if shape.kind == "map":
            return self._map(member, tag)
        if shape.kind == "structure":
            return _around(tag, self.structure(shape))
        text, head, tail = (
            writer(shape.kind, member.timestamp_format or shape.timestamp_format),
            f"<{tag}>",
            f"</{tag}>",
        )
        if shape.kind == "string":
            empty = f"<{tag}/>"
            return lambda value, out: out.append(f"{head}{escape(value)}{tail}" if value else empty)
        return lambda value, out: out.append(f"{head}{text(value)}{tail}")

    def _list(self, member: Member, tag: str) -> Write:
        assert member.shape.member is not None
        inner = member.shape.member
        flat = member.flattened or member.shape.flattened
        own = inner.query_name or inner.wire_name
        write = self._member(inner, (own or tag) if flat else "member")

        def elements(value: Any, out: list[str]) -> None:
            for one in value:
                write(one, out)

        return elements if flat else _around(tag, elements)

    def _map(self, member: Member, tag: str) -> Write:
        shape = member.shape
        assert shape.key is not None
        assert shape.value is not None
        flat = member.flattened or shape.flattened
        write_key, write_value = self._member(shape.key, "key"), self._member(shape.value, "value")
        head, tail = (f"<{tag}>", f"</{tag}>") if flat else ("<entry>", "</entry>")

        def entries(value: Any, out: list[str]) -> None:
            for key, one in value.items():
                out.append(head)
                write_key(key, out)
                write_value(one, out)
                out.append(tail)

        return entries if flat else _around(tag, entries)


def _written(value: Mapping[str, Any], members: Mapping[str, Write]) -> str:
    out: list[str] = []
    for name, below in value.items():
        if below is not None:
            members[name](below, out)
    return "".join(out)


def _around(tag: str, write: Write) -> Write:
    head, tail, empty = f"<{tag}>", f"</{tag}>", f"<{tag}/>"

    def around(value: Any, out: list[str]) -> None:
        start = len(out)
        out.append(head)
        write(value, out)
        if len(out) > start + 1:
            out.append(tail)
        else:
            out[start] = empty

    return around
