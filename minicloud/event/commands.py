"""What is asked of the machine of rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minicloud.base.arn import Scope
from minicloud.event.model import Target


@dataclass(frozen=True, slots=True)
class PutRule:
    """Made, or changed as a whole but for its targets and tags. `tags`: of a new rule."""

    scope: Scope
    name: str
    pattern: str = ""
    expression: str = ""
    enabled: bool = True
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetRuleState:
    scope: Scope
    name: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class DeleteRule:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class PutTargets:
    """A target whose id is there already is replaced."""

    scope: Scope
    rule: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class RemoveTargets:
    scope: Scope
    rule: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetRuleTags:
    """`rule`: its name or ARN."""

    scope: Scope
    rule: str
    tags: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleFired:
    """What was due `at` that time is on its way."""

    arn: str
    at: float
