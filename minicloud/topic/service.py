"""The topics of one broker at work: decide, record, act in the queues, answer once all of it is on disk.

    call -> rules (directory.py, publish.py) -> frames: records on the shelf, fan-outs to queues -> flush -> reply

Everything that a call changes is decided and appended in one turn of the event loop, so calls never interleave, and
calls of the same moment share one sync. Only a publish of many messages to many subscriptions, or past many filters,
takes several turns, so that other calls need not wait long; a message and its copies are of one turn. Filters that one
message costs too much are asked beside the loop before it. A hidden queue is made before the record
that needs it and ended after the record that ended it: a crash in between leaves at most an empty queue, which `start`
clears away.

Metrics have AWS's names and count from the start of the broker. Those of a topic are the sums over its subscriptions,
also of such as are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.base.machine import Context, Outcome, Record
from minicloud.shell.clock import Clock, Timer
from minicloud.shell.looking import Looking, Room
from minicloud.shell.patterns import TooMuch
from minicloud.shell.reports import Report
from minicloud.topic import errors, ids, limits
from minicloud.topic.attributes import shown_of_subscription, shown_of_topic
from minicloud.topic.directory import Directory, DropQueue, Greet, OpenQueue
from minicloud.topic.envelope import Origin, Renderer, pack
from minicloud.topic.links import Couriers, Gear
from minicloud.topic.message import Entry, check_bulk, size_of
from minicloud.topic.metering import PUBLISHED, SIZE, TopicMeter
from minicloud.topic.model import SUBSCRIPTION, TOPIC, Subscription, Topic
from minicloud.topic.ports import Disk, Mail, Note, Poster, Queues, Shelf, Target
from minicloud.topic.publish import Accepted, Plan, Publication, Route, Verdicts, routes_of, verdicts
from minicloud.topic.state import State, scope_of

log = logging.getLogger(__name__)

T = TypeVar("T")
_Take = Callable[[Publication, slice, float], None]  # part, now
_LOOKS = 3  # at filters that change while a message is matched
RETRY_S = 60.0  # a clearing away that failed (a full disk) is tried again after this
_EIGHT_BYTES = struct.Struct(">Q").pack


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into. `secret`: of confirmation tokens, the same over restarts."""

    disk: Disk
    shelf: Shelf
    queues: Queues
    mail: Mail
    poster: Poster
    renderer: Renderer
    clock: Clock
    rand: random.Random
    secret: bytes


class _Call(NamedTuple):
    """Of so many messages. `take`: takes a part of them; `entry`: one of them, by its place."""

    size: int
    take: _Take
    entry: Callable[[int], Entry]


