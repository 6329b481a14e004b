"""Policies against requests, as IAM decides (cases of the IAM User Guide, and a dumb twin for wildcards)."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import InvalidParameterValue
from minicloud.identity.iam.evaluate import ALLOWED, DENIED, NOT_ALLOWED, evaluate, names_of

BUCKET = "arn:aws:s3:::photos/cat.jpg"


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Statement": list(statements)})


def allow(action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def said(
    *statements: dict[str, Any], action: str = "s3:GetObject", resource: str = BUCKET, **context: list[str]
) -> str:
    keys = {name.replace("_", ":"): values for name, values in context.items()}
    return evaluate({"p": policy(*statements)}, action, resource, keys).decision


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ((), NOT_ALLOWED),
        ((allow(),), ALLOWED),
        ((allow("S3:getobject"),), ALLOWED),
        ((allow("s3:Get*"),), ALLOWED),
        ((allow("s3:Put*"),), NOT_ALLOWED),
        ((allow(["ec2:*", "s3:GetObjec?"]),), ALLOWED),
        ((allow(resource="arn:aws:s3:::photos/*"),), ALLOWED),
        ((allow(resource="arn:aws:s3:::Photos/*"),), NOT_ALLOWED),
        ((allow(), {**allow("s3:*"), "Effect": "Deny"}), DENIED),
        ((allow(), {**allow("s3:*", "arn:aws:s3:::other/*"), "Effect": "Deny"}), ALLOWED),
        (({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},), ALLOWED),
        (({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"},), NOT_ALLOWED),
        (({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::photos/*"},), NOT_ALLOWED),
    ],
)
def test_effects_actions_and_resources(statements: tuple[dict[str, Any], ...], decision: str) -> None:
    assert said(*statements) == decision


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ({"StringEquals": {"k": "a"}}, ["a"], True),
        ({"StringEquals": {"K": ["b", "a"]}}, ["a"], True),
        ({"StringEquals": {"k": "A"}}, ["a"], False),
        ({"StringEqualsIgnoreCase": {"k": "A"}}, ["a"], True),
        ({"StringNotEquals": {"k": ["a", "b"]}}, ["a"], False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, ["c"], True),
        ({"StringLike": {"k": "a*c"}}, ["abbc"], True),
        ({"Bool": {"k": True}}, ["true"], True),
        ({"Bool": {"k": "false"}}, ["true"], False),
        ({"NumericLessThanEquals": {"k": 10}}, ["10"], True),
        ({"NumericLessThan": {"k": "10"}}, ["many"], False),
        ({"DateGreaterThan": {"k": "2026-01-01T00:00:00Z"}}, ["2026-06-01T00:00:00Z"], True),
        ({"IpAddress": {"k": "203.0.113.0/24"}}, ["203.0.113.9"], True),
        ({"NotIpAddress": {"k": "203.0.113.0/24"}}, ["203.0.113.9"], False),
        ({"ArnLike": {"k": "arn:aws:sns:*:*:news"}}, ["arn:aws:sns:us-east-1:1:news"], True),
        ({"Null": {"k": "false"}}, ["x"], True),
        ({"Null": {"k": "true"}}, ["x"], False),
        ({"Null": {"k": "true"}}, None, True),
        ({"StringEquals": {"k": "a"}}, None, False),
        ({"StringNotEquals": {"k": "a"}}, None, True),
        ({"StringEqualsIfExists": {"k": "a"}}, None, True),
        ({"StringEqualsIfExists": {"k": "a"}}, ["b"], False),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, ["a", "b"], True),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, ["a", "c"], False),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, ["c", "b"], True),
        ({"StringEquals": {"k": "a"}, "Bool": {"other": "true"}}, ["a"], False),
    ],
)
def test_conditions(condition: dict[str, Any], values: list[str] | None, holds: bool) -> None:
    context = {} if values is None else {"k": values}
    found = evaluate({"p": policy(allow(Condition=condition))}, "s3:GetObject", BUCKET, context)
    assert found.decision == (ALLOWED if holds else NOT_ALLOWED)


def test_variables_missing_keys_and_bad_operators() -> None:
    home = allow(resource="arn:aws:s3:::photos/${aws:username}/*")
    resource = "arn:aws:s3:::photos/ann/1"
    assert said(home, resource=resource, aws_username=["ann"]) == ALLOWED
    assert said(home, resource=resource, aws_username=["bob"]) == NOT_ALLOWED
    assert said(home, resource=resource) == NOT_ALLOWED
    asks = policy(allow(Condition={"StringEquals": {"aws:SourceVpc": "v"}}))
    assert evaluate({"p": asks}, "s3:GetObject", BUCKET, {}).missing == ("aws:sourcevpc",)
    assert names_of([asks, policy(home)]) == ["aws:SourceVpc", "aws:username"]
    with pytest.raises(InvalidParameterValue, match="Sounds"):
        said(allow(Condition={"SoundsLike": {"k": "v"}}), k=["v"])


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?", max_size=6), st.text("ab", max_size=6))
def test_wildcards_are_shell_patterns(pattern: str, text: str) -> None:
    decision = said(allow("s3:GetObject", f"x{pattern}"), resource=f"x{text}")
    assert (decision == ALLOWED) == fnmatch.fnmatchcase(f"x{text}", f"x{pattern}")
