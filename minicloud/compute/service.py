"""Compute, made to happen: requests go to the machine, and what the records then imply goes to hosts and Ray.

    request -> shell.submit(command) -> reply
                     | effects (Touched)
                     v
    instance pending:  StartGuest to its host agent + its actor to Ray, at the same time
    stopping, ending:  EndGuest to its host agent
    any change:        watchers wake

Every effect is derived from the record as it stands, so doing it twice, or again after a crash, is harmless. What is
not durable here (samples, links) comes back with the next beat of each host.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from minicloud.base import limits
from minicloud.base.errors import CloudError, InsufficientCapacity, Internal, Unavailable
from minicloud.compute import commands, orders, security
from minicloud.compute.firewall import Firewalls
from minicloud.compute.links import HostLink, Links
from minicloud.compute.machine import Compute, DiskDeleted
from minicloud.compute.metering import InstanceMeter
from minicloud.compute.model import Host, Image, Instance, Transition
from minicloud.compute.ports import ActorSpec, Launcher
from minicloud.compute.state import Touched
from minicloud.shell.waiters import Waiters
from minicloud.wire import fleet_pb2 as pb

T = TypeVar("T")
log = logging.getLogger(__name__)

BOOT_GRACE_S = 45.0  # ours: hosts that the journal knows may take this long to say hello after a start
END_AGAIN_S = 2.0  # ours: pause before a host that could not end a guest, or delete its disk, is told to again
HOST_FAILURE = "Server.HostFailure"
LAUNCH_TRIES = 4
LAUNCH_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into."""

    submit: Callable[[Any], Awaitable[Any]]
    shown: Callable[[Callable[[], Any]], Awaitable[Any]]
    settled: Callable[[], bool]
    launcher: Launcher
    waiters: Waiters
    rand: random.Random
    role_of: Callable[[str, str], pb.GuestRole | None] = lambda _account, _profile: None


