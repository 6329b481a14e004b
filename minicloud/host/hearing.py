"""The guests' inits as the agent needs them: what they say of themselves, and being asked to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from minicloud.base.errors import CloudError
from minicloud.base.limits import PENDING_S_MAX
from minicloud.host.guest import Guest
from minicloud.host.notify import Notify
from minicloud.host.ports import GuestStatus
from minicloud.host.records import GuestRecord


class Hearing:
    """Fulfils `ports.GuestWatch`. `socket_of`: where this boot's init listens. Close it on its event loop."""

    def __init__(self, socket_of: Callable[[GuestRecord], Path]) -> None:
        self._socket_of = socket_of
        self._notify = Notify()

    def close(self) -> None:
        self._notify.close()

    async def statuses(self, record: GuestRecord) -> AsyncIterator[GuestStatus]:
        guest = Guest(self._socket_of(record))
        await guest.wait_ready(self._notify, PENDING_S_MAX)
        async for status in guest.watch():
            yield GuestStatus(status.user_data_state, status.user_data_exit)

    async def shut_down(self, record: GuestRecord, grace_s: float) -> None:
        await Guest(self._socket_of(record)).shutdown(grace_s)

    async def ping(self, record: GuestRecord) -> bool:
        try:
            await Guest(self._socket_of(record)).ping()
        except CloudError:
            return False
        return True
