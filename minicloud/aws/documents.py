"""Parameters and results as documents of objects and lists, JSON or CBOR: functions for each shape, made once.

Both differ in scalars alone, so they hand in their tables. Parameters are always gone through: their types are checked
here, the rest in validate.py. Results are only gone through where something is not written as it is (a blob, a time, a
name of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minicloud.aws import wire
from minicloud.aws.model import Member, Shape
from minicloud.aws.wire import BadInput

Convert = Callable[[Any], Any]
NOTHING = Shape("Nothing", "structure")


class Reader:
    """Raises BadInput where a value is not of its kind. `scalars`: what reads each kind."""

    def __init__(self, scalars: Mapping[str, Convert]) -> None:
        self._scalars = scalars
        self._made: dict[str, Convert] = {}

    def convert(self, shape: Shape) -> Convert:
        if shape.document:
            return same
        if shape.kind not in ("structure", "list", "map"):
            return self._scalars[shape.kind]
        if shape.name not in self._made:
            self._made[shape.name] = lambda value: self._made[shape.name](value)
            self._made[shape.name] = getattr(self, f"_{shape.kind}")(shape)
        return self._made[shape.name]

    def of(self, member: Member) -> Convert:
        if member.json_text:
            return self._scalars["string"]
        return self.convert(member.shape)

    def _structure(self, shape: Shape) -> Convert:
        members = {member.wire_name or name: (name, self.of(member)) for name, member in shape.members.items()}

        def read(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise BadInput("it must be an object")
            result: dict[str, Any] = {}
            for wire_name, below in value.items():
                if below is None:
                    continue
                known = members.get(wire_name)
                if known is None:
                    if wire_name == "__type":
                        continue
                    raise BadInput("The parameter is not recognized", code="UnknownParameter").within(
                        str(wire_name)[:100]
                    )
                try:
                    result[known[0]] = known[1](below)
                except BadInput as bad:
                    raise bad.within(wire_name) from None
            return result

        return read

    def _list(self, shape: Shape) -> Convert:
        assert shape.member is not None
        element = self.of(shape.member)

        def read(value: Any) -> list[Any]:
            if type(value) is not list:
                raise BadInput("it must be a list")
            result: list[Any] = []
            try:
                for one in value:
                    result.append(element(one))  # noqa: PERF401  # its length says where it failed
            except BadInput as bad:
                raise bad.within(str(len(result) + 1)) from None
            return result

        return read

    def _map(self, shape: Shape) -> Convert:
        assert shape.value is not None
        element = self.of(shape.value)

        def read(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise BadInput("it must be an object")
            result = {}
            for key, one in value.items():
                if one is not None:
                    if type(key) is not str:
                        raise BadInput("its keys must be strings")
                    try:
                        result[key] = element(one)
                    except BadInput as bad:
                        raise bad.within(key[:100]) from None
            return result

        return read


class Writer:
    """`scalars`: what writes each kind that is not written as it is; `time`: the same for times, by their format."""

    def __init__(self, scalars: Mapping[str, Convert], time: Callable[[str], Convert]) -> None:
        self._scalars = scalars
        self._time = time
        self._made: dict[str, Convert | None] = {}

    def convert(self, shape: Shape) -> Convert | None:
        if shape.document or self._is_plain(shape, set()):
            return None
        if shape.name not in self._made:
            self._made[shape.name] = lambda value: self._made[shape.name](value)  # type: ignore[misc]
            self._made[shape.name] = getattr(self, f"_{shape.kind}")(shape)
        return self._made[shape.name]

    def _of(self, member: Member) -> Convert | None:
        shape = member.shape
        if shape.kind == "timestamp":
            return self._time(member.timestamp_format or shape.timestamp_format)
        return self._scalars[shape.kind] if shape.kind in self._scalars else self.convert(shape)

    def _is_plain(self, shape: Shape, seen: set[str]) -> bool:
        if shape.name in seen:
            return True
        if shape.kind not in ("structure", "list", "map"):
            return shape.kind not in self._scalars and shape.kind != "timestamp"
        seen.add(shape.name)
        below = [one for one in (shape.member, shape.value, *shape.members.values()) if one is not None]
        own_names = shape.kind == "structure" and any(
            member.wire_name not in ("", name) or member.location for name, member in shape.members.items()
        )
        return not own_names and all(self._is_plain(one.shape, seen) for one in below)

    def _structure(self, shape: Shape) -> Convert:
        members = {name: (member.wire_name or name, self._of(member)) for name, member in shape.members.items()}

        def write(value: Mapping[str, Any]) -> dict[str, Any]:
            result = {}
            for name, below in value.items():
                if below is not None:
                    wire_name, convert = members[name]
                    result[wire_name] = below if convert is None else convert(below)
            return result

        return write

    def _list(self, shape: Shape) -> Convert:
        assert shape.member is not None
        element = self._of(shape.member)
        return list if element is None else lambda value: [element(one) for one in value]

    def _map(self, shape: Shape) -> Convert:
        assert shape.value is not None
        element = self._of(shape.value)
        return dict if element is None else lambda value: {key: element(one) for key, one in value.items()}


def same(value: Any) -> Any:
    return value


def text(value: Any) -> str:
    if type(value) is not str:
        raise BadInput("it must be a string")
    return value


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise BadInput("it must be true or false")
    return value


def whole(kind: str) -> Convert:
    bound = wire.bound_of(kind)

    def read(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise BadInput("it must be a whole number")
        return wire.in_bounds(value, bound)

    return read


def number(value: Any) -> float:
    if type(value) not in (int, float):
        raise BadInput("it must be a number")
    try:
        return float(value)
    except OverflowError:
        raise BadInput("it must be a number") from None
