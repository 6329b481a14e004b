"""The life of one guest on its host, from the order to start it until its end was reported.

    begin or
    prepare ─┐
             ├─> plan ─> spawned ─> ready ──┬─> over ─────┬─> bury ─> ended
    actor  ──┘      ^                       ├─> end asked ┤
    hello           └──── next boot <───────┴─> reboot    └ (also from every earlier step)

One task per guest walks this line. What happens around it (its actor speaks, a process dies, memory runs out, an order
comes) is only noted, as facts; the task waits for facts with `_until`. So there is no order of events to get wrong:
an order to end that comes before the actor's hello is a fact like any other.

What can never happen: `ended` is reported while the actor's process lives (Ray would still count its resources), or
while a process of the guest lives; a guest is spawned twice for one boot; a guest is spawned after its end was asked.

The agent may die at any step and its successor goes on from the record: a guest that was spawned is known from the
record or from its actor's hello, everything before is done again, everything after too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minicloud.base.errors import CloudError
from minicloud.host.attendance import Attendance, Sightings
from minicloud.host.instances import ActorLink
from minicloud.host.ports import GuestBuilder, GuestStatus, GuestWalls, GuestWatch
from minicloud.host.records import GuestRecord, RecordFiles
from minicloud.host.watch import ProcessRef, ProcessWatch, identify, kill, machine_boot_id

log = logging.getLogger("minicloud.host.life")

REBOOT_GRACE_S = 5.0
LAST_WORD_S_MAX = 2.0  # between a process's end and its actor's word on how it ended
LEAVE_S_MAX = 5.0  # what a killed guest or a dismissed actor gets to be gone


@dataclass(frozen=True, slots=True)
class End:
    """How a guest ended: the reason as the control plane records it. exit_code 128+n: by signal n."""

    code: str
    message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class LifeTools:
    """What every life on this host shares. `changed` is told after the record changed in a way worth reporting.

    begun: its guest boots, or will not before its actor is there: the actor may be made.
    """

    builder: GuestBuilder
    watch: GuestWatch
    walls: GuestWalls
    files: RecordFiles
    changed: Callable[[GuestRecord], None]
    begun: Callable[[GuestRecord], None]


class Life:
    """Give it facts from its event loop; `run` is its task. `over` resolves when the end was recorded."""

    def __init__(
        self, record: GuestRecord, tools: LifeTools, *, adopted: bool = False, doomed: End | None = None
    ) -> None:
        """`doomed`: nothing is left to do but to end it, for this reason."""
        self.record = record
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers = False
        self._tools = tools
        self._adopted = adopted
        self._doomed = doomed
        self._fact = asyncio.Event()
        self._cancelled = threading.Event()
        self._link: ActorLink | None = None
        self._actor_watch: ProcessWatch | None = None
        self._actor_gone = False
        self._guest_gone = False
        self._exit: int | None = None
        self._failure: str | None = None
        self._oom = False
        self._ready = False
        self._grace_s: float | None = None  # set: its end was asked
        self._reboot_asked = False
        self._rebooted: asyncio.Future[bool] | None = None
        if adopted and record.actor is not None:
            self._watch_actor(record.actor)

    # ------------------------------------------------------------ facts

    def actor_came(self, link: ActorLink) -> None:
        """Its actor said hello; for the first time, or to a new agent."""
        hello = link.hello
        known = self.record.actor
        if known is not None and known != hello.process and not self._actor_gone and self._link is not None:
            link.send({"op": "exit"})  # a second one of the same name: Ray made it while it took the first for dead
            return
        self._link = link
        self.record.gpu_ids = list(hello.gpu_ids)
        if known != hello.process or self._actor_watch is None:
            self.record.actor = hello.process
            self._actor_gone = False
            self._watch_actor(hello.process)
        if hello.boot == self.record.boot and hello.guest:
            self._spawned_as(hello.guest)
        self._save()
        self._fact.set()

    def actor_said(self, message: dict[str, Any]) -> None:
        if message.get("boot") != self.record.boot:
            return  # of a boot that is over
        if message["op"] == "started":
            self._spawned_as(int(message["pid"]))
            self._save()
        elif message["op"] == "failed":
            self._failure = str(message["error"])
        elif message["op"] == "exited":
            self._exit = int(message["status"])
        self._fact.set()

    def actor_left(self, link: ActorLink) -> None:
        if self._link is link:
            self._link = None
        self._fact.set()

    def ask_end(self, grace_s: float) -> None:
        """End it, after at most this long. The shortest grace that was ever asked holds."""
        self._grace_s = grace_s if self._grace_s is None else min(grace_s, self._grace_s)
        self._cancelled.set()
        self._fact.set()

    async def reboot(self) -> bool:
        """Returns when the next boot's guest answers. False: it ended instead."""
        if self.over.done():
            return False
        if self._rebooted is None or self._rebooted.done():
            self._rebooted = asyncio.get_running_loop().create_future()
        self._reboot_asked = True
        self._fact.set()
        return await asyncio.shield(self._rebooted)

    def out_of_memory(self) -> None:
        self._oom = True
        self._fact.set()

    # ------------------------------------------------------------ the line

    async def run(self) -> None:
        """Never raises but CancelledError: then the agent leaves, and the guest goes on without it."""
        try:
            end = self._doomed or await self._live()
        except (CloudError, OSError) as error:
            end = End("PrepareFailed", str(error))
        except Exception as error:
            log.exception("guest %s", self.record.instance_id)
            end = End("Server.InternalError", f"{type(error).__name__}: {error}")
        try:
            await self._bury(end)
        except Exception:
            log.exception("guest %s is not buried", self.record.instance_id)
        self._report_end(end)

    async def _live(self) -> End:
        if self._adopted:
            await self._until(lambda: self._link is not None or self._cut_short())
        begun = 0
        if not self._spawned() and not self._cut_short():
            builder = self._tools.builder
            begun = await builder.begin(self.record, self._save)
            self._tools.begun(self.record)
            if not begun:
                await builder.prepare(self.record, self._cancelled)
            self._save()
            await self._until(lambda: self._link is not None or self._cut_short())
        while True:
            end = await self._boot()
            if end is not None:
                if begun and not self._spawned():
                    await self._shut_down_unadopted(begun)
                return end
            self._next_boot()
            begun = 0

    async def _boot(self) -> End | None:
        """One boot, from plan to end; None: it is to be booted again."""
        if not self._spawned():
            if self._cut_short() or self._link is None:
                return self._how_it_was_cut()
            plan = await self._tools.builder.plan(self.record)
            if "adopt" not in plan:  # else it runs already, and what was killed in it counts
                self.record.oom_kills_before = self._tools.walls.oom_kills(self.record)
            if self._link is not None and self._grace_s is None:
                self._link.send({"op": "plan", "boot": self.record.boot, "plan": plan})
            await self._until(lambda: self._spawned() or self._failure is not None or self._cut_short())
            if self._failure is not None:
                return End("PrepareFailed", self._failure)
            if not self._spawned():
                return self._how_it_was_cut()
        seen = Sightings(self._on_guest_gone, self._on_status, self._on_silence, self.out_of_memory)
        async with Attendance(self.record, self._tools.watch, self._tools.walls, seen) as attendance:
            return await self._attend(attendance)

    async def _attend(self, attendance: Attendance) -> End | None:
        await self._until(lambda: self._ready or self._is_over() or self._grace_s is not None)
        if self._ready and not self._is_over():
            self.record.phase = "running"
            self._save()
            self._tools.changed(self.record)
            self._answer_reboot(True)
        await self._until(lambda: self._is_over() or self._grace_s is not None or self._reboot_asked)
        if self._grace_s is not None and not self._is_over():
            await self._shut_down(self._grace_s)
            return End("Stopped", "ended by order")
        if not self._is_over():
            await self._shut_down(REBOOT_GRACE_S)
            return None if not self._actor_gone and self._grace_s is None else self._how_it_was_cut()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(self._last_word_said), LAST_WORD_S_MAX)
        self._oom = self._oom or attendance.was_killed()
        return self._how_it_ended()

    def _next_boot(self) -> None:
        self.record.boot += 1
        self.record.guest = None
        self._guest_gone = self._ready = self._oom = False
        self._exit = self._failure = None
        self._reboot_asked = False
        self._save()

    async def _shut_down(self, grace_s: float) -> None:
        """Ask, wait, kill; returns when the guest's process is gone (or will not go)."""
        if grace_s > 0 and self._ready:
            await self._ask_to_end(grace_s)
        await self._kill()

    async def _shut_down_unadopted(self, pid: int) -> None:
        """One that boots and that no actor has taken yet: the user's code gets its grace all the same."""
        process = identify(pid)
        if process is None or not self._grace_s:
            return
        watch = ProcessWatch(process, self._on_guest_gone)
        try:
            await self._ask_to_end(self._grace_s)
        finally:
            watch.close()

    async def _ask_to_end(self, grace_s: float) -> None:
        """Returns when it has ended, or should be killed."""
        try:
            await self._tools.watch.shut_down(self.record, grace_s)
            await asyncio.wait_for(self._until(lambda: self._gone() or self._grace_s == 0), grace_s + 1.0)
        except (CloudError, OSError, TimeoutError):
            log.info("guest %s did not end when asked; it is killed", self.record.instance_id)

    async def _kill(self) -> None:
        guest = self.record.guest
        if guest is not None and not self._gone():
            kill(guest)
        await self._tools.walls.kill(self.record)
        if guest is None or self._gone():
            return
        watch = ProcessWatch(guest, self._on_guest_gone)
        try:
            await asyncio.wait_for(self._until(self._gone), LEAVE_S_MAX)
        except TimeoutError:
            log.error("process %d of guest %s does not die", guest.pid, self.record.instance_id)
        finally:
            watch.close()

    async def _bury(self, end: End) -> None:
        """Nothing of it is left but its disk; then its actor goes."""
        self._cancelled.set()
        await self._kill()
        told = self._dismiss_actor()
        try:
            await self._tools.builder.release(self.record)
        except Exception:
            log.exception("cannot clean up after guest %s", self.record.instance_id)
        told = told or self._dismiss_actor()  # it may have come just now
        if self.record.actor is None or (told and await self._actor_leaves()):
            return
        kill(self.record.actor)
        if not await self._actor_leaves():
            log.error("the actor of guest %s does not die", self.record.instance_id)

    def _dismiss_actor(self) -> bool:
        """False: it is not there to be told."""
        if self._link is not None:
            self._link.send({"op": "exit"})
        return self._link is not None

    async def _actor_leaves(self) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: self._actor_gone), LEAVE_S_MAX)
        return self._actor_gone

    def _report_end(self, end: End) -> None:
        record = self.record
        record.phase, record.actor, record.guest = "ended", None, None
        record.reason_code, record.reason_message, record.exit_code = end.code, end.message, end.exit_code
        if self._actor_watch is not None:
            self._actor_watch.close()
        self.answers = self._reboot_asked = False
        self._save()
        self._tools.changed(record)
        self._answer_reboot(False)
        self.over.set_result(None)

    # ------------------------------------------------------------ questions

    def _spawned(self) -> bool:
        return self.record.guest is not None or self._exit is not None

    def _cut_short(self) -> bool:
        return self._grace_s is not None or self._actor_gone

    def _how_it_was_cut(self) -> End:
        if self._grace_s is not None:
            return End("Stopped", "ended by order")
        return End("Server.ActorDied", "the instance's actor process died")

    def _gone(self) -> bool:
        return self._guest_gone or self._exit is not None

    def _is_over(self) -> bool:
        return self._gone() or self._actor_gone or self._oom

    def _last_word_said(self) -> bool:
        """All that can be known of the end is known: its status, or that nobody is left to tell it."""
        return self._oom or self._exit is not None or (self._actor_gone and self._link is None)

    def _how_it_ended(self) -> End:
        status = self._exit
        code = None if status is None else status if status >= 0 else 128 - status
        if self._oom:
            memory = self.record.spec.get("shape", {}).get("memoryMib", "?")
            return End("OutOfMemory", f"the guest used more than the {memory} MiB of its type", code)
        if code is None:
            return End("Server.ActorDied", "the instance's actor process died")
        if code == 0:
            return End("Client.InstanceInitiatedShutdown", "the guest ended by itself", 0)
        return End("GuestExited", f"the guest ended with exit code {code}", code)

    # ------------------------------------------------------------ means

    async def _until(self, fact: Callable[[], bool]) -> None:
        """Only this life's own task waits, one fact at a time."""
        while not fact():
            self._fact.clear()
            await self._fact.wait()

    def _watch_actor(self, process: ProcessRef) -> None:
        if self._actor_watch is not None:
            self._actor_watch.close()
        self._actor_watch = ProcessWatch(process, self._on_actor_gone)

    def _on_actor_gone(self) -> None:
        self._actor_gone = True
        self._fact.set()

    def _on_guest_gone(self) -> None:
        self._guest_gone = True
        self._fact.set()

    def _spawned_as(self, pid: int) -> None:
        process = identify(pid)
        # A process that is gone already has no start that we could read; its actor will say how it ended.
        self.record.guest = process or ProcessRef(pid, -1)
        self.record.machine_boot = machine_boot_id()

    def _on_status(self, status: GuestStatus) -> None:
        """The guest's init has spoken."""
        self.answers = True
        before = (self.record.user_data_status, self.record.user_data_exit)
        self.record.user_data_status, self.record.user_data_exit = status.user_data, status.user_data_exit
        if not self._ready:
            self._ready = True
            self._fact.set()
        elif before != (status.user_data, status.user_data_exit):
            self._save()
            self._tools.changed(self.record)

    def _on_silence(self) -> None:
        self.answers = False

    def _answer_reboot(self, done: bool) -> None:
        if self._rebooted is not None and not self._rebooted.done() and not self._reboot_asked:
            self._rebooted.set_result(done)

    def _save(self) -> None:
        """A record that a full disk refused is the older one for a successor, which finds out what is; the guest goes
        on, and its end is still told."""
        try:
            self._tools.files.save(self.record)
        except OSError as error:
            log.warning("the record of guest %s is not written: %s", self.record.instance_id, error)
