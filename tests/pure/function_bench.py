"""A function machine on a bench: virtual time, seeded chance. No I/O.

After every submit the bench checks the laws that no history may break: replaying the records gives the same state and
the same indexes; numbered versions never change; aliases name versions that are there; nothing hangs on what is gone.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context, Outcome, Record
from minicloud.function import commands as ask
from minicloud.function.machine import Functions
from minicloud.function.model import LATEST, Alias, Code, Mapping, Version

HOME = Scope()
STRANGER = Scope("111111111111", "us-east-1")
QUEUE = "arn:aws:sqs:us-east-1:000000000000:jobs"


class Bench:
    def __init__(self) -> None:
        self.machine = Functions()
        self.state = self.machine.state
        self.now = 1_000_000.0
        self.rand = random.Random(7)
        self.records: list[Record] = []
        self._numbered: dict[str, Version] = {}

    def submit(self, command: Any) -> Any:
        outcome: Outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.machine.apply(record)
        self.records += outcome.records
        self.check_laws()
        return outcome.reply

    def refused(self, code: str, command: Any, text: str = "") -> CloudError:
        """The command is refused with this code, and nothing is written."""
        with pytest.raises(CloudError) as caught:
            self.machine.decide(command, Context(self.now, self.rand))
        assert caught.value.code == code, caught.value
        assert text in caught.value.message, caught.value
        return caught.value

    def check_laws(self) -> None:
        twin = Functions().state
        for record in self.records:
            twin.apply(record)
        state = self.state
        assert twin.tables == state.tables
        assert (twin.packages, twin.by_url, twin.next_schedule()) == (
            state.packages,
            state.by_url,
            state.next_schedule(),
        )
        self._numbered = {arn: one for arn, one in self._numbered.items() if one.function in state.functions}
        for version in state.versions.values():
            assert version.function in state.functions
            if version.version != LATEST:
                assert self._numbered.setdefault(version.arn, version) == version
            assert all(layer in state.layer_versions for layer in version.settings.layers)
        for alias in state.aliases.values():
            assert all(f"{alias.function}:{one}" in state.versions for one in (alias.version, *alias.weights))
        there = {*state.functions, *state.versions, *state.aliases}
        for table in (state.policies, state.event_invokes, state.provisioned, state.urls):
            assert set(table) <= there
        assert sum(state.packages.values()) == len(state.versions) + len(state.layer_versions)

    # --- shorthand

    def function(self, name: str = "f", code: Code | None = None, **fields: Any) -> Version:
        publish = fields.pop("publish", False)
        given = ask.Given(**{"runtime": "python3.11", "handler": "main.run"} | fields)
        made: Version = self.submit(ask.CreateFunction(HOME, name, given, code or package("1"), publish))
        return made

    def publish(self, name: str = "f") -> Version:
        made: Version = self.submit(ask.PublishVersion(HOME, name))
        return made

    def alias(self, name: str, version: str, function: str = "f", **fields: Any) -> Alias:
        made: Alias = self.submit(ask.CreateAlias(HOME, function, name, version, **fields))
        return made

    def mapping(self, function: str = "f", source: str = QUEUE, **fields: Any) -> Mapping:
        made: Mapping = self.submit(ask.CreateMapping(HOME, function, source, ask.MappingSpec(**fields)))
        return made


def package(digit: str, size: int = 100) -> Code:
    return Code(digit * 64, size, size * 3)
