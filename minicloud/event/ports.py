"""What rules need from the outside: where events go, and that the cloud tells what happens in a scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound
from minicloud.event.model import Target


class Targets(Protocol):
    """Functions, queues and topics of the rule's account and region. Each raises what they answer."""

    async def deliver(self, scope: Scope, rule_arn: str, target: Target, body: str) -> None:
        """It is on the target's disk when it returns: a message, or the event of an asynchronous invocation."""
        ...

    async def dead_letter(self, scope: Scope, queue: str, body: str, attributes: Mapping[str, str]) -> None:
        """attributes: texts, by their names."""
        ...


class Sources(Protocol):
    """Who tells what happens in the cloud."""

    async def listen(self, scope: Scope) -> None:
        """What happens in this scope from now on is told. It is on disk when it returns."""
        ...


class NoTargets:
    """A cloud without functions, queues and topics."""

    async def deliver(self, scope: Scope, rule_arn: str, target: Target, body: str) -> None:
        raise NotFound(f"{target.arn} does not exist")

    async def dead_letter(self, scope: Scope, queue: str, body: str, attributes: Mapping[str, str]) -> None:
        raise NotFound(f"{queue} does not exist")


class NoSources:
    """A cloud in which nothing happens but what is put."""

    async def listen(self, scope: Scope) -> None:
        return None
