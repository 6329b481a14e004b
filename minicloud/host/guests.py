"""Every guest of this host: what is known of it, and its life while it has one.

Orders name a generation of an instance. One older than what the host knows is stale and changes nothing; a newer
one to start waits until the older guest is gone, so two generations of one instance never share its disk. An order to
end what is not here is carried out at once: there is nothing to end.

Actors come when Ray has made them, before or after the order: whose order has not come is told of and waits
(ORDER_S_MAX), whose guest is over is dismissed. Ray may make an actor long after its instance has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import json_format

from minicloud.base.errors import Conflict, NotFound
from minicloud.base.limits import PENDING_S_MAX
from minicloud.host.instances import ActorLink
from minicloud.host.life import End, Life, LifeTools
from minicloud.host.records import Damaged, GuestRecord
from minicloud.host.watch import machine_boot_id
from minicloud.wire import common_pb2, fleet_pb2, instance_pb2

log = logging.getLogger("minicloud.host.guests")

ORDER_S_MAX = 30.0  # ours: orders are sent before actors are made, so only a control plane that restarts keeps one back
GUEST_LOST = "Server.GuestLost"
DELETED_KEPT_S = float(PENDING_S_MAX)


class Guests:
    """Owned by the agent's event loop. `files.load()` has been called by nobody else.

    `check_credits` raises ValueError for a kept account that is none.
    """

    def __init__(self, tools: LifeTools, check_credits: Callable[[dict[str, Any]], None] = lambda _kept: None) -> None:
        self._tools = tools
        self._check_credits = check_credits
        self._records: dict[str, GuestRecord] = {}
        self._lives: dict[str, Life] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._early: dict[tuple[str, int], ActorLink] = {}
        self._deleted: dict[str, int] = {}  # generations that ended here with their disk: their actors may come yet

    # ------------------------------------------------------------ start and stop of the agent

    def load(self) -> list[str]:
        """Take over what a predecessor left; returns warnings. Guests that went on are adopted, others buried.

        A guest whose record is damaged is ended, and says so: nobody knows its limits, its network, its options.
        """
        records, damaged = self._tools.files.load(self._check)
        boot = machine_boot_id()
        for record in records:
            self._records[record.instance_id] = record
            if record.machine_boot not in ("", boot):
                record.guest = None
                record.actor = record.actor and record.actor._replace(start=-1)  # of another boot: it is gone
            if record.live:
                self._begin(record, adopted=True)
        for one in damaged:
            self._give_up(one)
        return [f"the guest of {one.name} is ended: {_story(one)}" for one in damaged]

    def _check(self, record: GuestRecord) -> None:
        """Raises ValueError."""
        try:
            spec_of(record)
            report_of(record)
        except json_format.ParseError as error:
            raise ValueError(f"spec or isolation: {error}") from None
        self._check_credits(record.credits)

    def _give_up(self, damaged: Damaged) -> None:
        record, end = damaged.record, End(GUEST_LOST, _story(damaged))
        self._records[record.instance_id] = record
        if record.live:
            self._begin(record, adopted=True, doomed=end)
            return
        record.reason_code, record.reason_message = end.code, end.message
        with contextlib.suppress(OSError):  # a full disk: the control plane knows of its end, or is told now
            self._tools.files.save(record)

    def live(self) -> list[GuestRecord]:
        return [record for record in self._records.values() if record.live]

    async def leave(self) -> None:
        """The agent goes, guests stay."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def end_all(self) -> None:
        """The host was given up: nothing of any guest goes on. Disks stay."""
        for life in self._lives.values():
            life.ask_end(0.0)
        await asyncio.gather(*(life.over for life in self._lives.values()))

    # ------------------------------------------------------------ orders

    async def start(self, spec: fleet_pb2.GuestSpec) -> None:
        """Returns when its life has begun. Raises Conflict for a generation that is over, OSError."""
        while (under_way := self._starting.get(spec.instance_id)) is not None:
            await asyncio.wait([under_way])
        known = self._records.get(spec.instance_id)
        if known is not None and spec.generation < known.generation:
            raise Conflict(f"generation {spec.generation} of {spec.instance_id} is over")
        if known is not None and spec.generation == known.generation:
            self._tools.changed(known)
            return
        task = asyncio.ensure_future(self._start_after(spec))
        self._starting[spec.instance_id] = task
        task.add_done_callback(lambda _: self._starting.pop(spec.instance_id, None))
        await asyncio.shield(task)

    async def _start_after(self, spec: fleet_pb2.GuestSpec) -> None:
        older = self._lives.get(spec.instance_id)
        if older is not None:
            older.ask_end(0.0)
            await older.over
        known = self._records.get(spec.instance_id)
        record = GuestRecord(
            spec.instance_id,
            spec.generation,
            spec=json_format.MessageToDict(spec),
            private_ip=spec.private_ip,
            machine_boot=machine_boot_id(),
            credits=known.credits if known is not None else {},
        )
        self._tools.files.save(record)
        self._records[spec.instance_id] = record
        life = self._begin(record)
        early = self._early.pop((record.instance_id, record.generation), None)
        if early is not None:
            life.actor_came(early)

    async def end(self, order: fleet_pb2.EndGuest) -> None:
        """Returns when no process of it is left, and its disk is gone where that was ordered."""
        starting = self._starting.get(order.instance_id)
        if starting is not None:
            await asyncio.wait([starting])
        record = self._records.get(order.instance_id)
        if record is not None and record.generation > order.generation and record.live:
            return  # that generation ended before this one began
        life = self._lives.get(order.instance_id)
        if life is not None:
            life.ask_end(0.0 if order.force else order.grace_s)
            await asyncio.shield(life.over)
        self._dismiss_early(order.instance_id, order.generation)
        if order.delete_disk:
            await self._tools.builder.delete_disk(order.instance_id)
            self._records.pop(order.instance_id, None)
            self._tools.files.delete(order.instance_id)
            self._deleted[order.instance_id] = order.generation
            asyncio.get_running_loop().call_later(DELETED_KEPT_S, self._deleted.pop, order.instance_id, None)

    async def reboot(self, instance_id: str, generation: int) -> None:
        """Returns when it answers again. Raises NotFound, Conflict when it ended instead."""
        if not await self._life(instance_id, generation).reboot():
            raise Conflict(f"{instance_id} ended while it was rebooted")

    def update(self, order: fleet_pb2.UpdateGuest) -> GuestRecord:
        """New options of a guest, in force with the next look at its record. Raises NotFound."""
        record = self.find(order.instance_id)
        spec = spec_of(record)
        spec.tags.clear()
        spec.tags.update(order.tags)
        spec.cpu_credits = order.cpu_credits
        spec.metadata_options.CopyFrom(order.metadata_options)
        spec.ClearField("firewall")
        if order.HasField("firewall"):
            spec.firewall.CopyFrom(order.firewall)
        spec.ClearField("role")
        if order.HasField("role"):
            spec.role.CopyFrom(order.role)
        del spec.security_groups[:]
        spec.security_groups.extend(order.security_groups)
        record.spec = json_format.MessageToDict(spec)
        self._tools.files.save(record)
        return record

    def forget(self, instance_id: str, generation: int) -> None:
        record = self._records.get(instance_id)
        if record is not None and record.generation == generation and record.phase == "ended":
            record.phase = "stopped"
            self._tools.files.save(record)

    # ------------------------------------------------------------ actors

    def actor_came(self, link: ActorLink) -> None:
        hello = link.hello
        record = self._records.get(hello.instance_id)
        life = self._lives.get(hello.instance_id)
        if record is not None and record.generation == hello.generation and life is not None:
            life.actor_came(link)
        elif hello.boot or self._is_over(hello.instance_id, hello.generation):
            link.send({"op": "exit"})  # its guest is over, or one that nobody here knows
        else:
            key = (hello.instance_id, hello.generation)
            self._early[key] = link
            asyncio.get_running_loop().call_later(ORDER_S_MAX, self._dismiss_early, *key)
            self._tools.changed(GuestRecord(*key))  # a control plane that does not want it any more ends it

    def actor_said(self, link: ActorLink, message: dict[str, Any]) -> None:
        life = self._life_of(link)
        if life is not None:
            life.actor_said(message)

    def actor_left(self, link: ActorLink) -> None:
        key = (link.hello.instance_id, link.hello.generation)
        if self._early.get(key) is link:
            del self._early[key]
        life = self._life_of(link)
        if life is not None:
            life.actor_left(link)

    def _is_over(self, instance_id: str, generation: int) -> bool:
        record = self._records.get(instance_id)
        return generation <= (record.generation if record is not None else self._deleted.get(instance_id, 0))

    def _life_of(self, link: ActorLink) -> Life | None:
        life = self._lives.get(link.hello.instance_id)
        return life if life is not None and life.record.generation == link.hello.generation else None

    def _dismiss_early(self, instance_id: str, generation: int) -> None:
        link = self._early.pop((instance_id, generation), None)
        if link is not None:
            link.send({"op": "exit"})

    # ------------------------------------------------------------ what is known

    def find(self, instance_id: str) -> GuestRecord:
        """Raises NotFound."""
        record = self._records.get(instance_id)
        if record is None:
            raise NotFound(f"no instance {instance_id} on this host", code="InvalidInstanceID.NotFound")
        return record

    def lives(self) -> Iterable[Life]:
        return list(self._lives.values())

    def coming(self) -> int:
        """How many are on their way to their first boot."""
        return sum(life.record.phase == "preparing" for life in self._lives.values())

    def reports(self) -> list[fleet_pb2.GuestReport]:
        """For a hello: all that the control plane may not know yet."""
        early = [GuestRecord(*key) for key in self._early]
        return [report_of(record) for record in (*early, *self._records.values()) if record.phase != "stopped"]

    def _life(self, instance_id: str, generation: int) -> Life:
        life = self._lives.get(instance_id)
        if life is None or life.record.generation != generation:
            raise NotFound(f"no guest of {instance_id}:{generation} runs here", code="InvalidInstanceID.NotFound")
        return life

    def _begin(self, record: GuestRecord, *, adopted: bool = False, doomed: End | None = None) -> Life:
        life = Life(record, self._tools, adopted=adopted, doomed=doomed)
        self._lives[record.instance_id] = life
        task = asyncio.ensure_future(life.run())
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(life, done))
        return life

    def _finished(self, life: Life, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._lives.get(life.record.instance_id) is life and not task.cancelled():
            del self._lives[life.record.instance_id]


def _story(damaged: Damaged) -> str:
    return f"its record on the host could not be understood ({damaged.why}) and was set aside as {damaged.name}"


def spec_of(record: GuestRecord) -> fleet_pb2.GuestSpec:
    """The caller's own. Whoever changes it makes another dict of it: `record.spec` itself is never changed."""
    if record.parsed is None or record.parsed[0] is not record.spec:
        spec = json_format.ParseDict(record.spec, fleet_pb2.GuestSpec(), ignore_unknown_fields=True)
        record.parsed = (record.spec, spec)
    copy = fleet_pb2.GuestSpec()
    copy.CopyFrom(record.parsed[1])
    return copy


def report_of(record: GuestRecord) -> fleet_pb2.GuestReport:
    """What the control plane is told. A guest that is known and stopped is told as ended."""
    report = fleet_pb2.GuestReport(
        instance_id=record.instance_id,
        generation=record.generation,
        state="ended" if record.phase == "stopped" else record.phase,
        private_ip=record.private_ip,
        isolation=json_format.ParseDict(record.isolation, instance_pb2.Isolation(), ignore_unknown_fields=True),
        gpu_ids=record.gpu_ids,
        user_data_status=record.user_data_status,
        user_data_exit=record.user_data_exit,
    )
    if not record.live:
        report.reason.CopyFrom(common_pb2.Reason(code=record.reason_code, message=record.reason_message))
        if record.exit_code is not None:
            report.exit_code = record.exit_code
    return report
