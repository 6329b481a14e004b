"""How a broker's topics are plugged into its queues: adapters between two slices that do not know each other."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import cast

from minicloud.aws.http import Handler
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, NotFound
from minicloud.base.machine import Context
from minicloud.queue import fanout, message
from minicloud.queue.book import Queue
from minicloud.queue.codec import Stored
from minicloud.queue.core import Broker
from minicloud.queue.receipt import HANDLE_BYTES
from minicloud.queue.service import Ask, QueueService
from minicloud.shell.clock import Clock
from minicloud.shell.webhook import Webhooks
from minicloud.topic.aws.links import topic_links
from minicloud.topic.envelope import Renderer, unpack
from minicloud.topic.message import Attribute
from minicloud.topic.ports import Fanned, Note, Parcel, Poster, Run, Signer, Sleeper, Target
from minicloud.topic.seal import SigningKey
from minicloud.topic.service import Ports, TopicService

_SIGNATURES_MAX = 4_096  # ours: a message that goes to many queues is signed once


class BrokerQueues:
    """topic.ports.Queues over the core. Targets and notes have the same fields on both sides, so none is copied."""

    def __init__(self, core: Broker) -> None:
        self._core = core

    def find(self, arn: str) -> Queue | None:
        return self._core.book.arns.get(arn)

    def fan_out(self, targets: Sequence[Target], notes: Sequence[Note], now: float) -> Fanned:
        known = fanout.Run(notes.bodies, notes.origins, notes.simple) if isinstance(notes, Run) else notes
        return self._core.fan_out(cast("Sequence[fanout.Target]", targets), cast("Sequence[fanout.Note]", known), now)

    def encode(self, attributes: Mapping[str, Attribute]) -> bytes:
        return message.pack_attributes(cast("Mapping[str, message.Attribute]", attributes))

    def hidden(self, key: str) -> Queue | None:
        return self._core.find_internal(key)

    def open(self, key: str, scope: Scope, context: Context, *, fifo: bool, by_group: bool) -> None:
        wanted = {"DeduplicationScope": "messageGroup" if by_group else "queue"} if fifo else {}
        attributes = {"FifoQueue": "true", **wanted} if fifo else {}
        queue = self._core.create_internal(scope, key, context.now, context.rand, attributes)
        if any(queue.attributes.get(name) != value for name, value in wanted.items()):
            self._core.set_attributes(queue, wanted, context.now)

    def drop(self, key: str, now: float) -> None:
        self._core.delete_internal(key, now)


class BrokerMail:
    """topic.ports.Mail over the queue service."""

    def __init__(self, service: QueueService) -> None:
        self._service = service

    async def receive(self, queue: Queue, want: int, visibility_s: int) -> list[Parcel]:
        batch = await self._service.receive(queue, Ask(want, visibility_s, 0))
        joined = batch.handles()
        parcels = []
        for index, extras in batch.extras.items():
            handle = joined[index * HANDLE_BYTES : (index + 1) * HANDLE_BYTES]
            stored, attributes = extras.stored, cast("Mapping[str, Attribute]", extras.attributes)
            parcels.append(
                Parcel(handle, batch.counts[index], stored.origin, stored.raw, batch.bodies[index], attributes)
            )
        return parcels

    async def delete(self, queue: Queue, handle: bytes) -> None:
        _raise(await self._service.delete(queue, [handle]))

    async def postpone(self, queue: Queue, handle: bytes, seconds: int) -> None:
        _raise(await self._service.change_visibility(queue, [handle], [seconds]))

    async def forward(self, queue: Queue, handle: bytes, target: Queue) -> None:
        core = self._service.core
        _raise(await self._service.act(lambda now: core.forward(queue, [handle], target, now)))

    def watch(self, queue: Queue | None) -> AbstractAsyncContextManager[Sleeper]:
        if queue is None:
            raise NotFound("the outbox is gone")
        return self._service.waiters.watch(queue.number)


def _raise(failed: Mapping[int, CloudError]) -> None:
    for error in failed.values():
        raise error


class Signatures:
    """A signer that remembers its last signatures: of each message one is made, however many queues hand it out."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._known: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    @property
    def certificate_name(self) -> str:
        return self._signer.certificate_name

    def sign(self, text: bytes, version: int) -> bytes:
        key = (text, version)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._signer.sign(text, version)
            if len(self._known) > _SIGNATURES_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found


@dataclass(frozen=True, slots=True)
class TopicParts:
    """`base_url`: what links start with, for whoever gets them; the path in it is the path that is served."""

    key: SigningKey = field(default_factory=SigningKey)
    poster: Poster = field(default_factory=Webhooks)
    base_url: str = "http://127.0.0.1:4566/_minicloud/sns/0"


class Topics:
    """The topics of one broker, from its shelf to its links."""

    def __init__(self, parts: TopicParts) -> None:
        self._parts = parts
        self.renderer = Renderer(Signatures(parts.key), parts.base_url)

    def render(self, stored: Stored, attributes: dict[str, message.Attribute]) -> bytes:
        """queue.columns.Render: what a queue that is subscribed without raw delivery hands out."""
        given = cast("Mapping[str, Attribute]", attributes)
        return self.renderer.notification(unpack(stored.origin), stored.ref, given, stored.body, stored.serial)

    def over(self, queues: QueueService, clock: Clock, rand: random.Random, secret: bytes) -> TopicService:
        """The service, over queues that are replayed. Once."""
        core = queues.core
        self._core = core
        self.service = TopicService(
            Ports(
                disk=queues,
                shelf=core.shelf,
                queues=BrokerQueues(core),
                mail=BrokerMail(queues),
                poster=self._parts.poster,
                renderer=self.renderer,
                clock=clock,
                rand=rand,
                secret=secret,
            )
        )
        return self.service

    def links(self, new_request_id: Callable[[], str]) -> dict[str, Handler]:
        """For aws.http.serve: what answers to the links in messages."""
        path = f"/{self._parts.base_url.partition('://')[2].partition('/')[2]}"
        return {path: topic_links(self.service, self._parts.key, path, new_request_id)}

    async def start(self) -> None:
        await self.service.start(list(self._core.book.hidden))

    async def stop(self) -> None:
        await self.service.stop()
