"""Log groups, streams and events, as values. Times of the API are Unix milliseconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

from minicloud.base.arn import Scope


class Event(NamedTuple):
    """`number`: of the event in its stream, from 0; with the time it says where the event stands."""

    time_ms: int
    number: int
    taken_ms: int
    message: str


class Given(NamedTuple):
    """One event of PutLogEvents, as it comes."""

    time_ms: int
    message: str


@dataclass(frozen=True, slots=True)
class Group:
    """retention_days 0: for ever."""

    kind: ClassVar[str] = "log_group"

    account: str
    region: str
    name: str
    created_ms: int
    retention_days: int = 0
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def key(self) -> str:
        return group_key(self.scope, self.name)

    @property
    def arn(self) -> str:
        return self.scope.arn("logs", f"log-group:{self.name}")

    def body(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        return cls(**{name: value for name, value in body.items() if name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Stream:
    """`number`: its own for ever, so that what is left of a deleted stream is never taken for a new one's."""

    kind: ClassVar[str] = "log_stream"

    group: str
    name: str
    number: int
    created_ms: int

    @property
    def key(self) -> str:
        return stream_key(self.group, self.name)

    def body(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        return cls(**{name: value for name, value in body.items() if name in cls.__dataclass_fields__})


def group_key(scope: Scope, name: str) -> str:
    return f"{scope.account}/{scope.region}/{name}"


def stream_key(group: str, name: str) -> str:
    """No name of a group or stream holds a control character."""
    return f"{group}\n{name}"
