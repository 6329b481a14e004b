"""Blocks on disk kept few and young: neighbours merged, expired ones and those of deleted streams ended.

A merge is written in one transaction, and the index follows it: whoever reads meanwhile finds a block that is not there
any more, waits until the index has followed (`settled`), and looks at it again (service.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from heapq import nsmallest

from minicloud.base.errors import CloudError
from minicloud.logs import limits
from minicloud.logs.block import BLOCK, HEAD, Head, decode, encode
from minicloud.logs.index import Index, level_of
from minicloud.logs.model import Stream
from minicloud.logs.ports import RawJournal
from minicloud.logs.state import State

log = logging.getLogger(__name__)

_ROWS = 1_000  # of one transaction that ends blocks
_FORGOTTEN = 5_000  # streams of one transaction
Rows = list[tuple[str, str, bytes | None]]


class Merging:
    """Belongs to one event loop."""

    def __init__(self, journal: RawJournal, index: Index, state: State) -> None:
        self._journal = journal
        self._index = index
        self._state = state
        self._streams: set[int] = set()
        self._followed: dict[Head, asyncio.Event] = {}  # of blocks whose merge is being written
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look_at(self, stream: int) -> None:
        """After a block was added."""
        if stream not in self._streams and self._index.to_merge(stream):
            self._streams.add(stream)
            self._spawn(stream)

    async def settled(self, head: Head) -> bool:
        """Whether a merge was being written that takes this block away; the index has followed it now."""
        followed = self._followed.get(head)
        if followed is not None:
            await followed.wait()
        return followed is not None

    def end(self, heads: Iterable[Head]) -> None:
        """Blocks that the index has forgotten."""
        doomed = list(heads)
        if doomed:
            task = asyncio.create_task(self._end(doomed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def sweep(self, now_ms: int) -> None:
        """What its group keeps no longer, and where there is too much, the oldest of the account that has most."""
        doomed: list[Head] = []
        for stream in self._state.by_number.values():
            group = self._state.groups[stream.group]
            if group.retention_days:
                before_ms = now_ms - group.retention_days * limits.DAY_S * 1000
                doomed += self._index.expired(stream.number, before_ms)
        too_much = self._index.size - limits.STORED_BYTES_MAX - sum(head.size for head in doomed)
        if too_much > 0:
            oldest = self._index.oldest(too_much, self._account, frozenset(doomed))
            log.warning("logs fill their %d bytes: %d old blocks are dropped", limits.STORED_BYTES_MAX, len(oldest))
            doomed += oldest
        self._index.drop(doomed)
        self.end(doomed)

    def _account(self, stream: int) -> str:
        found = self._state.by_number.get(stream)
        return "" if found is None else found.group.partition("/")[0]

    def _spawn(self, stream: int) -> None:
        task = asyncio.create_task(self._merge(stream))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._streams.discard(stream)

        task.add_done_callback(done)

    async def _merge(self, stream: int) -> None:
        while old := self._index.to_merge(stream):
            bodies = self._journal.read(BLOCK, [head.key for head in old])
            if None in bodies:
                return  # damaged: what is left stays as it is
            new, body = await asyncio.to_thread(_merged, stream, [one for one in bodies if one], old[0].level + 1)
            if not await self._replace(old, new, body):
                return

    async def _replace(self, old: Sequence[Head], new: Head, body: bytes) -> bool:
        """On disk, then in the index. Whether there may be more to merge."""
        rows: Rows = [(kind, head.key, None) for head in old[1:] for kind in (BLOCK, HEAD)]
        followed = asyncio.Event()
        self._followed |= dict.fromkeys(old, followed)
        try:
            await self._journal.commit_raw([*rows, (BLOCK, new.key, body), (HEAD, new.key, new.packed())])
            is_there = self._index.replace(old, new)
        except CloudError as error:
            log.warning("blocks of logs stay as they are for now: %s", error)
            return False
        finally:
            followed.set()
            for head in old:
                del self._followed[head]
        if not is_there:
            await self._end([new])  # the stream was deleted meanwhile
        return is_there

    async def _end(self, doomed: Sequence[Head]) -> None:
        rows: Rows = [(kind, head.key, None) for head in doomed for kind in (BLOCK, HEAD)]
        for at in range(0, len(rows), _ROWS):
            try:
                await self._journal.commit_raw(rows[at : at + _ROWS])
            except CloudError as error:
                log.warning("%d blocks of logs are left until the next start: %s", len(rows) // 2, error)
                return


def crowding(state: State, index: Index, now_ms: int) -> tuple[str, ...]:
    """Keys of streams to forget where there are too many: of the account that has most, those silent longest."""
    if not state.streams:
        return ()
    ((most, of_most),) = state.streams_of_account.most_common(1)
    count = max(
        len(state.streams) - int(limits.CROWDED * limits.STREAMS_MAX),
        of_most - int(limits.CROWDED * limits.ACCOUNT_STREAMS_MAX),
    )
    if count <= 0:
        return ()
    fullest = f"{most}/"
    silent_ms = now_ms - limits.SILENT_S_MIN * 1000

    def heard(stream: Stream) -> int:
        kept = index.streams.get(stream.number)
        return max(stream.created_ms, 0 if kept is None else kept.taken_ms)

    theirs = (one for one in state.streams.values() if one.group.startswith(fullest) and heard(one) < silent_ms)
    return tuple(one.key for one in nsmallest(min(count, _FORGOTTEN), theirs, key=heard))


def _merged(stream: int, bodies: Sequence[bytes], level: int) -> tuple[Head, bytes]:
    head, body = encode(stream, [event for one in bodies for event in decode(one)])
    return head._replace(level=level_of(head.size, level)), body
