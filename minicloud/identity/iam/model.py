"""What IAM keeps, as values. Keys are `<account>/<name>`: IAM has no regions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self


class Entity:
    """`kind`: its table; `word`: IAM's word for it in texts and ARNs; `prefix`: of its unique id."""

    kind: ClassVar[str]
    word: ClassVar[str]
    prefix: ClassVar[str]
    account: str
    name: str
    path: str

    def body(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in body.items() if name in known})

    @property
    def key(self) -> str:
        return f"{self.account}/{self.name}"

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:{self.word}{self.path}{self.name}"


@dataclass(frozen=True, slots=True)
class User(Entity):
    """`inline`: policy documents by name; `attached`: ARNs of policies, sorted."""

    kind: ClassVar[str] = "iam_user"
    word: ClassVar[str] = "user"
    prefix: ClassVar[str] = "AIDA"

    account: str
    name: str
    path: str
    id: str
    created: float
    inline: dict[str, str] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Role(Entity):
    """`trust`: the document that says who may take it on. `service`: of a service-linked role, its principal."""

    kind: ClassVar[str] = "iam_role"
    word: ClassVar[str] = "role"
    prefix: ClassVar[str] = "AROA"

    account: str
    name: str
    path: str
    id: str
    created: float
    trust: str
    description: str = ""
    session_s_max: int = 3600
    service: str = ""
    inline: dict[str, str] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy(Entity):
    """`versions`: "v1" -> {"document", "created"}; numbers are not used again (`made` counts them)."""

    kind: ClassVar[str] = "iam_policy"
    word: ClassVar[str] = "policy"
    prefix: ClassVar[str] = "ANPA"

    account: str
    name: str
    path: str
    id: str
    created: float
    updated: float
    versions: dict[str, dict[str, Any]]
    default: str = "v1"
    made: int = 1
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile(Entity):
    """An instance profile: a role for instances; at most one."""

    kind: ClassVar[str] = "iam_instance_profile"
    word: ClassVar[str] = "instance-profile"
    prefix: ClassVar[str] = "AIPA"

    account: str
    name: str
    path: str
    id: str
    created: float
    roles: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


KINDS: dict[str, type[Entity]] = {one.kind: one for one in (User, Role, Policy, Profile)}
