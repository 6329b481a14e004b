"""Parameters against their model: what is missing, too short, too long, out of range or not one of a set.

AWS has several ways to say so; `WORDING` knows which service has which. All faults of a request are found, and told in
one error where the service does that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from minicloud.aws.model import Member, Operation, Shape
from minicloud.aws.query import name_of
from minicloud.base.errors import CloudError, InvalidParameterValue, MissingParameter

_VALUE_CHARS_MAX = 200  # of a value that an error repeats
_PATTERN_CHARS_MAX = 4_096  # ours: longer values are not matched against patterns of the model
_FAULTS_MAX = 20  # ours: named in one error


class Fault(NamedTuple):
    path: tuple[str, ...]
    value: Any  # None: missing
    constraint: str


@dataclass(frozen=True, slots=True)
class Wording:
    """How a service says that parameters are wrong. `style`: coral, ec2, sqs or cloudwatch."""

    missing: str
    invalid: str
    style: str = "coral"
    enums: bool = True
    patterns: bool = True


_CORAL_QUERY = Wording("ValidationError", "ValidationError")
_CORAL_JSON = Wording("ValidationException", "ValidationException")
_OWN: Mapping[str, Wording] = {
    "ec2": Wording("MissingParameter", "InvalidParameterValue", "ec2", enums=False, patterns=False),
    "sqs": Wording("MissingParameter", "InvalidParameterValue", "sqs", enums=False, patterns=False),
    "sns": Wording("ValidationError", "ValidationError", enums=False, patterns=False),
    "cloudwatch": Wording("MissingParameter", "InvalidParameterValue", "cloudwatch", enums=False, patterns=False),
    "logs": Wording("InvalidParameterException", "InvalidParameterException"),
    "savingsplans": Wording("ValidationException", "ValidationException"),
}
Check = Callable[[dict[str, Any]], None]
_Look = Callable[[Any, tuple[str, ...], list[Fault]], None]


def wording(service: str, protocol: str) -> Wording:
    return _OWN.get(service) or (_CORAL_QUERY if protocol == "query" else _CORAL_JSON)


def checker(operation: Operation, words: Wording) -> Check:
    """What raises MissingParameter or InvalidParameterValue where parameters are not as the model says."""
    look = _Compiler(words).structure(operation.input) if operation.input is not None else None
    if look is None:
        return lambda _params: None

    def check(params: dict[str, Any]) -> None:
        faults: list[Fault] = []
        look(params, (), faults)
        if faults:
            raise _error(faults, words)

    return check


class _Compiler:
    """None where there is nothing to check."""

    def __init__(self, words: Wording) -> None:
        self._words = words
        self._made: dict[str, _Look | None] = {}

    def look(self, shape: Shape) -> _Look | None:
        if shape.kind == "structure":
            return self.structure(shape)
        if shape.kind == "list":
            return self._list(shape)
        if shape.kind == "map":
            return self._map(shape)
        return self._scalar(shape)

    def structure(self, shape: Shape) -> _Look | None:
        if shape.name not in self._made:
            self._made[shape.name] = lambda value, path, faults: (self._made[shape.name] or _nothing)(
                value, path, faults
            )
            self._made[shape.name] = self._structure(shape)
        return self._made[shape.name]

    def _structure(self, shape: Shape) -> _Look | None:
        shown = {name: self._shown(member, name) for name, member in shape.members.items()}
        required = tuple((name, shown[name]) for name in shape.required if name in shown)
        looks = {}
        for name, member in shape.members.items():
            if (look := self.look(member.shape)) is not None:
                looks[name] = (shown[name], look)
        if not required and not looks:
            return None

        def see(value: dict[str, Any], path: tuple[str, ...], faults: list[Fault]) -> None:
            for name, text in required:
                if name not in value:
                    faults.append(Fault((*path, text), None, "Member must not be null"))
            for name, below in value.items():
                if name in looks:
                    text, look = looks[name]
                    look(below, (*path, text), faults)

        return see

    def _shown(self, member: Member, name: str) -> str:
        """How an error calls a member."""
        if self._words.style == "coral":
            return name[0].lower() + name[1:]
        return name_of(member, name, ec2=True) if self._words.style == "ec2" else name

    def _list(self, shape: Shape) -> _Look | None:
        assert shape.member is not None
        look, bounds = self.look(shape.member.shape), _length(shape)
        if look is None and bounds is None:
            return None
        between = ("member",) if self._words.style == "coral" else ()

        def see(value: list[Any], path: tuple[str, ...], faults: list[Fault]) -> None:
            if bounds is not None:
                bounds(value, path, faults)
            if look is not None and len(faults) < _FAULTS_MAX:
                for index, one in enumerate(value, 1):
                    look(one, (*path, str(index), *between), faults)

        return see

    def _map(self, shape: Shape) -> _Look | None:
        assert shape.key is not None
        assert shape.value is not None
        looks = self.look(shape.key.shape), self.look(shape.value.shape)
        bounds = _length(shape)
        if looks == (None, None) and bounds is None:
            return None
        look_key, look_value = looks

        def see(value: dict[str, Any], path: tuple[str, ...], faults: list[Fault]) -> None:
            if bounds is not None:
                bounds(value, path, faults)
            for key, one in value.items():
                if look_key is not None:
                    look_key(key, path, faults)
                if look_value is not None:
                    look_value(one, (*path, key, "member"), faults)

        return see

    def _scalar(self, shape: Shape) -> _Look | None:
        tests: list[_Look] = []
        if shape.kind in ("string", "blob"):
            tests += [one for one in (_length(shape),) if one is not None]
        elif shape.kind != "boolean":
            tests += [one for one in (_range(shape),) if one is not None]
        if shape.kind == "string":
            tests += [one for one in (self._enum(shape), self._pattern(shape)) if one is not None]
        if not tests:
            return None
        if len(tests) == 1:
            return tests[0]

        def see(value: Any, path: tuple[str, ...], faults: list[Fault]) -> None:
            for test in tests:
                test(value, path, faults)

        return see

    def _enum(self, shape: Shape) -> _Look | None:
        if not shape.enum or not self._words.enums:
            return None
        allowed = frozenset(shape.enum)
        text = f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        return _test(lambda value: value in allowed, text)

    def _pattern(self, shape: Shape) -> _Look | None:
        if not shape.pattern or not self._words.patterns:
            return None
        try:
            matches = re.compile(shape.pattern).fullmatch
        except re.error:  # a class of characters that Python's expressions do not have
            return None
        text = f"Member must satisfy regular expression pattern: {shape.pattern}"
        return _test(lambda value: len(value) > _PATTERN_CHARS_MAX or matches(value) is not None, text)


def _nothing(_value: Any, _path: tuple[str, ...], _faults: list[Fault]) -> None:
    pass


def _test(holds: Callable[[Any], bool], text: str) -> _Look:
    def see(value: Any, path: tuple[str, ...], faults: list[Fault]) -> None:
        if not holds(value):
            faults.append(Fault(path, value, text))

    return see


def _length(shape: Shape) -> _Look | None:
    low, high = shape.minimum or 0, shape.maximum
    if not low and high is None:
        return None

    def see(value: Any, path: tuple[str, ...], faults: list[Fault]) -> None:
        size = len(value)
        if size < low:
            faults.append(Fault(path, value, f"Member must have length greater than or equal to {low:g}"))
        elif high is not None and size > high:
            faults.append(Fault(path, value, f"Member must have length less than or equal to {int(high)}"))

    return see


def _range(shape: Shape) -> _Look | None:
    low, high = shape.minimum, shape.maximum
    if low is None and high is None:
        return None

    def see(value: Any, path: tuple[str, ...], faults: list[Fault]) -> None:
        if low is not None and not value >= low:
            faults.append(Fault(path, value, f"Member must have value greater than or equal to {_plain(low)}"))
        elif high is not None and not value <= high:
            faults.append(Fault(path, value, f"Member must have value less than or equal to {_plain(high)}"))

    return see


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _error(faults: list[Fault], words: Wording) -> CloudError:
    first = next((one for one in faults if one.value is None), faults[0])
    field = ".".join(first.path)
    kind, code = (MissingParameter, words.missing) if first.value is None else (InvalidParameterValue, words.invalid)
    if words.style == "coral":
        return kind(_coral(faults[:_FAULTS_MAX]), code=code, field=field)
    return kind(_single(first, field, words.style), code=code, field=field)


def _coral(faults: list[Fault]) -> str:
    some = "1 validation error" if len(faults) == 1 else f"{len(faults)} validation errors"
    told = [f"{_value(one)} at '{'.'.join(one.path)}' failed to satisfy constraint: {one.constraint}" for one in faults]
    return f"{some} detected: {'; '.join(told)}"


def _value(fault: Fault) -> str:
    return "Value null" if fault.value is None else f"Value '{_cut(fault.value)}'"


def _cut(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value[:20] if isinstance(value, list) else value)
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[:_VALUE_CHARS_MAX]}..."


def _single(fault: Fault, field: str, style: str) -> str:
    if fault.value is None:
        if style == "cloudwatch":
            return f"The parameter {field} is required."
        return f"The request must contain the parameter {field}" + ("." if style == "sqs" else "")
    if style == "cloudwatch":
        return f"The value {_cut(fault.value)} for parameter {field} is invalid. {fault.constraint}."
    return f"Value ({_cut(fault.value)}) for parameter {field} is invalid. {fault.constraint}."
