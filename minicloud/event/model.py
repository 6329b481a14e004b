"""Rules and their targets, as values. A rule is of an account's default bus in a region."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from minicloud.base.machine import Entity, known_fields


@dataclass(frozen=True, slots=True)
class Target:
    """Where a rule's events go. At most one of `input` (a constant), `path` and `template` is given.

    `paths`: the template's variables. `group`: the message group in a FIFO queue. `retries`, `age_s` None: AWS's
    default. `dead_letter`: the ARN of a queue, '' for none.
    """

    id: str
    arn: str
    input: str = ""
    path: str = ""
    paths: dict[str, str] = field(default_factory=dict)
    template: str = ""
    group: str = ""
    retries: int | None = None
    age_s: int | None = None
    dead_letter: str = ""

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        return cls(**known_fields(cls, body))


@dataclass(frozen=True, slots=True)
class Rule(Entity):
    """`pattern`: JSON. `expression`: rate or cron. '' for none. `next`: when it fires; None: not by time."""

    kind: ClassVar[str] = "event_rule"

    arn: str
    account: str
    region: str
    name: str
    pattern: str
    expression: str
    created: float
    enabled: bool = True
    description: str = ""
    next: float | None = None
    targets: tuple[Target, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        known = known_fields(cls, body)
        return cls(**{**known, "targets": tuple(Target.load(one) for one in body.get("targets", ()))})


KINDS: dict[str, type[Entity]] = {Rule.kind: Rule}
