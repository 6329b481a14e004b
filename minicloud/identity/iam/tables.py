"""IAM's tables, and what every rule of them needs: finding, listing, checking, writing down."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minicloud.base import limits
from minicloud.base.errors import AlreadyExists, DependencyViolation, InvalidParameterValue, LimitExceeded, NotFound
from minicloud.base.machine import Context, Outcome, Record
from minicloud.identity.iam.model import KINDS, Entity, Policy

E = TypeVar("E", bound=Entity)
_NAME = re.compile(r"[\w+=,.@-]+", re.ASCII)
_PATH = re.compile(r"/|/[\x21-\x7e]+/")
AWS_POLICY = re.compile(r"arn:aws:iam::aws:policy/[\w+=,.@/-]{1,128}\Z", re.ASCII)
_CALLED = {"iam_user": "user", "iam_role": "role", "iam_policy": "policy", "iam_instance_profile": "Instance Profile"}
_COUNTS = {
    "iam_user": limits.IAM_USERS_MAX,
    "iam_role": limits.IAM_ROLES_MAX,
    "iam_policy": limits.IAM_POLICIES_MAX,
    "iam_instance_profile": limits.IAM_PROFILES_MAX,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A command: one of IAM's rules and its arguments. `rule(tables, context, *args)` decides, purely."""

    rule: Callable[..., Outcome]
    args: tuple[Any, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)


class Tables:
    """Implements the reading half of base.machine.Machine for the kinds of model.KINDS."""

    kinds = frozenset(KINDS)

    def __init__(self) -> None:
        self._entities: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self._names: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._attached: Counter[str] = Counter()  # by "<account> <ARN of a policy>"

    def decide(self, command: Ask, context: Context) -> Outcome:
        return command.rule(self, context, *command.args, **command.given)

    def apply(self, record: Record) -> None:
        table = self._entities[record.kind]
        account, _, name = record.key.partition("/")
        names = self._names[(record.kind, account)]
        self._count(account, getattr(table.get(record.key), "attached", ()), -1)
        if record.body is None:
            if table.pop(record.key, None) is not None:
                del names[bisect_left(names, name)]
            return
        if record.key not in table:
            insort(names, name)
        table[record.key] = made = KINDS[record.kind].load(record.body)
        self._count(account, getattr(made, "attached", ()), 1)

    def _count(self, account: str, arns: Iterable[str], by: int) -> None:
        for arn in arns:
            self._attached[f"{account} {arn}"] += by

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        entity = self._entities[kind].get(key)
        return None if entity is None else entity.body()

    # --- reading

    def names(self, kind: type[Entity], account: str) -> Sequence[str]:
        """Sorted."""
        return self._names.get((kind.kind, account), ())

    def get(self, kind: type[E], account: str, name: str) -> E | None:
        found: E | None = self._entities[kind.kind].get(f"{account}/{name}")
        return found

    def find(self, kind: type[E], account: str, name: str) -> E:
        """Raises NotFound (NoSuchEntity) in IAM's words."""
        found = self.get(kind, account, name)
        if found is not None:
            return found
        shown, called = name[:128], _CALLED[kind.kind]
        if kind.kind == "iam_instance_profile":
            raise no_such(f"{called} {shown} cannot be found.")
        raise no_such(f"The {called} with name {shown} cannot be found.")

    def all_of(self, kind: type[E], account: str) -> list[E]:
        return [self._entities[kind.kind][f"{account}/{name}"] for name in self.names(kind, account)]

    def policy(self, account: str, arn: str) -> Policy:
        """A policy of the account by its ARN. Raises NotFound."""
        found = self.get(Policy, account, arn.rpartition("/")[2])
        if found is None or found.arn != arn:
            raise no_such(f"Policy {arn[:256]} does not exist or is not attachable.")
        return found

    def attachments(self, policy: Policy) -> int:
        """How many users and roles have it attached."""
        return self._attached[f"{policy.account} {policy.arn}"]

    def check_new(self, kind: type[Entity], account: str, name: str, path: str) -> None:
        check_name(name, path)
        called = _CALLED[kind.kind]
        if self.get(kind, account, name) is not None:
            text = f"{called[0].upper()}{called[1:]} with name {name} already exists."
            if kind is Policy:
                text = f"A policy called {name} already exists. Duplicate names are not allowed."
            raise AlreadyExists(text, code="EntityAlreadyExists")
        if len(self.names(kind, account)) >= _COUNTS[kind.kind]:
            raise LimitExceeded(f"Cannot exceed quota for {called}s: {_COUNTS[kind.kind]}", code="LimitExceeded")


def no_such(text: str) -> NotFound:
    return NotFound(text, code="NoSuchEntity")


def conflict(text: str) -> DependencyViolation:
    return DependencyViolation(f"Cannot delete entity, must {text} first.", code="DeleteConflict")


def new_id(kind: type[Entity], context: Context) -> str:
    """IAM's unique ids: a prefix that tells the kind, 17 of A-Z2-7."""
    return kind.prefix + base64.b32encode(context.rand.randbytes(11)).decode()[:17]


def put(reply: Any, *entities: Entity) -> Outcome:
    return Outcome(reply, [Record(one.kind, one.key, one.body()) for one in entities])


def drop(entity: Entity) -> Outcome:
    return Outcome(entity, [Record(entity.kind, entity.key, None)])


def check_name(name: str, path: str = "/") -> None:
    if not _NAME.fullmatch(name) or len(name) > limits.IAM_NAME_CHARS_MAX:
        raise InvalidParameterValue(
            "The specified value for name is invalid. It must contain only alphanumeric characters and/or the "
            "following: +=,.@_-",
            code="ValidationError",
        )
    if not _PATH.fullmatch(path) or len(path) > limits.IAM_PATH_CHARS_MAX:
        raise InvalidParameterValue(
            "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric "
            "characters and/or / characters.",
            code="ValidationError",
        )


def check_document(text: str) -> str:
    """A policy document by its form. Raises InvalidParameterValue (MalformedPolicyDocument)."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise malformed("Syntax errors in policy.") from None
    if not isinstance(document, dict):
        raise malformed("Syntax errors in policy.")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not all(isinstance(one, dict) for one in statements):
        raise malformed("Missing required field Statement")
    for one in statements:
        _check_parts(one)
        if one.get("Effect") not in ("Allow", "Deny"):
            raise malformed(f"Invalid effect: {str(one.get('Effect'))[:32]}")
        if "Action" not in one and "NotAction" not in one:
            raise malformed("Missing required field Action")
    return text


def _check_parts(statement: dict[str, Any]) -> None:
    """What the parts of a statement are made of, so that who reads it later need not ask."""
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if name in statement and not _is_words(statement[name]):
            raise malformed(f"Syntax errors in policy: {name}")
    for name in ("Principal", "NotPrincipal"):
        named = statement.get(name, "*")
        if named != "*" and not (isinstance(named, dict) and all(map(_is_words, named.values()))):
            raise malformed("Invalid principal in policy")
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, dict) or not all(isinstance(keys, dict) for keys in conditions.values()):
        raise malformed("Syntax errors in policy: Condition")


def _is_words(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def malformed(text: str) -> InvalidParameterValue:
    return InvalidParameterValue(text, code="MalformedPolicyDocument")
