"""SSM's machine: replay equals live, invocations end once, commands expire, parameters count their versions."""

from __future__ import annotations

import random
from typing import Any

import pytest

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import AlreadyExists, CloudError, NotFound
from minicloud.base.machine import Context, Record, Tick
from minicloud.compute import ssm
from minicloud.compute.ssm import Invocation, Report, Send, SentCommand, Ssm
from minicloud.identity.seal import AesGcmSeal

HOME, OTHER = Scope(), Scope("111111111111", "us-east-1")


class Bench:
    def __init__(self) -> None:
        self.machine = Ssm(AesGcmSeal(b"s" * 32))
        self.records: list[Record] = []
        self.now = 1000.0
        self.rand = random.Random(3)

    def submit(self, command: Any) -> Any:
        outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.machine.apply(record)
        self.records += outcome.records
        twin = Ssm(AesGcmSeal(b"s" * 32))
        for record in self.records:
            twin.apply(record)
        assert (twin.commands, twin.invocations, twin.parameters) == (
            self.machine.commands,
            self.machine.invocations,
            self.machine.parameters,
        )
        assert twin.due() == self.machine.due() and twin.names(HOME) == self.machine.names(HOME)
        for record in outcome.records:
            assert self.machine.lookup(record.kind, record.key) == record.body
        return outcome.reply

    def send(self, name: str, *instances: str) -> SentCommand:
        command = SentCommand(name, HOME.account, HOME.region, "true", self.now, self.now + 100, list(instances))
        sent: SentCommand = self.submit(Send(command))
        return sent


def test_a_command_is_what_its_invocations_say() -> None:
    bench = Bench()
    sent = bench.send("c1", "i-1", "i-2")
    assert bench.machine.status(sent) == "Pending"
    bench.submit(Report(Invocation("c1", "i-1", "InProgress")))
    assert bench.machine.status(sent) == "InProgress"
    bench.submit(Report(Invocation("c1", "i-1", "Success", 0)))
    assert bench.machine.status(sent) == "InProgress"
    bench.submit(Report(Invocation("c1", "i-2", "TimedOut", 137)))
    assert bench.machine.status(sent) == "TimedOut"
    bench.submit(Report(Invocation("c1", "i-2", "Success", 0)))  # too late
    bench.submit(Report(Invocation("gone", "i-2", "Success", 0)))
    assert [one.status for one in bench.machine.of_command(sent)] == ["Success", "TimedOut"]
    with pytest.raises(NotFound):
        bench.machine.command(OTHER, "c1")


def test_commands_expire_and_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.send("c1", "i-1")
    assert bench.machine.due() == 1100.0
    bench.now = 1100.0
    bench.submit(Tick())
    assert not bench.machine.commands and not bench.machine.invocations and bench.machine.due() is None
    monkeypatch.setattr(limits, "SSM_COMMANDS_MAX", 2)
    bench.send("c2", "i-1")
    bench.send("c3", "i-1")
    with pytest.raises(CloudError, match="Too many"):
        bench.send("c4", "i-1")
    bench.submit(Report(Invocation("c3", "i-1", "Failed", 1)))
    bench.send("c4", "i-1")
    assert sorted(bench.machine.commands) == ["c2", "c4"]


def test_parameters() -> None:
    bench = Bench()
    put = ssm.PutParameter(HOME, "/a/b", "one", "SecureString", tags={"k": "v"})
    first = bench.submit(put)
    assert first.version == 1 and "one" not in first.value and bench.machine.opened(first) == "one"
    with pytest.raises(AlreadyExists):
        bench.submit(put)
    second = bench.submit(ssm.PutParameter(HOME, "/a/b", "two", overwrite=True))
    assert (second.version, second.type, second.tags) == (2, "SecureString", {"k": "v"})
    assert bench.machine.opened(second) == "two"
    with pytest.raises(NotFound):
        bench.machine.parameter(OTHER, "/a/b")
    bench.submit(ssm.TagParameter(HOME, "/a/b", {"x": "y"}, ("k",)))
    assert bench.machine.parameter(HOME, "/a/b").tags == {"x": "y"}
    bench.submit(ssm.DeleteParameter(HOME, "/a/b"))
    with pytest.raises(NotFound):
        bench.submit(ssm.DeleteParameter(HOME, "/a/b"))


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "/a//b"},
        {"name": "awsome"},
        {"name": "/ssm/x"},
        {"name": "/a" * 16},
        {"name": "a b"},
        {"type": ""},
        {"type": "Number"},
        {"value": ""},
        {"value": "x" * 4097},
        {"value": "x" * 8193, "tier": "Advanced"},
    ],
)
def test_bad_parameters_are_refused(change: dict[str, Any]) -> None:
    bench = Bench()
    with pytest.raises(CloudError):
        bench.submit(ssm.PutParameter(HOME, **{"name": "/a", "value": "v", "type": "String", **change}))
    assert not bench.records


def test_what_was_sealed_under_another_secret_is_told() -> None:
    bench = Bench()
    made = bench.submit(ssm.PutParameter(HOME, "/a", "v", "SecureString"))
    other = Ssm(AesGcmSeal(b"o" * 32))
    for record in bench.records:
        other.apply(record)
    with pytest.raises(CloudError, match="another secret"):
        other.opened(made)
