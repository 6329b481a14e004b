"""Permissions: a policy on a function, version, alias or layer version, statement by statement.

Callers of the same account are always allowed, there are no users' policies here. Services (topics, schedules) and
callers of a function URL without authentication need a statement, as in AWS. Source: lambda API, AddPermission.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, names
from minicloud.function.commands import AddPermission, RemovePermission
from minicloud.function.functions import check_revision, new_uuid
from minicloud.function.model import EVERYBODY, NOBODY, Policy, Statement
from minicloud.function.state import State

INVOKE, INVOKE_URL = "lambda:InvokeFunction", "lambda:InvokeFunctionUrl"
_SID = re.compile(r"[a-zA-Z0-9_-]{1,100}\Z")
_ACTION = re.compile(r"(lambda:[*]|lambda:[a-zA-Z]+|[*])\Z")
_ACCOUNT = re.compile(r"\d{12}\Z")
_PRINCIPAL = re.compile(r"(\*|\d{12}|[a-z0-9.-]+\.amazonaws\.com|arn:aws:iam::\d{12}:\S{1,256})\Z")
POLICY_BYTES_MAX = 20 * 1024  # quotas: a function's resource-based policy


def add(state: State, command: AddPermission, context: Context) -> Outcome:
    """The reply is the Statement's document."""
    _, arn = names.owner(state, command.scope, command.function, command.qualifier, what="A policy")
    _check(command.statement)
    draft = Draft(state)
    draft.put(with_statement(state, command.scope, arn, command.statement, command.revision, new_uuid(context)))
    return draft.outcome(statement_document(arn, command.statement))


def remove(state: State, command: RemovePermission, context: Context) -> Outcome:
    _, arn = names.owner(state, command.scope, command.function, command.qualifier, what="A policy")
    return without_statement(state, arn, command.sid, command.revision, new_uuid(context))


def with_statement(state: State, scope: Scope, arn: str, new: Statement, given: str, revision: str) -> Policy:
    """The policy with one more statement. `given`: the revision that the caller knows, '' for any; `revision`: the new
    one. Raises ResourceConflictException, PolicyLengthExceededException, PreconditionFailedException.
    """
    before = state.policies.get(arn) or Policy(arn, scope.account, scope.region, "")
    check_revision(before.revision, given)
    if new.sid in before.statements:
        text = (
            f"The statement id ({new.sid}) provided already exists. "
            "Please provide a new statement id, or remove the existing statement."
        )
        raise errors.Taken(text, field="statementId")
    after = replace(before, revision=revision, statements=before.statements | {new.sid: new})
    if len(json.dumps(document(after))) > POLICY_BYTES_MAX:
        raise errors.policy_too_long(POLICY_BYTES_MAX)
    return after


def without_statement(state: State, arn: str, sid: str, given: str, revision: str) -> Outcome:
    """As `with_statement`. Raises ResourceNotFoundException, PreconditionFailedException."""
    before = state.policies.get(arn)
    if before is None or sid not in before.statements:
        raise errors.NoSuchThing(f"Statement {sid[:100]} is not found in resource policy.", field="statementId")
    check_revision(before.revision, given)
    left = {name: one for name, one in before.statements.items() if name != sid}
    draft = Draft(state)
    if left:
        draft.put(replace(before, revision=revision, statements=left))
    else:
        draft.drop(before)
    return draft.outcome()


def find(state: State, arn: str) -> Policy:
    policy = state.policies.get(arn)
    if policy is None:
        raise errors.NoSuchThing("The resource you requested does not exist.", field="function")
    return policy


def allows(policy: Policy | None, action: str, principal: str, source_arn: str = "", url_auth: str = "") -> bool:
    """Whether a statement lets this principal do that, on behalf of that source."""
    statements = policy.statements.values() if policy is not None else ()
    return any(_covers(one, action, principal, source_arn, url_auth) for one in statements)


def _covers(one: Statement, action: str, principal: str, source_arn: str, url_auth: str) -> bool:
    if one.action not in (action, "lambda:*", "*") or one.principal not in (principal, "*"):
        return False
    if one.source_arn and not fnmatchcase(source_arn, one.source_arn.replace("[", "[[]")):
        return False
    if one.source_account and source_arn.split(":")[4:5] != [one.source_account]:
        return False
    return not one.url_auth or one.url_auth == url_auth


def _check(new: Statement) -> None:
    if not _SID.match(new.sid):
        raise errors.no_match("statementId", new.sid, "([a-zA-Z0-9-_]+)")
    if not _ACTION.match(new.action):
        raise errors.no_match("action", new.action, "(lambda:[*]|lambda:[a-zA-Z]+|[*])")
    if not _PRINCIPAL.match(new.principal):
        text = "The provided principal was invalid. Please check the principal and try again."
        raise errors.invalid(text, "principal")
    if new.url_auth and new.url_auth not in (EVERYBODY, NOBODY):
        raise errors.not_one_of("functionUrlAuthType", new.url_auth, (EVERYBODY, NOBODY))
    if new.source_account and not _ACCOUNT.match(new.source_account):
        raise errors.no_match("sourceAccount", new.source_account, r"\d{12}")


# --- as documents


def document(policy: Policy) -> dict[str, Any]:
    """As GetPolicy shows it."""
    statements = [statement_document(policy.arn, one) for one in policy.statements.values()]
    return {"Version": "2012-10-17", "Id": "default", "Statement": statements}


def statement_document(arn: str, one: Statement) -> dict[str, Any]:
    conditions: dict[str, dict[str, str]] = {}
    if one.url_auth:
        conditions.setdefault("StringEquals", {})["lambda:FunctionUrlAuthType"] = one.url_auth
    if one.source_account:
        conditions.setdefault("StringEquals", {})["AWS:SourceAccount"] = one.source_account
    if one.source_arn:
        conditions.setdefault("ArnLike", {})["AWS:SourceArn"] = one.source_arn
    found: dict[str, Any] = {
        "Sid": one.sid,
        "Effect": "Allow",
        "Principal": _principal(one.principal),
        "Action": one.action,
        "Resource": arn,
    }
    return found | ({"Condition": conditions} if conditions else {})


def _principal(principal: str) -> str | dict[str, str]:
    if principal.endswith(".amazonaws.com"):
        return {"Service": principal}
    if _ACCOUNT.match(principal):
        return {"AWS": f"arn:aws:iam::{principal}:root"}
    return principal if principal == "*" else {"AWS": principal}
