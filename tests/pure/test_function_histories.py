"""Random histories of the function machine: whatever is asked, in whatever order, the laws of the bench hold.

A refusal is a CloudError with one of Lambda's codes and writes nothing; anything else that is raised is a mistake.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.function import commands as ask
from minicloud.function import names, policies
from minicloud.function.model import LATEST, Statement
from tests.pure.function_bench import HOME, QUEUE, STRANGER, Bench, package

NAMES = (*"fffgg", "f:1", "g:prod", "f:$LATEST", "arn:aws:lambda:us-east-1:000000000000:function:f", "no such", "")
QUALIFIERS = ("", LATEST, "1", "2", "prod", "test")
CODES = frozenset(
    {
        "ValidationException",
        "InvalidParameterValueException",
        "ResourceNotFoundException",
        "ResourceConflictException",
        "PreconditionFailedException",
        "ProvisionedConcurrencyConfigNotFoundException",
        "PolicyLengthExceededException",
        "CodeStorageExceededException",
        "RequestTooLargeException",
    }
)
Make = Callable[[random.Random, Scope, str, str], Any]


def _given(rand: random.Random) -> ask.Given:
    fields: dict[str, Any] = {"runtime": "python3.11", "handler": "a.b"}
    if rand.random() < 0.5:
        fields["memory_mib"] = rand.choice((64, 128, 512, 40_000))
    if rand.random() < 0.3:
        fields["layers"] = (f"arn:aws:lambda:us-east-1:000000000000:layer:l:{rand.randrange(1, 4)}",)
    return ask.Given(**fields)


def _spec(rand: random.Random) -> ask.MappingSpec:
    return ask.MappingSpec(rand.random() < 0.5, rand.choice((None, 1, 10, 11)), rand.choice((None, 0, 5)))


def _weights(rand: random.Random) -> dict[str, float]:
    return rand.choice(({}, {"1": 0.5}, {"2": 0.1}, {"1": 2.0}))


MAKES: tuple[Make, ...] = (
    lambda r, s, n, q: ask.CreateFunction(s, n, _given(r), package(r.choice("123")), r.random() < 0.5),
    lambda r, s, n, q: ask.UpdateCode(s, n, package(r.choice("123")), r.random() < 0.5, r.random() < 0.2),
    lambda r, s, n, q: ask.UpdateSettings(s, n, _given(r)),
    lambda r, s, n, q: ask.PublishVersion(s, n),
    lambda r, s, n, q: ask.DeleteFunction(s, n, q if r.random() < 0.8 else ""),
    lambda r, s, n, q: ask.CreateAlias(s, n, r.choice(("prod", "1")), r.choice(("1", "2", LATEST)), "", _weights(r)),
    lambda r, s, n, q: ask.UpdateAlias(s, n, "prod", r.choice((None, "1", "2")), None, _weights(r)),
    lambda r, s, n, q: ask.DeleteAlias(s, n, r.choice(("prod", "test"))),
    lambda r, s, n, q: ask.AddPermission(s, n, Statement(r.choice("st"), policies.INVOKE, "sns.amazonaws.com"), q),
    lambda r, s, n, q: ask.RemovePermission(s, n, r.choice("st"), q),
    lambda r, s, n, q: ask.SetReserved(s, n, r.choice((None, 0, 5, 900, 901))),
    lambda r, s, n, q: ask.SetProvisioned(s, n, q, r.choice((None, 0, 1, 6))),
    lambda r, s, n, q: ask.SetEventInvoke(s, n, q, r.choice((None, 1, 3)), whole=r.random() < 0.5),
    lambda r, s, n, q: ask.DeleteEventInvoke(s, n, q),
    lambda r, s, n, q: ask.CreateUrl(s, n, "NONE", q),
    lambda r, s, n, q: ask.DeleteUrl(s, n, q),
    lambda r, s, n, q: ask.CreateMapping(s, n, r.choice((QUEUE, f"{QUEUE}.fifo", "x")), _spec(r)),
    lambda r, s, n, q: ask.PublishLayer(s, "l", package(r.choice("ab"))),
    lambda r, s, n, q: ask.DeleteLayer(s, "l", r.randrange(1, 4)),
    lambda r, s, n, q: ask.PutSchedule(s, "s", r.choice(("rate(1 minute)", "rate(0 minutes)")), n),
    lambda r, s, n, q: ask.DeleteSchedule(s, "s"),
)


@pytest.mark.parametrize("seed", range(25))
def test_any_history_keeps_the_laws(seed: int) -> None:
    rand, bench = random.Random(seed), Bench()
    chosen = MAKES[:8] * 2 + MAKES
    done = 0
    for _ in range(400):
        scope = HOME if rand.random() < 0.9 else STRANGER
        command = rand.choice(chosen)(rand, scope, rand.choice(NAMES), rand.choice(QUALIFIERS))
        bench.now += rand.choice((0, 1, 100))
        written = len(bench.records)
        try:
            bench.submit(command)
            done += 1
        except CloudError as error:
            assert error.code in CODES, (command, error)
            assert len(bench.records) == written
        _look(bench, rand)
    assert done > 40, "the history is too dull to say anything"


def _look(bench: Bench, rand: random.Random) -> None:
    """Whatever is named leads to a version that is there, of the caller's own."""
    for alias in bench.state.aliases.values():
        target = names.resolve(bench.state, alias.scope, alias.function, alias.name)
        chosen = names.choose(bench.state, target, rand.random())
        assert chosen.function == alias.function and chosen.version in (alias.version, *alias.weights)
    for mapping in bench.state.mappings.values():
        assert mapping.scope == HOME
    assert bench.state.reserved(HOME) == sum(
        one.reserved or 0 for one in bench.state.functions.values() if one.scope == HOME
    )
