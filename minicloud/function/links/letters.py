"""What is told of an asynchronous invocation that has ended: to its destination, and to a dead-letter queue or topic.

A letter is sent to one place after the other. What arrived, or never will (the place is gone, it refuses), is struck
out; what is left is for places that are away now.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.function.metering import Meter
from minicloud.function.ports import Messages
from minicloud.shell.backlog import may_pass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Send:
    """`attributes`: name -> type, value (UTF-8). `dead`: to a dead-letter queue or topic."""

    arn: str
    body: bytes
    attributes: Mapping[str, tuple[str, bytes]]
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """`target`: the ARN that was invoked."""

    scope: Scope
    target: str
    request_id: str
    sends: tuple[Send, ...]

    def raw(self) -> bytes:
        sends = []
        for one in self.sends:
            given = {name: [kind, value.decode()] for name, (kind, value) in one.attributes.items()}
            sends.append([one.arn, len(one.body), given, one.dead])
        head = [self.scope.account, self.scope.region, self.target, self.request_id, sends]
        return b"".join([json.dumps(head).encode(), b"\n", *(one.body for one in self.sends)])

    @classmethod
    def load(cls, raw: bytes) -> Letter:
        head, _, bodies = raw.partition(b"\n")
        account, region, target, request_id, sends = json.loads(head)
        found, at = [], 0
        for arn, size, attributes, dead in sends:
            given = {name: (kind, value.encode()) for name, (kind, value) in attributes.items()}
            found.append(Send(arn, bodies[at : at + size], given, dead))
            at += size
        return cls(Scope(account, region), target, request_id, tuple(found))


class Post:
    def __init__(self, messages: Messages, meter: Meter) -> None:
        self._messages = messages
        self._meter = meter

    async def send(self, letter: Letter) -> Letter:
        """What is left of it: for places that are away, and for functions, which are not sent to (events.py)."""
        left = [one for one in letter.sends if is_function(one.arn) or not await self._sent(letter, one)]
        return replace(letter, sends=tuple(left))

    async def _sent(self, letter: Letter, one: Send) -> bool:
        """It arrived, or never will."""
        try:
            await self._messages.send(letter.scope, one.arn, one.body, one.attributes)
        except CloudError as error:
            if may_pass(error):
                log.info("the result of %s is delivered later: %s", letter.request_id, error)
                return False
            self.failed(letter, one, error)
        return True

    def failed(self, letter: Letter, one: Send, error: CloudError) -> None:
        log.warning("the result of %s of %s could not be delivered: %s", letter.request_id, letter.target, error)
        count = self._meter.dead_letter_failed if one.dead else self._meter.destination_failed
        count(letter.scope, letter.target.split(":")[6])


def is_function(arn: str) -> bool:
    return arn.startswith("arn:aws:lambda:")
