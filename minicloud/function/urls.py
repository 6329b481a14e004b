"""Function URLs: who may call them, and their CORS. Source: lambda API, CreateFunctionUrlConfig."""

from __future__ import annotations

import re
from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, names
from minicloud.function.commands import CreateUrl, DeleteUrl, UpdateUrl
from minicloud.function.model import EVERYBODY, NOBODY, Cors, Url
from minicloud.function.state import State

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_METHODS = ("GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,1024}\Z")
_ORIGIN = re.compile(r"(\*|https?://[^\s/]{1,240})\Z")
ID_CHARS = 32
AGE_S = (0, 86_400)  # model, MaxAge
ITEMS_MAX = 100  # model, Cors


def create(state: State, command: CreateUrl, context: Context) -> Outcome:
    target = _target(state, command.scope, command.function, command.qualifier)
    _check(command.auth, command.cors)
    if target.arn in state.urls:
        text = (
            f"Failed to create function url config for [functionArn = {target.arn}]. "
            "Error message: FunctionUrlConfig exists for this Lambda function"
        )
        raise errors.Taken(text, field="function")
    function = target.function
    made = Url(
        target.arn,
        function.arn,
        function.account,
        function.region,
        "".join(context.rand.choice(_ALPHABET) for _ in range(ID_CHARS)),
        command.auth,
        context.now,
        context.now,
        command.streams,
        command.cors,
    )
    draft = Draft(state)
    draft.put(made)
    return draft.outcome(made)


def update(state: State, command: UpdateUrl, context: Context) -> Outcome:
    before = find(state, _target(state, command.scope, command.function, command.qualifier).arn)
    after = replace(
        before,
        auth=before.auth if command.auth is None else command.auth,
        streams=before.streams if command.streams is None else command.streams,
        cors=before.cors if command.cors is None else command.cors,
        modified=context.now,
    )
    _check(after.auth, after.cors)
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(after)


def delete(state: State, command: DeleteUrl, _context: Context) -> Outcome:
    draft = Draft(state)
    draft.drop(find(state, _target(state, command.scope, command.function, command.qualifier).arn))
    return draft.outcome()


def find(state: State, arn: str) -> Url:
    url = state.urls.get(arn)
    if url is None:
        raise errors.NoSuchThing("The resource you requested does not exist.", field="function")
    return url


def _target(state: State, scope: Scope, function: str, qualifier: str) -> names.Target:
    target = names.resolve(state, scope, function, qualifier)
    if target.arn != target.function.arn and target.alias is None:
        raise errors.no_match("qualifier", target.arn.rpartition(":")[2], "((?!^\\d+$)^[0-9a-zA-Z-_]+$)")
    return target


def _check(auth: str, cors: Cors | None) -> None:
    if auth not in (EVERYBODY, NOBODY):
        raise errors.not_one_of("authType", auth, (EVERYBODY, NOBODY))
    if cors is None:
        return
    errors.check_range("cors.maxAge", cors.max_age_s, AGE_S)
    for method in cors.methods:
        if method not in _METHODS:
            raise errors.not_one_of("cors.allowMethods", method, _METHODS)
    for origin in cors.origins:
        if not _ORIGIN.match(origin):
            raise errors.invalid(f"'{origin[:256]}' is not an origin", "cors.allowOrigins")
    for header in (*cors.headers, *cors.expose):
        if not _HEADER.match(header):
            raise errors.no_match("cors.allowHeaders", header, ".*")
    if max(len(cors.headers), len(cors.expose), len(cors.origins)) > ITEMS_MAX:
        raise errors.invalid(f"A list of Cors has at most {ITEMS_MAX} items", "cors")
