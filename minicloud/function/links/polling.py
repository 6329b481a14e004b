"""Queues feed functions: one loop a mapping receives by long polls, and hands batches to the function.

    receive -> filter (what does not match is deleted) -> batch full, 6 MiB, or its window over -> invoke
        success      deleted, but for those that a partial batch response names
        error        left: visible again when the queue's visibility timeout ends; its redrive policy counts
        throttled    tried again, 1 s, 2 s ...; then given back at once

Five batches run at once, one more after each full batch that went well, one less after each that failed or was
throttled (guide, "Scaling and concurrency"), never more than the mapping allows, across its changes too. Order within a
FIFO queue's message groups is the queue's own doing: it hands out no message of a group that has one in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from minicloud.base.errors import CloudError
from minicloud.function import batches, errors, limits, mappings
from minicloud.function.invoking import Answer, Request
from minicloud.function.model import Mapping
from minicloud.function.ports import Message, Messages
from minicloud.shell.clock import Clock
from minicloud.shell.looking import Looking, Room
from minicloud.shell.patterns import TooMuch

log = logging.getLogger(__name__)

RECEIVED_MAX = 10  # guide: a poller receives up to 10 messages at once
WAIT_S = 10  # ours: of a long poll
AT_ONCE_FIRST, AT_ONCE_MAX = 5, 1_000  # guide: five batches first; 1,000 of a mapping
PAUSE_S = (1.0, 30.0)  # ours: after a failure, doubling
THROTTLED_TRIES = 4
PROBLEM = "PROBLEM: "
FIFO, GROUP = ".fifo", "MessageGroupId"
NO_RECORDS, OK = "No records processed", "OK"


@dataclass(frozen=True, slots=True)
class Outside:
    """What pollers are plugged into. `invoke` runs a function and waits for it."""

    invoke: Callable[[Request], Awaitable[Answer]]
    messages: Messages
    clock: Clock


@dataclass(slots=True)
class _Poller:
    """A mapping at work, as it is now; batches go on as it was when they began. `most`: batches at once."""

    mapping: Mapping
    most: int = AT_ONCE_FIRST
    running: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)
    result: str = NO_RECORDS
    task: asyncio.Task[None] | None = None
    batches: set[asyncio.Task[None]] = field(default_factory=set)

    def limit(self) -> int:
        return self.mapping.concurrency or AT_ONCE_MAX

    def change(self, step: int) -> None:
        """So many batches more at once, or fewer."""
        self.most = max(1, min(self.most + step, self.limit()))


class Polling:
    def __init__(self, outside: Outside) -> None:
        self._out = outside
        self._pollers: dict[str, _Poller] = {}
        self._looking = Looking("TooManyRequestsException")

    def follow(self, wanted: Sequence[Mapping]) -> None:
        """Exactly these mappings (the enabled ones) are polled from now on."""
        by_key = {one.key: one for one in wanted}
        for key, poller in list(self._pollers.items()):
            if poller.task is not None and by_key.get(key) != poller.mapping:
                poller.task.cancel()  # what it received and did not hand on shows again after the visibility timeout
                poller.task = None
                self._forget(poller)
        for key, mapping in by_key.items():
            poller = self._pollers.setdefault(key, _Poller(mapping))
            if poller.task is None:
                poller.mapping = mapping
                poller.most = min(max(poller.most, AT_ONCE_FIRST), poller.limit())
                poller.task = asyncio.create_task(self._poll(poller))

    def last_result(self, mapping: Mapping) -> str:
        """AWS's LastProcessingResult."""
        poller = self._pollers.get(mapping.key)
        return NO_RECORDS if poller is None else poller.result

    def running(self, mapping: Mapping) -> int:
        """Batches that the function has now."""
        poller = self._pollers.get(mapping.key)
        return 0 if poller is None else poller.running

    async def stop(self) -> None:
        tasks = [task for one in self._pollers.values() for task in (one.task, *one.batches) if task is not None]
        self._pollers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._looking.close()

    def _forget(self, poller: _Poller) -> None:
        """Once it takes nothing more and its batches have ended."""
        if poller.task is None and not poller.batches:
            self._pollers.pop(poller.mapping.key, None)

    # --- one mapping

    async def _poll(self, poller: _Poller) -> None:
        pause_s = PAUSE_S[0]
        while True:
            try:
                while poller.running >= poller.most:
                    poller.room.clear()
                    await poller.room.wait()
                if await self._gather(poller):
                    pause_s = PAUSE_S[0]
                continue
            except CloudError as error:
                poller.result = f"{PROBLEM}{error.message}"
                log.info("mapping %s: %s", poller.mapping.uuid, error)
            except Exception:
                log.exception("mapping %s", poller.mapping.uuid)
            await self._out.clock.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])

    async def _gather(self, poller: _Poller) -> bool:
        """Fill one batch and start it. Returns whether anything came."""
        mapping = poller.mapping
        found = await self._receive(mapping, min(mapping.batch, RECEIVED_MAX), WAIT_S)
        ends = self._out.clock.monotonic() + mapping.window_s
        while found and _has_room(found, mapping.batch) and (left := ends - self._out.clock.monotonic()) > 0:
            wait_s, most = min(WAIT_S, int(left) + 1), min(mapping.batch - len(found), RECEIVED_MAX)
            try:
                found += await self._receive(mapping, most, wait_s)
            except CloudError as error:  # what is there is handed on; the next receive says it again
                log.info("mapping %s: %s", mapping.uuid, error)
                break
        if not found:
            return False
        poller.running += 1
        task = asyncio.create_task(self._run(poller, mapping, found))
        poller.batches.add(task)
        task.add_done_callback(lambda _: self._ran(poller, task))
        return True

    def _ran(self, poller: _Poller, task: asyncio.Task[None]) -> None:
        poller.batches.discard(task)
        self._forget(poller)

    async def _receive(self, mapping: Mapping, most: int, wait_s: int) -> list[Message]:
        """What the filters let through; the others are deleted. One that costs too much to look at is left, in a FIFO
        queue with what comes behind it in its group: the queue's redrive policy counts.
        """
        received = await self._out.messages.receive(mapping.scope, mapping.source, most, wait_s)
        if not mapping.filters:
            return received
        patterns = [mappings.compile_pattern(text) for text in mapping.filters]
        room = Room(limits.FILTER_TESTS_AT_ONCE, limits.FILTER_TESTS_BESIDE, limits.FILTER_LOOKS_MAX)
        kept, others = [], []
        left: set[str] = set()  # groups
        for one in received:
            group = one.attributes.get(GROUP, "") if mapping.source.endswith(FIFO) else ""
            if group in left:
                continue
            look = partial(batches.matches, one, patterns)
            try:
                passes = await self._looking.look_patiently(mapping.scope.account, look, room)
            except TooMuch:
                self._pollers[mapping.key].result = f"{PROBLEM}A message takes too long to match it against the filters"
                left |= {group} - {""}
                continue
            if passes:
                kept.append(one)
            else:
                others.append(one.handle)
        if others:
            await self._out.messages.delete(mapping.scope, mapping.source, others)
        return kept

    async def _run(self, poller: _Poller, mapping: Mapping, found: list[Message]) -> None:
        try:
            records = [batches.record(one, mapping.source) for one in found]
            for first, behind, payload in batches.batches(records, mapping.batch):
                whole = await self._invoke(poller, mapping, found[first:behind], payload)
                if not whole and mapping.source.endswith(FIFO):
                    break  # what comes after a failed message of its group waits until that shows again
        except CloudError as error:
            poller.result = f"{PROBLEM}{error.message}"
            log.info("mapping %s: %s", mapping.uuid, error)
        except Exception:
            log.exception("mapping %s", mapping.uuid)
        finally:
            poller.running -= 1
            poller.room.set()

    async def _invoke(self, poller: _Poller, mapping: Mapping, part: list[Message], payload: bytes) -> bool:
        """Returns whether all of it is done."""
        for again in range(THROTTLED_TRIES):
            try:
                answer = await self._out.invoke(Request(mapping.scope, mapping.target, payload))
                break
            except errors.TooManyRequests as error:
                poller.change(-1)
                poller.result = f"{PROBLEM}{error.message}"
                await self._out.clock.sleep(PAUSE_S[0] * 2.0**again)
        else:
            await self._out.messages.release(mapping.scope, mapping.source, [one.handle for one in part], 0)
            return False
        if answer.outcome.function_error:
            poller.change(-1)
            poller.result = f"{PROBLEM}Function call failed"
            return False
        ids = [one.id for one in part]
        failed = batches.failures(answer.outcome.payload, ids) if mapping.partial else frozenset()
        done = [one.handle for one in part if one.id not in failed]
        if done:
            await self._out.messages.delete(mapping.scope, mapping.source, done)
        poller.result = f"{PROBLEM}Some items failed" if failed else OK
        if not failed and len(part) >= min(mapping.batch, RECEIVED_MAX):
            poller.change(1)
        return not failed


def _has_room(found: Sequence[Message], batch: int) -> bool:
    """Whether a batch waits for more: not where an invocation could not carry it (guide, "Batching behavior")."""
    return len(found) < batch and sum(len(one.body) for one in found) < limits.SYNC_BYTES_MAX
