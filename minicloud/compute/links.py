"""The control plane's side of the streams to host agents: one link per host, its orders, its last sign of life.

Theory. An order is a consequence of records, so a lost one is made again: on every hello the service goes through that
host's instances. A link remembers which orders went out on it, so going through them twice sends nothing twice; agents
carry out an order that they know already without harm. Silence is noticed by one timer per link that every report
moves on, not by a scan.

Impure: asyncio. The rules that decide what silence means are in observe.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from minicloud.base import limits
from minicloud.wire import fleet_pb2 as pb

log = logging.getLogger(__name__)

STOOD_STILL_S = 0.25  # a timer that rings so late says that the loop did not run
SECOND_LOOK_S = 0.5
ORDERS_WAITING_MAX = 10_000  # ours: an agent that takes no orders for this long is gone


@dataclass(slots=True)
class Vitals:
    """What the last beat of a host said. Not durable."""

    seen: float = 0.0
    warm_workers: int = 0
    cpu_percent: float = 0.0
    memory_available_mib: int = 0
    disk_free_gib: int = 0


@dataclass(slots=True)
class HostLink:
    host_id: str
    session: str
    vitals: Vitals = field(default_factory=Vitals)
    closed: bool = False
    _orders: asyncio.Queue[pb.HostOrder | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=ORDERS_WAITING_MAX)
    )
    _sent: set[str] = field(default_factory=set)

    def send(self, order: pb.HostOrder) -> None:
        """Once per link and order id."""
        if self.closed or order.order_id in self._sent:
            return
        try:
            self._orders.put_nowait(order)
        except asyncio.QueueFull:
            self.close()
            return
        self._sent.add(order.order_id)

    def forget(self, order_id: str) -> None:
        """The order was answered: its id may be used again (a retry), and need not be remembered."""
        self._sent.discard(order_id)

    def close(self) -> None:
        """Ends the stream of orders; nothing more is sent."""
        if self.closed:
            return
        self.closed = True
        while not self._orders.empty():
            self._orders.get_nowait()
        self._orders.put_nowait(None)

    async def orders(self) -> AsyncIterator[pb.HostOrder]:
        while (order := await self._orders.get()) is not None:
            yield order


class Links:
    """All links, by host. `on_silence(host_id)` is called when a host has said nothing for HOST_LOST_AFTER_S."""

    def __init__(self, on_silence: Callable[[str], None]) -> None:
        self._links: dict[str, HostLink] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._on_silence = on_silence

    def all(self) -> list[HostLink]:
        return list(self._links.values())

    def get(self, host_id: str) -> HostLink | None:
        return self._links.get(host_id)

    def open(self, host_id: str, session: str) -> HostLink:
        """A new link takes the place of an old one of the same host, which is closed."""
        before = self._links.get(host_id)
        if before is not None:
            before.close()
        link = HostLink(host_id, session)
        self._links[host_id] = link
        self.alive(link)
        return link

    def drop(self, link: HostLink) -> None:
        """The stream ended. Its silence timer runs on: the agent may come back in time."""
        link.close()
        if self._links.get(link.host_id) is link:
            del self._links[link.host_id]

    def alive(self, link: HostLink) -> None:
        link.vitals.seen = time.time()
        self.expect(link.host_id, limits.HOST_LOST_AFTER_S)

    def expect(self, host_id: str, within_s: float) -> None:
        """A sign of life must come within this time."""
        loop = asyncio.get_running_loop()
        due = loop.time() + within_s
        self._set_timer(host_id, loop.call_at(due, self._overdue, host_id, due))

    def _set_timer(self, host_id: str, timer: asyncio.TimerHandle) -> None:
        before = self._timers.pop(host_id, None)
        if before is not None:
            before.cancel()
        self._timers[host_id] = timer

    def _overdue(self, host_id: str, due: float) -> None:
        """Timers ring before what came meanwhile is read. So nobody is given up at once; and when it was this process
        that stood still (SIGSTOP, a starved machine), streams have broken and hosts get the whole time to dial."""
        loop = asyncio.get_running_loop()
        late_s = loop.time() - due
        if late_s > STOOD_STILL_S:
            log.warning("this process stood still for %.1f s or more; host %s is waited for anew", late_s, host_id)
            self.expect(host_id, limits.HOST_LOST_AFTER_S)
        else:
            self._set_timer(host_id, loop.call_later(SECOND_LOOK_S, self._silent, host_id))

    def expected(self, host_id: str) -> bool:
        """Whether there was a sign of life, and the next is not overdue."""
        return host_id in self._timers

    def lost(self, host_id: str) -> None:
        """The host was given up: no link, no timer."""
        timer = self._timers.pop(host_id, None)
        if timer is not None:
            timer.cancel()
        link = self._links.pop(host_id, None)
        if link is not None:
            link.close()

    def close(self) -> None:
        for host_id in [*self._timers, *self._links]:
            self.lost(host_id)

    def _silent(self, host_id: str) -> None:
        self._timers.pop(host_id, None)
        self._on_silence(host_id)
