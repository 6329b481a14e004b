"""Rules of what holds policies: users and roles, their inline and attached policies, their tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from minicloud.base import limits
from minicloud.base.errors import InvalidParameterValue, LimitExceeded, OperationNotPermitted
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tags
from minicloud.identity.iam.model import Policy, Profile, Role, User
from minicloud.identity.iam.tables import (
    AWS_POLICY,
    Tables,
    check_document,
    check_name,
    conflict,
    drop,
    new_id,
    no_such,
    put,
)

Holder: TypeAlias = User | Role
Kind: TypeAlias = type[User] | type[Role]


def find(iam: Tables, kind: Kind, account: str, name: str) -> Holder:
    return iam.find(User, account, name) if kind is User else iam.find(Role, account, name)


def create_user(iam: Tables, context: Context, account: str, name: str, path: str, tags: dict[str, str]) -> Outcome:
    iam.check_new(User, account, name, path)
    made = User(account, name, path, new_id(User, context), context.now, tags=check_tags(tags))
    return put(made, made)


def delete_user(iam: Tables, context: Context, account: str, name: str, has_keys: bool) -> Outcome:
    user = iam.find(User, account, name)
    if has_keys:
        raise conflict("delete access keys")
    _check_bare(user)
    return drop(user)


def create_role(iam: Tables, context: Context, account: str, name: str, path: str, trust: str, **more: Any) -> Outcome:
    """`more`: description, session_s_max, tags, service."""
    iam.check_new(Role, account, name, path)
    check_document(trust)
    _check_session(more.get("session_s_max", 3600))
    check_tags(more.get("tags", {}))
    made = Role(account, name, path, new_id(Role, context), context.now, trust, **more)
    return put(made, made)


def update_role(iam: Tables, context: Context, account: str, name: str, **changes: Any) -> Outcome:
    """`changes`: description, session_s_max, trust."""
    role = iam.find(Role, account, name)
    if "trust" in changes:
        check_document(changes["trust"])
    if "session_s_max" in changes:
        _check_session(changes["session_s_max"])
    after = replace(role, **changes)
    return put(after, after)


def _check_session(seconds: int) -> None:
    if not limits.IAM_SESSION_S_MIN <= seconds <= limits.IAM_SESSION_S_MAX:
        raise InvalidParameterValue(
            f"MaxSessionDuration must be {limits.IAM_SESSION_S_MIN} to {limits.IAM_SESSION_S_MAX} seconds",
            code="ValidationError",
        )


def delete_role(iam: Tables, context: Context, account: str, name: str, linked: bool = False) -> Outcome:
    role = iam.find(Role, account, name)
    if role.service and not linked:
        raise OperationNotPermitted(
            f"Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS",
            code="UnmodifiableEntity",
        )
    if any(name in one.roles for one in iam.all_of(Profile, account)):
        raise conflict("remove roles from instance profile")
    if not linked:
        _check_bare(role)
    return drop(role)


def _check_bare(holder: Holder) -> None:
    if holder.attached:
        raise conflict("detach all policies")
    if holder.inline:
        raise conflict("delete policies")


def put_inline(
    iam: Tables, context: Context, kind: Kind, account: str, name: str, policy: str, document: str
) -> Outcome:
    holder = find(iam, kind, account, name)
    check_name(policy)
    check_document(document)
    inline = {**holder.inline, policy: document}
    if sum(len(one) for one in inline.values()) > limits.IAM_INLINE_CHARS_MAX:
        raise LimitExceeded(
            f"Maximum policy size of {limits.IAM_INLINE_CHARS_MAX} bytes exceeded for {kind.word} {name}",
            code="LimitExceeded",
        )
    after = replace(holder, inline=inline)
    return put(after, after)


def inline_of(iam: Tables, kind: Kind, account: str, name: str, policy: str) -> str:
    document = find(iam, kind, account, name).inline.get(policy)
    if document is None:
        raise no_such(f"The {kind.word} policy with name {policy[:128]} cannot be found.")
    return document


def delete_inline(iam: Tables, context: Context, kind: Kind, account: str, name: str, policy: str) -> Outcome:
    inline_of(iam, kind, account, name, policy)
    holder = find(iam, kind, account, name)
    after = replace(holder, inline={key: value for key, value in holder.inline.items() if key != policy})
    return put(after, after)


def attach(iam: Tables, context: Context, kind: Kind, account: str, name: str, arn: str) -> Outcome:
    """A policy of the account's, or one of AWS's by its name (which stands for nothing here yet). Idempotent."""
    holder = find(iam, kind, account, name)
    if not AWS_POLICY.match(arn):
        iam.policy(account, arn)
    attached = sorted({*holder.attached, arn})
    if len(attached) > limits.IAM_ATTACHED_MAX:
        raise LimitExceeded(
            f"Cannot exceed quota for PoliciesPer{kind.word.capitalize()}: {limits.IAM_ATTACHED_MAX}",
            code="LimitExceeded",
        )
    after = replace(holder, attached=attached)
    return put(after, after)


def detach(iam: Tables, context: Context, kind: Kind, account: str, name: str, arn: str) -> Outcome:
    holder = find(iam, kind, account, name)
    if arn not in holder.attached:
        raise no_such(f"Policy {arn[:256]} was not found.")
    after = replace(holder, attached=[one for one in holder.attached if one != arn])
    return put(after, after)


def holders_of(iam: Tables, account: str, arn: str) -> list[Holder]:
    """Who has this policy attached."""
    every: list[Holder] = [*iam.all_of(User, account), *iam.all_of(Role, account)]
    return [one for one in every if arn in one.attached]


def retag(
    iam: Tables,
    context: Context,
    kind: type[User] | type[Role] | type[Policy] | type[Profile],
    account: str,
    name: str,
    tags: dict[str, str],
    remove: tuple[str, ...] = (),
) -> Outcome:
    found = iam.find(kind, account, name)
    kept = {key: value for key, value in found.tags.items() if key not in remove}
    after = replace(found, tags=check_tags(tags, kept=kept))
    return put(after, after)
