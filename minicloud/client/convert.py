"""Protobuf messages to the frozen dataclasses of `models.py`, and those to JSON.

The field names are the same on both sides. What differs, differs by the type that the model declares:

    datetime | None     Unix seconds (double); 0 means "not yet"          -> UTC
    tuple[X, ...]       repeated X
    Mapping[str, X]     map<string, X>
    X | None            optional scalar, or a message that is not set
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from minicloud.base.errors import InvalidParameterValue

if TYPE_CHECKING:
    from google.protobuf.message import Message

T = TypeVar("T")
Read = Callable[[Any], object]


def to_model(model: type[T], message: Message) -> T:
    """The model of a message; fields of the message that the model does not have are left out."""
    return model(**{name: read(message) for name, read in _plan(cast("Hashable", model))})


def check_names(options: Mapping[str, object], known: type) -> None:
    """Raises TypeError for a keyword argument that there is not, as a call of a plain function would."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"unexpected keyword argument {name!r}; there are: {', '.join(known.__annotations__)}")


def check_range(low: int = -(1 << 31), **numbers: int | None) -> None:
    """Raises InvalidParameterValue for a number that the wire cannot carry."""
    for name, number in numbers.items():
        if number is not None and not low <= number < 1 << 31:
            raise InvalidParameterValue(f"Value {number} for parameter {name} is invalid.", field=name)


def to_data(value: object) -> Any:
    """Models, datetimes and tuples to what `json.dumps` takes. Times become ISO 8601 in UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_data(item) for item in value]
    return value


@cache
def _plan(model: Any) -> tuple[tuple[str, Read], ...]:
    hints = get_type_hints(model)
    return tuple((field.name, _reader(field.name, hints[field.name])) for field in dataclasses.fields(model))


def _reader(name: str, hint: Any) -> Read:
    optional = get_origin(hint) in (Union, types.UnionType)
    inner = next(arg for arg in get_args(hint) if arg is not type(None)) if optional else hint
    if inner is datetime:
        return lambda message: _moment(getattr(message, name))
    if get_origin(inner) is tuple:
        convert = _item(get_args(inner)[0])
        return lambda message: tuple(convert(item) for item in getattr(message, name))
    if get_origin(inner) is Mapping:
        convert = _item(get_args(inner)[1])
        return lambda message: {key: convert(item) for key, item in getattr(message, name).items()}
    convert = _item(inner)
    if not optional and convert is _same:
        return attrgetter(name)
    if optional:
        return lambda message: convert(getattr(message, name)) if message.HasField(name) else None
    return lambda message: convert(getattr(message, name))


def _item(hint: Any) -> Callable[[Any], object]:
    if dataclasses.is_dataclass(hint):
        return lambda message: to_model(cast("type[object]", hint), message)
    return _same


def _same(value: object) -> object:
    return value


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