class ComputeService:
    def __init__(self, machine: Compute, ports: Ports) -> None:
        self.machine = machine
        self.state = machine.state
        self.links = Links(self._on_silence)
        self.samples: dict[str, pb.GuestSample] = {}
        self.meter = InstanceMeter()
        self._firewalls = Firewalls(self.state, self.push_options)
        self.followers: set[Callable[[str], None]] = set()  # told the id of each instance that is another one now
        self.owed: Callable[[], None] = lambda: None  # there is a transition to tell
        self.host_followers: set[Callable[[], None]] = set()  # told that a host is another one now
        self.closing = False
        self._ports = ports
        self._launching: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._beginning: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dead_sessions: set[str] = set()
        self._orders_made = 0
        self._ending: set[str] = set()
        self._all_ended = asyncio.Event()

    @property
    def waiters(self) -> Waiters:
        return self._ports.waiters

    async def submit(self, command: Any) -> Any:
        if self.closing:
            raise Unavailable("The cloud is going down.")
        return await self._ports.submit(command)

    async def shown(self, look: Callable[[], T]) -> T:
        """What `look` sees, or raises, once all of it is on disk: no reply shows what could be taken back."""
        seen: T = await self._ports.shown(look)
        return seen

    def settled(self) -> bool:
        """Whatever can be seen now may be shown."""
        return self._ports.settled()

    def start(self) -> None:
        """After the journal was loaded: every host that should be up must say hello in time."""
        for host in self.state.hosts.values():
            if host.state == "up":
                self.links.expect(host.id, BOOT_GRACE_S)

    async def close(self) -> None:
        self.links.close()
        for task in [*self._launching.values(), *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._launching.values(), *self._tasks, return_exceptions=True)

    # --- effects of records

    def on_effects(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Touched):
                self._touched(effect)
        self._firewalls.settle()

    def _touched(self, effect: Touched) -> None:
        """Acts on the entity as it was recorded: the state may be ahead of the disk already."""
        self.waiters.notify((effect.kind, effect.key))
        self._firewalls.touched(effect)
        if effect.kind == Instance.kind:
            self._news(effect.key)
        elif isinstance(effect.entity, Transition):
            self.owed()
        elif effect.kind == Host.kind:
            for follow in self.host_followers:
                follow()
        if isinstance(effect.entity, Instance):
            self.act(effect.entity)
        elif effect.kind == Instance.kind:
            self.samples.pop(effect.key, None)
        elif isinstance(effect.entity, Image) and effect.entity.state == "pending":
            self._snapshot(effect.entity)

    def act(self, instance: Instance) -> None:
        """Do what this record implies, as far as its host can be reached now; the next hello does the rest."""
        if self.closing:
            return
        if instance.state in ("stopped", "terminated"):
            self.samples.pop(instance.id, None)
        link = self.links.get(instance.host_id)
        if link is None:
            return
        order = orders.for_instance(
            instance, self._extras(instance) if instance.state == "pending" else orders.NO_EXTRAS
        )
        if order is not None:
            link.send(order)
        if instance.state == "pending":
            self._launch(instance)

    def _snapshot(self, image: Image) -> None:
        source = self.state.instances.get(image.source_instance_id)
        link = self.links.get(source.host_id) if source else None
        if link is not None:
            link.send(orders.snapshot(image))

    # --- actors

    def _launch(self, instance: Instance) -> None:
        key = (instance.id, instance.generation)
        if key in self._launching:
            return
        task = asyncio.create_task(self._launch_actor(instance))
        self._launching[key] = task
        task.add_done_callback(lambda _: self._launching.pop(key, None))

    async def _launch_actor(self, instance: Instance) -> None:
        host = self.state.hosts[instance.host_id]
        spec = ActorSpec(
            instance_id=instance.id,
            generation=instance.generation,
            host_name=host.name,
            session=host.session,
            cpus=instance.vcpus / host.overcommit_cpu,
            memory_bytes=int(instance.memory_mib * 2**20 / host.overcommit_memory),
            gpus=instance.gpus / host.overcommit_gpu,
        )
        await self._guest_first(spec.instance_id, spec.generation)
        try:
            if await self._is_wanted(spec.instance_id, spec.generation):
                await self._launch_with_retries(spec)
        except CloudError as error:
            await self._launch_failed(spec.instance_id, spec.generation, error)

    async def _guest_first(self, instance_id: str, generation: int) -> None:
        """Ray's work would take the CPU from a guest that only needs to boot: wait for the host's word that it does."""
        begun = self._beginning[instance_id, generation] = asyncio.get_running_loop().create_future()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(begun, limits.GUEST_FIRST_S_MAX)
        finally:
            del self._beginning[instance_id, generation]

    async def _is_wanted(self, instance_id: str, generation: int) -> bool:
        """It may have been ended while its guest began. What is not on disk yet may be undone: then it goes on."""

        def look() -> bool:
            one = self.state.instances.get(instance_id)
            return one is not None and one.generation == generation and one.state in ("pending", "running")

        return look() or await self.shown(look)

    def guest_begun(self, instance_id: str, generation: int) -> None:
        """Its host has done what goes before the actor."""
        begun = self._beginning.get((instance_id, generation))
        if begun is not None and not begun.done():
            begun.set_result(None)

    async def _launch_with_retries(self, spec: ActorSpec) -> None:
        for attempt in range(LAUNCH_TRIES):
            try:
                await self._ports.launcher.launch(spec)
                return
            except Unavailable:
                if attempt == LAUNCH_TRIES - 1:
                    raise
                await asyncio.sleep(LAUNCH_PAUSE_S * 2**attempt * (0.5 + self._ports.rand.random()))

    async def _launch_failed(self, instance_id: str, generation: int, error: CloudError) -> None:
        code = "Server.InternalError"
        if isinstance(error, InsufficientCapacity):
            code = "Server.InsufficientInstanceCapacity"
        elif isinstance(error, Unavailable):  # Ray, or the host's part of it
            code = HOST_FAILURE
        await self._settle(commands.LaunchFailed(instance_id, generation, code, error.message))

    def actor_failed(self, instance_id: str, generation: int, error: CloudError) -> None:
        """An actor that Ray took on could not be placed after all, or died before its guest ran."""
        self._spawn(self._launch_failed(instance_id, generation, error))

    async def _settle(self, command: Any, still: Callable[[], bool] = lambda: True) -> Any:
        """Submit what the fleet reported. A full disk must not lose it: it is tried until it is durable, as long as
        it is `still` so; asked before every try. None: it was not taken."""
        pause_s = 0.1
        while not self.closing and still():
            try:
                return await self._ports.submit(command)
            except CloudError as error:
                if not error.retryable:
                    log.error("%s was not taken: %s", type(command).__name__, error)
                    return None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
        return None

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work in the background failed", exc_info=error)

    # --- the fleet's reports

    def is_dead(self, session: str) -> bool:
        """An agent of a dead node lives on where its raylet is frozen: it must be fenced, not let in."""
        return session in self._dead_sessions

    async def hello(self, command: commands.HostSeen) -> HostLink:
        """A host agent opened its stream: its host is up, its guests are held against the records."""

        def still_here() -> bool:  # its call stands, so it lives, however long the disk takes
            self.links.expect(command.id, limits.HOST_LOST_AFTER_S)
            return True

        host = await self._settle(command, still_here)
        if host is None:
            raise Unavailable("The cloud is going down.")
        link = self.links.open(command.id, command.session)
        for guest in command.guests:
            self._answer_guest(link, guest)
        for instance in self.state.on_host(command.id):
            self.act(instance)
        self._firewalls.again(self.state.on_host(command.id))
        for image in self.state.pending_images():
            self._snapshot(image)
        self.waiters.notify((Host.kind, command.id))
        return link

    def _answer_guest(self, link: HostLink, guest: commands.GuestSeen) -> None:
        """After its report was recorded: an end that is durable is forgotten, a guest that should not be is ended."""
        instance = self.state.instances.get(guest.instance_id)
        if guest.state == "ended":
            link.send(orders.forget(guest.instance_id, guest.generation))
        elif instance is None or instance.generation != guest.generation or instance.host_id != link.host_id:
            link.send(orders.end(guest.instance_id, guest.generation, force=True, delete_disk=instance is None))
        elif instance.state in ("stopped", "terminated"):
            gone = instance.state == "terminated"
            link.send(orders.end(guest.instance_id, guest.generation, force=True, delete_disk=gone))

    def _news(self, instance_id: str) -> None:
        for follow in self.followers:
            follow(instance_id)

    async def guest_report(self, link: HostLink, guest: commands.GuestSeen) -> None:
        if self.closing:
            return
        self.guest_begun(guest.instance_id, guest.generation)
        await self._settle(guest)
        self._answer_guest(link, guest)

    def beat(self, link: HostLink, beat: pb.HostBeat) -> None:
        self.links.alive(link)
        vitals = link.vitals
        vitals.warm_workers = beat.warm_workers
        vitals.cpu_percent = beat.host_cpu_percent
        vitals.memory_available_mib = beat.host_memory_available_mib
        vitals.disk_free_gib = beat.host_disk_free_gib
        for sample in beat.samples:
            self.meter.add(sample)
            before = self.samples.get(sample.instance_id)
            self.samples[sample.instance_id] = sample
            if before is None or before.answers != sample.answers:
                self.waiters.notify((Instance.kind, sample.instance_id))
                self._news(sample.instance_id)

    async def order_result(self, link: HostLink, result: pb.OrderResult) -> None:
        """Its id is forgotten last: what its own outcome implies is not ordered again."""
        try:
            await self._take_result(link, result)
        finally:
            link.forget(result.order_id)

    async def _take_result(self, link: HostLink, result: pb.OrderResult) -> None:
        if self.closing:
            self._ending.discard(result.order_id)
            if not self._ending:
                self._all_ended.set()
            return
        if result.order_id.startswith(orders.IMAGE_PREFIX):
            error = "" if result.ok else result.error.message or result.error.code or "the host gave no reason"
            image_id = result.order_id.removeprefix(orders.IMAGE_PREFIX)
            await self._settle(commands.ImageDone(image_id, result.size_bytes, error))
        elif result.ok and result.order_id.startswith(orders.END_PREFIX):
            _, instance_id, generation, _ = result.order_id.split(":")
            await self._settle(commands.GuestSeen(instance_id, int(generation), "ended"))
            if orders.deletes_disk(result.order_id):
                await self._settle(DiskDeleted(instance_id))
        elif not result.ok:
            log.warning("host %s refused order %s: %s", link.host_id, result.order_id, result.error.message)
            await self._refused(result)

    async def _refused(self, result: pb.OrderResult) -> None:
        """A start that a host cannot carry out is given up; an end is ordered again, until its host can."""
        verb, instance_id, generation, *_ = f"{result.order_id}::".split(":")
        if f"{verb}:" == orders.START_PREFIX:
            error = Internal(f"its host cannot start it: {result.error.message}")
            await self._launch_failed(instance_id, int(generation), error)
        elif f"{verb}:" == orders.END_PREFIX:
            self._spawn(self._act_later(instance_id))

    async def _act_later(self, instance_id: str) -> None:
        await asyncio.sleep(END_AGAIN_S)
        instance = self.state.instances.get(instance_id)
        if instance is not None:
            self.act(instance)

    def stream_ended(self, link: HostLink) -> None:
        self.links.drop(link)

    # --- hosts that are lost

    def _on_silence(self, host_id: str) -> None:
        host = self.state.hosts.get(host_id)
        if host is not None:
            lost = commands.HostLost(host_id, HOST_FAILURE, "its agent has not been heard of", host.session)
            self._spawn(self._host_lost(lost, lambda: not self.links.expected(host_id)))

    def node_died(self, session: str) -> None:
        """Ray says that this node is dead. It never comes back; a host that does is another node."""
        self._dead_sessions.add(session)
        for host in list(self.state.hosts.values()):
            if host.session == session and host.state == "up":
                self._spawn(self._host_lost(commands.HostLost(host.id, HOST_FAILURE, "its Ray node died", session)))

    async def _host_lost(self, command: commands.HostLost, still: Callable[[], bool] = lambda: True) -> None:
        here = self.state.on_host(command.host_id)
        doomed = [one for one in here if one.state in ("pending", "running", "stopping")]
        host = await self._settle(command, still)
        if host is None or host.state == "up":  # heard of again, or another session of it, before this was on disk
            return
        self.links.lost(command.host_id)
        for instance in doomed:
            self._spawn(self._ports.launcher.kill(instance.id, instance.generation))

    # --- requests that change no record

    async def reboot(self, command: commands.RebootInstances) -> list[Instance]:
        found: list[Instance] = await self.submit(command)
        for instance in found:
            link = self._link(instance)
            order = pb.RebootGuest(instance_id=instance.id, generation=instance.generation)
            link.send(pb.HostOrder(order_id=self._order_id("reboot"), reboot=order))
        return found

    def push_options(self, instance: Instance) -> None:
        """Options that hold at once in a running guest: metadata, tags, credit mode."""
        link = self.links.get(instance.host_id)
        if link is not None and instance.state in ("pending", "running"):
            link.send(orders.update(instance, self._order_id("update"), self._extras(instance)))

    def _extras(self, instance: Instance) -> orders.Extras:
        names = tuple(one["GroupName"] for one in security.named(self.state, instance))
        role = self._ports.role_of(instance.account, instance.profile) if instance.profile else None
        return orders.Extras(self._firewalls.of(instance), role, names)

    def _order_id(self, verb: str) -> str:
        self._orders_made += 1
        return f"{verb}:{time.time_ns():x}:{self._orders_made}"

    def _link(self, instance: Instance) -> HostLink:
        link = self.links.get(instance.host_id)
        if link is None:
            raise Unavailable(f"the host of '{instance.id}' cannot be reached at the moment", field="instance_id")
        return link

    # --- going down

    async def shut_down(self, within_s: float) -> None:
        """End every guest, keep every record: what runs now runs again after the next start."""
        self.closing = True
        for link in self.links.all():
            for instance in self.state.on_host(link.host_id):
                if instance.state in ("pending", "running", "stopping", "shutting-down"):
                    order = orders.end(instance.id, instance.generation)
                    self._ending.add(order.order_id)
                    link.forget(order.order_id)
                    link.send(order)
        if self._ending:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), within_s)