class TopicService:
    def __init__(self, ports: Ports) -> None:
        """Reads the shelf: O(records)."""
        self.state = State()
        self._ports = ports
        self._directory = Directory(self.state, ports.secret)
        gear = Gear(ports.queues, ports.mail, ports.poster, ports.renderer, ports.clock, ports.rand, ports.secret)
        self._couriers = Couriers(self, gear)
        self.totals: Counter[str] = Counter()  # of all topics since the start, by metric
        self._metrics: dict[str, Counter[str]] = {}
        self._of_subscriptions: dict[str, Counter[str]] = {}
        self._meter = TopicMeter()
        self._looking = Looking("Throttled")
        self._ids = _MessageIds(ports.rand)
        self._timer: Timer | None = None
        self._tick: asyncio.Task[None] | None = None
        for kind in (TOPIC, SUBSCRIPTION):
            for key, body in ports.shelf.items(kind).items():
                self.state.apply(Record(kind, key, body))

    async def start(self, hidden: Iterable[str]) -> None:
        """Set right what a crash left, and begin to deliver. hidden: keys of the hidden queues that there are."""
        await self._ports.disk.act(lambda now: self._set_right(set(hidden), now))
        for subscription in self.state.subscriptions.values():
            if subscription.http:
                self._couriers.start(subscription)
        self._arm()

    def _set_right(self, hidden: set[str], now: float) -> None:
        standing = self._directory.standing()
        for one in standing:
            self._open(one, self._context(now))
        for key in hidden - {one.key for one in standing}:
            self._ports.queues.drop(key, now)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._tick is not None:
            self._tick.cancel()
        await self._couriers.close()
        self._looking.close()

    def _context(self, now: float) -> Context:
        return Context(now, self._ports.rand)

    # --- changing topics and subscriptions

    async def _change(self, decide: Callable[[Context], Outcome]) -> Any:
        """Decide, act, record, apply, follow, in one turn; the reply once all is on disk."""
        outcome = await self._ports.disk.act(lambda now: self._enact(decide(self._context(now)), now))
        return outcome.reply

    def _enact(self, outcome: Outcome, now: float) -> Outcome:
        opened: list[str] = []
        try:
            for effect in outcome.effects:
                if isinstance(effect, OpenQueue):
                    opened += [] if self._ports.queues.hidden(effect.key) is not None else [effect.key]
                    self._open(effect, self._context(now))
                elif isinstance(effect, Greet):
                    self._greet(effect, now)
            self._record(outcome.records)
        except CloudError:
            for key in opened:
                self._ports.queues.drop(key, now)
            raise
        for effect in outcome.effects:
            if isinstance(effect, DropQueue):
                self._ports.queues.drop(effect.key, now)
        self._follow(outcome)
        return outcome

    def _record(self, records: Sequence[Record]) -> None:
        puts = [(kind, key, body) for kind, key, body in records if body is not None]
        self._ports.shelf.change(puts, [(kind, key) for kind, key, body in records if body is None])
        for record in records:
            self.state.apply(record)

    def _open(self, one: OpenQueue, context: Context) -> None:
        scope = scope_of(one.key.removeprefix("topic/")) if one.fifo else Scope()
        self._ports.queues.open(one.key, scope, context, fifo=one.fifo, by_group=one.by_group)

    def _greet(self, greet: Greet, now: float) -> None:
        """A message about a subscription goes the way of all messages to it."""
        one = greet.subscription
        version = self.state.topics[one.topic_arn].signature_version
        origin = Origin(greet.kind, self._ids.next(1)[0], int(now * 1000), version, "", one.topic_arn)
        target = Target(self._ports.queues.hidden(one.outbox), one.ref)
        self._ports.queues.fan_out([target], [Note(b"-", pack(origin))], now)

    def _follow(self, outcome: Outcome) -> None:
        """What has no place on the disk: couriers, counters, the timer. In the same turn: the caller may go away while
        the disk syncs. A courier that starts now posts nothing before the disk has it: its receive waits for that too.
        """
        for record in outcome.records:
            if record.kind == SUBSCRIPTION:
                self._follow_subscription(record.key)
            elif record.body is None:
                self._metrics.pop(record.key, None)
        self._arm()

    def _follow_subscription(self, key: str) -> None:
        subscription = self.state.subscriptions.get(key)
        if subscription is None:
            self._couriers.stop(key)
            self._of_subscriptions.pop(key, None)
        elif subscription.http:
            self._couriers.start(subscription)

    def _arm(self) -> None:
        due = self.state.due()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._ports.clock.call_at(due, self._ring)

    def _ring(self) -> None:
        self._tick = asyncio.ensure_future(self._clear_away())

    async def _clear_away(self) -> None:
        try:
            await self._change(lambda context: self._directory.tick(context.now))
        except CloudError as error:
            log.warning("old subscriptions are cleared away later: %s", error)
            self._timer = self._ports.clock.call_at(self._ports.clock.wall() + RETRY_S, self._ring)

    # --- topics

    async def create_topic(
        self, scope: Scope, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> Topic:
        reply: Topic = await self._change(
            lambda context: self._directory.create_topic(scope, name, attributes, tags, context)
        )
        return reply

    async def set_topic(self, scope: Scope, name: str, attributes: Mapping[str, str]) -> Topic:
        reply: Topic = await self._change(lambda _: self._directory.set_topic(scope, name, attributes))
        return reply

    async def edit_policy(self, scope: Scope, name: str, edit: Callable[[str], str]) -> None:
        """`edit` makes the new text of the access policy out of the old one, within one turn."""

        def change(_context: Context) -> Outcome:
            shown = self.shown_topic(self.state.topic(scope, name))
            return self._directory.set_topic(scope, name, {"Policy": edit(shown["Policy"])})

        await self._change(change)

    async def tag_topic(self, scope: Scope, name: str, tags: Mapping[str, str], remove: Sequence[str]) -> Topic:
        reply: Topic = await self._change(lambda _: self._directory.tag_topic(scope, name, tags, remove))
        return reply

    async def delete_topic(self, scope: Scope, name: str) -> None:
        await self._change(lambda _: self._directory.delete_topic(scope, name))

    def shown_topic(self, topic: Topic) -> dict[str, str]:
        """Its attributes as AWS shows them."""
        return shown_of_topic(topic, self.state.counts.get(topic.arn, {}))

    # --- subscriptions

    async def subscribe(
        self, scope: Scope, name: str, to: tuple[str, str], attributes: Mapping[str, str]
    ) -> Subscription:
        """to: protocol and endpoint."""
        reply: Subscription = await self._change(
            lambda context: self._directory.subscribe(scope, name, to, attributes, context)
        )
        return reply

    async def confirm(self, arn: str, token: str, *, known: bool, locked: bool = False) -> Subscription:
        reply: Subscription = await self._change(
            lambda context: self._directory.confirm(arn, token, context, known=known, locked=locked)
        )
        return reply

    async def set_subscription(self, scope: Scope, arn: str, attributes: Mapping[str, str]) -> Subscription:
        reply: Subscription = await self._change(lambda _: self._directory.set_subscription(scope, arn, attributes))
        return reply

    async def unsubscribe(self, scope: Scope, arn: str) -> None:
        await self._change(lambda _: self._directory.unsubscribe(scope, arn))

    async def leave(self, arn: str) -> None:
        """By the link in a message."""
        await self._change(lambda context: self._directory.leave(arn, context))

    def shown_subscription(self, subscription: Subscription) -> dict[str, str]:
        return shown_of_subscription(subscription, self.state.topics[subscription.topic_arn])

    # --- publishing

    async def publish(self, scope: Scope, name: str, entries: Sequence[Entry]) -> list[Accepted | CloudError]:
        """One result for each of 1 to 1,000 entries, in order.

        Raises NotFound, InvalidParameter (how many), BatchRequestTooLong, Throttled.
        """
        if not 1 <= len(entries) <= limits.BULK_MESSAGES_MAX:
            raise errors.invalid(f"1 to {limits.BULK_MESSAGES_MAX} entries a call", "entries")
        if sum(map(size_of, entries)) > limits.BULK_BYTES_MAX:
            raise errors.batch_too_long()

        def take(publication: Publication, part: slice, now: float) -> None:
            sent_ms, some = int(now * 1000), entries[part]
            for entry, message_id in zip(some, self._ids.next(len(some)), strict=True):
                publication.take(entry, message_id, sent_ms)

        plans = await self._publish(scope, name, _Call(len(entries), take, entries.__getitem__))
        return [result for plan in plans for result in plan.results]

    async def publish_bulk(self, scope: Scope, name: str, messages: list[bytes]) -> list[bytes]:
        """Plain messages to a standard topic; their ids. All are checked before one is taken.

        Raises what `publish` does.
        """
        topic = self.state.topic(scope, name)
        if not messages or len(messages) > self._at_once(topic):  # one part is checked when it is taken
            check_bulk(messages, topic.bytes_max)
        message_ids = self._ids.next(len(messages))

        def take(publication: Publication, part: slice, now: float) -> None:
            publication.take_all(messages[part], message_ids[part], int(now * 1000))

        call = _Call(len(messages), take, lambda index: Entry(messages[index]))
        for plan in await self._publish(scope, name, call):
            if (error := plan.error()) is not None:
                raise error
        return message_ids

    async def _publish(self, scope: Scope, name: str, call: _Call) -> list[Plan]:
        """What became of its messages, which are taken a part at a time."""
        topic = self.state.topic(scope, name)
        plans: list[Plan] = []
        done, count, most = 0, call.size, self._at_once(topic)
        while done < count:
            part = slice(done, min(count, done + most))
            try:
                plan = await self._ports.disk.act(partial(self._carry_out, topic, call.take, part))
            except TooMuch:
                most = max(1, (part.stop - done) // 4)
                if part.stop - done > 1:
                    continue
                plan = await self._publish_costly(topic, call, part)
            self._note(topic, plan)
            plans.append(plan)
            done = part.stop
            if done < count:
                await asyncio.sleep(0)  # a quick disk gives no way to others
        return plans

    async def _publish_costly(self, topic: Topic, call: _Call, part: slice) -> Plan:
        """One message that filters are asked about beside the event loop."""
        room = Room(limits.FILTER_TESTS_AT_ONCE, limits.FILTER_TESTS_BESIDE, limits.FILTER_LOOKS_MAX)
        for _ in range(_LOOKS):
            of_topic = self.state.of_topic.get(topic.arn, {}).values()
            filters = {(one.protocol, one.filter) for one in of_topic if one.filter is not None}
            look = partial(verdicts, call.entry(part.start), topic, filters)
            try:
                known = await self._looking.look_beside(topic.scope.account, look, room)
            except TooMuch:
                return Plan([errors.too_costly()])
            except CloudError as error:
                return Plan([error])
            with contextlib.suppress(TooMuch):  # other filters than were asked
                return await self._ports.disk.act(partial(self._carry_out, topic, call.take, part, said=known))
        raise Unavailable("The topic's filter policies change all the time; retry.")

    def _at_once(self, topic: Topic) -> int:
        return max(1, limits.COPIES_AT_ONCE // max(1, len(self.state.of_topic.get(topic.arn, ()))))

    def _carry_out(self, topic: Topic, take: _Take, part: slice, now: float, said: Verdicts | None = None) -> Plan:
        """Raises TooMuch: it changed nothing."""
        topic = self.state.topic(topic.scope, topic.name)
        queues = self._ports.queues
        publication = Publication(topic, self._routes(topic), queues, limits.FILTER_TESTS_AT_ONCE, said)
        take(publication, part, now)
        waiting = list(reversed(publication.plan.batches))
        while waiting:
            batch = waiting.pop()
            try:
                fanned = queues.fan_out(batch.targets, batch.notes, now)
            except CloudError as error:
                publication.plan.refuse(batch, error)
                continue
            waiting += publication.settle(batch, fanned)
        return publication.plan

    def _routes(self, topic: Topic) -> list[Route]:
        return routes_of(self.state.of_topic.get(topic.arn, {}).values(), self._ports.queues)

    # --- metrics

    def _note(self, topic: Topic, plan: Plan) -> None:
        metrics = self._metrics.setdefault(topic.arn, Counter())
        published = plan.published()
        metrics[PUBLISHED] += published
        metrics[SIZE] += plan.bytes if published else 0
        self.totals[PUBLISHED] += published
        for (key, metric), count in plan.counts.items():
            self.totals[metric] += count
            self._of_subscriptions.setdefault(key, Counter())[metric] += count
            metrics[metric] += count

    def count(self, subscription: Subscription, metric: str) -> None:
        """For couriers."""
        self.totals[metric] += 1
        if subscription.topic_arn in self.state.topics:
            self._metrics.setdefault(subscription.topic_arn, Counter())[metric] += 1
        if subscription.id in self.state.subscriptions:
            self._of_subscriptions.setdefault(subscription.id, Counter())[metric] += 1

    def metrics(self, scope: Scope, name: str) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """Of the topic, and by ARN of each subscription that has any. Raises NotFound."""
        topic = self.state.topic(scope, name)
        subscriptions = self.state.of_topic.get(topic.arn, {}).values()
        own = {
            one.arn: dict(self._of_subscriptions[one.id]) for one in subscriptions if one.id in self._of_subscriptions
        }
        return dict(self._metrics.get(topic.arn, {})), own

    def report(self, start: float) -> list[Report]:
        """What was added since the last report, as of the period that began at `start`."""
        return self._meter.report(self._metrics, start)

    # --- what couriers ask

    def subscription(self, key: str) -> Subscription | None:
        return self.state.subscriptions.get(key)

    def topic(self, arn: str) -> Topic:
        return self.state.topics[arn]


class _MessageIds:
    """UUIDs (version 8): 62 random bits of this start of the broker, and a counter."""

    def __init__(self, rand: random.Random) -> None:
        raw = bytearray(ids.fresh(rand)[:8])
        raw[6] = raw[6] & 0x0F | 0x80
        self._prefix = bytes(raw)
        self._count = rand.getrandbits(32)

    def next(self, count: int) -> list[bytes]:
        first, self._count = self._count, self._count + count
        prefix, numbers = self._prefix, range(first | 1 << 63, (first | 1 << 63) + count)
        return list(map(prefix.__add__, map(_EIGHT_BYTES, numbers)))
