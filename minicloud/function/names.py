"""How functions, versions and aliases are named in requests, and what a name stands for.

    my-function            my-function:prod       123456789012:function:my-function
    function:my-function   arn:aws:lambda:us-east-1:123456789012:function:my-function:7

A qualifier ($LATEST, a number, an alias) comes in the name or beside it; both must agree. Another account's function
does not exist; one of another region is not reachable, as AWS says.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.function import errors, limits
from minicloud.function.model import LATEST, Alias, Function, Version
from minicloud.function.state import State

_REFERENCE = re.compile(
    r"(?:arn:aws:lambda:)?(?:(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_-]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9_-]+))?\Z"
)
_NAME = re.compile(r"[a-zA-Z0-9_-]+\Z")
_QUALIFIER = re.compile(r"(?:\$LATEST|[a-zA-Z0-9_-]{1,128})\Z")
ALIAS = re.compile(r"(?!^[0-9]+\Z)[a-zA-Z0-9_-]{1,128}\Z")
_CHARS_MAX = 256


class Name(NamedTuple):
    """`qualifier` '': none was given."""

    name: str
    qualifier: str


class Target(NamedTuple):
    """Something that can be invoked. `arn`: as it was asked for, qualified or not. `alias` None: none is in between."""

    function: Function
    arn: str
    version: Version
    alias: Alias | None = None


def check_name(name: str) -> None:
    """Of a new function. Raises ValidationException."""
    if not _NAME.match(name) or len(name) > limits.NAME_CHARS_MAX:
        text = "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+ and have at most 64 characters"
        raise errors.out_of_model("functionName", name, text)


def parse(scope: Scope, text: str, qualifier: str = "") -> Name:
    """Raises ValidationException, InvalidParameterValueException, ResourceNotFoundException."""
    found = _REFERENCE.match(text) if len(text) <= _CHARS_MAX else None
    if found is None:
        raise errors.out_of_model("functionName", text, "Member must be a name or ARN of a function")
    if qualifier and not _QUALIFIER.match(qualifier):
        raise errors.out_of_model("qualifier", qualifier, "Member must be $LATEST, a version or an alias")
    inside = found["qualifier"] or ""
    if inside and qualifier and inside != qualifier:
        text = "The derived qualifier from the function name does not match the specified qualifier."
        raise errors.invalid(text, "qualifier")
    name = Name(found["name"], qualifier or inside)
    if found["region"] and found["region"] != scope.region:
        text = f"Functions from '{found['region']}' are not reachable in this region ('{scope.region}')"
        raise errors.NoSuchThing(text, field="function")
    if found["account"] and found["account"] != scope.account:
        raise errors.no_function(text)
    return name


def arn_of(scope: Scope, name: Name) -> str:
    arn = scope.arn("lambda", f"function:{name.name}")
    return f"{arn}:{name.qualifier}" if name.qualifier else arn


def find(state: State, scope: Scope, text: str) -> Function:
    """The function; a qualifier in the text is not allowed. Raises ResourceNotFoundException and what `parse` does."""
    name = parse(scope, text)
    if name.qualifier:
        raise errors.invalid(f"'{text}' names a version or an alias where a function is wanted", "function")
    return _function(state, scope, name)


def _function(state: State, scope: Scope, name: Name) -> Function:
    function = state.functions.get(scope.arn("lambda", f"function:{name.name}"))
    if function is None:
        raise errors.no_function(arn_of(scope, name))
    return function


def resolve(state: State, scope: Scope, text: str, qualifier: str = "") -> Target:
    """What a name stands for; without qualifier $LATEST. Raises ResourceNotFoundException and what `parse` does."""
    name = parse(scope, text, qualifier)
    function = _function(state, scope, name)
    if not name.qualifier:
        return Target(function, function.arn, state.latest(function.arn))
    arn = f"{function.arn}:{name.qualifier}"
    version = state.versions.get(arn)
    if version is not None:
        return Target(function, arn, version)
    alias = state.aliases.get(arn)
    if alias is None:
        raise errors.no_function(arn)
    return Target(function, arn, state.versions[f"{function.arn}:{alias.version}"], alias)


def owner(state: State, scope: Scope, text: str, qualifier: str = "", *, what: str) -> tuple[Function, str]:
    """The function, and the ARN of it, of a version of it or of an alias of it that something hangs on."""
    target = resolve(state, scope, text, qualifier)
    if target.arn.endswith(LATEST) and what:
        raise errors.invalid(f"{what} is not available for $LATEST", "qualifier")
    return target.function, target.arn


def choose(state: State, target: Target, lot: float) -> Version:
    """The version that an invocation of this target runs. `lot`: drawn from [0, 1)."""
    if target.alias is None:
        return target.version
    for number, weight in target.alias.weights.items():
        if lot < weight:
            return state.versions[f"{target.function.arn}:{number}"]
        lot -= weight
    return target.version


def no_alias(arn: str) -> CloudError:
    return errors.NoSuchThing(f"Cannot find alias arn: {arn}", field="name")
