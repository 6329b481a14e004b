"""Publishing: which subscriptions get a message, and the fan-outs that carry it there.

A call's messages are checked one by one (each with an error of its own), filtered for each subscription, and gathered
into *batches*: messages with the same targets, which one fan-out writes, a frame for each message however many queues
get it. A FIFO topic keeps their order: its batches are runs, and each targets the topic's ledger, which numbers and
deduplicates.

A queue that is gone, or cannot take a message, is a client-side error: it is not tried again; the message goes to the
subscription's dead-letter queue, or is counted as failed. A raw queue takes ten attributes at most: what has more goes
to its dead-letter queue as a document.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from minicloud.base.errors import CloudError
from minicloud.shell.patterns import Whole
from minicloud.topic import limits
from minicloud.topic.attributes import dead_letter_arn
from minicloud.topic.envelope import Origin, pack, pack_many
from minicloud.topic.filter import BODY, Filter, InvalidPayload, attribute_view, body_view
from minicloud.topic.message import PROTOCOLS, Entry, Texts, check_bulk, check_entry, check_tokens, size_of
from minicloud.topic.model import CONFIRMED, Subscription, Topic
from minicloud.topic.ports import Fanned, Note, Queues, Run, Target

_UNSEEN = object()
Verdicts = Mapping[tuple[Filter, bytes], bool]  # of one message: what filters said of it, or of its text


@dataclass(slots=True)
class Accepted:
    """A message that was taken. `serial`: its number in a FIFO topic, once the batch is written."""

    message_id: bytes
    serial: int = 0


@dataclass(slots=True, eq=False)
class Route:
    """A subscription as one call of Publish sees it: its target, and where its failures go (`dead`, and `document`: the
    same queue, for what cannot go there raw). `lost`: it is such a place itself.
    """

    subscription: Subscription
    target: Target | None
    dead: Route | None = None
    document: Route | None = None
    lost: bool = False


@dataclass(slots=True)
class Batch:
    """Messages for the same targets. `indexes`: of the entries; `routes`: whose each target is, None for a ledger.

    Of plain messages that came at once, notes are a Run, which is never added to.
    """

    targets: tuple[Target, ...]
    routes: tuple[Route | None, ...]
    notes: list[Note] | Run = field(default_factory=list)
    indexes: list[int] | range = field(default_factory=list)

    def add(self, note: Note, index: int) -> None:
        assert isinstance(self.notes, list) and isinstance(self.indexes, list)
        self.notes.append(note)
        self.indexes.append(index)


@dataclass(slots=True)
class Plan:
    """What a call does. `results`: for each entry, in order; `counts`: (subscription id, metric) -> how many.

    `taken`: plain messages that were taken at once, which have no results; `refused`: why they were not.
    """

    results: list[Accepted | CloudError] = field(default_factory=list)
    taken: int = 0
    refused: CloudError | None = None
    batches: list[Batch] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    bytes: int = 0

    def published(self) -> int:
        return self.taken + sum(isinstance(result, Accepted) for result in self.results)

    def error(self) -> CloudError | None:
        """The first."""
        return self.refused or next((result for result in self.results if isinstance(result, CloudError)), None)

    def refuse(self, batch: Batch, error: CloudError) -> None:
        """A fan-out that the disk did not take: its messages are refused, whatever else became of them."""
        if not self.results:
            self.taken, self.refused = 0, error.copy()
            return
        for index in batch.indexes:
            self.results[index] = error.copy()

    def count(self, subscription: Subscription, metric: str, number: int = 1) -> None:
        key = (subscription.id, metric)
        self.counts[key] = self.counts.get(key, 0) + number


def routes_of(subscriptions: Iterable[Subscription], queues: Queues) -> list[Route]:
    """The confirmed ones, with their queues as they are now."""
    found = []
    for one in subscriptions:
        if one.state != CONFIRMED:
            continue
        queue = queues.hidden(one.outbox) if one.http else queues.find(one.endpoint)
        # An outbox always holds what a document or a raw request is made of when it is sent.
        target = Target(queue, one.ref, one.raw) if queue is not None else None
        found.append(Route(one, target, *_dead_ends(one, queues)))
    return found


def _dead_ends(one: Subscription, queues: Queues) -> tuple[Route | None, Route | None]:
    queue = queues.find(dead_letter_arn(one)) if "RedrivePolicy" in one.attributes else None
    if queue is None:
        return None, None
    document = Route(one, Target(queue, one.ref), lost=True)
    return (Route(one, Target(queue, one.ref, one.raw), lost=True) if one.raw else document), document


class _Message:
    """An entry that passed its checks, with the views that filters look at, each made once."""

    __slots__ = ("_around", "_views", "attributes", "entry", "origin", "token")

    def __init__(self, entry: Entry, origin: bytes, token: str) -> None:
        self.entry = entry
        self.origin = origin
        self.token = token
        self._views: dict[tuple[str, bytes], object] = {}
        self._around = size_of(entry) - len(entry.message)

    def view(self, scope: str, body: bytes) -> object:
        """None: the filter cannot look into this message."""
        key = (scope, body if scope == BODY else b"")
        view = self._views.get(key, _UNSEEN)
        if view is _UNSEEN:
            try:
                view = body_view(body) if scope == BODY else attribute_view(self.entry.attributes or {})
            except InvalidPayload:
                view = None
            self._views[key] = view
        return view

    def matches(self, one: Filter, body: bytes, tests: float) -> tuple[bool, float]:
        """Whether it takes it, of the tests that are left, and how many are left then. Raises TooMuch."""
        view = self.view(one.scope, body)
        if view is None:
            return False, tests
        whole = Whole(view, tests)
        found = one.takes(whole, len(body) if one.scope == BODY else self._around)
        return found, whole.left


def verdicts(entry: Entry, topic: Topic, filters: Collection[tuple[str, Filter]], tests: float) -> Verdicts:
    """What filters of subscriptions, each with its protocol, say of an entry. Another thread may ask: nothing that
    changes is touched. Raises TooMuch.
    """
    found: dict[tuple[Filter, bytes], bool] = {}
    try:
        texts = check_entry(entry, topic.bytes_max)
    except CloudError:
        return found  # told when it is taken
    message = _Message(entry, b"", "")
    for protocol, one in filters:
        body = texts.of(protocol if texts.special else "default")
        key = (one, body if one.scope == BODY else b"")
        if key not in found:
            found[key], tests = message.matches(one, body, tests)
    return found


class Publication:
    """One call. `take` each entry in turn, then carry out `plan.batches` and tell `settle` of each.

    `tests`: what filters may cost; `verdicts`: what some of them said of the one entry that is taken.
    """

    def __init__(
        self,
        topic: Topic,
        routes: Sequence[Route],
        queues: Queues,
        tests: float = inf,
        verdicts: Verdicts | None = None,
    ) -> None:
        self._tests, self._verdicts = tests, verdicts or {}
        self.plan = Plan()
        self._topic = topic
        self._routes = routes
        self._queues = queues
        self._ledger: tuple[Target, ...] = ()
        if topic.fifo:
            self._ledger = (Target(queues.hidden(topic.ledger), bytes(16), raw=True, ledger=True),)
        self._open: dict[tuple[Route, ...], Batch] = {}
        self._all = {protocol: self._everyone(protocol) for protocol in ("", *PROTOCOLS)}

    def take(self, entry: Entry, message_id: bytes, sent_ms: int) -> None:
        """Raises TooMuch: nothing may be carried out then."""
        index = len(self.plan.results)
        try:
            texts = check_entry(entry, self._topic.bytes_max)
            check_tokens(entry, fifo=self._topic.fifo, content_dedup=self._topic.content_dedup)
        except CloudError as error:
            self.plan.results.append(error)
            return
        self.plan.results.append(Accepted(message_id))
        self.plan.bytes += size_of(entry)
        version = self._topic.signature_version
        origin = pack(Origin("Notification", message_id, sent_ms, version, entry.subject, self._topic.arn))
        self._spread(index, _Message(entry, origin, self._token(entry)), texts)

    def take_all(self, messages: list[bytes], ids: list[bytes], sent_ms: int) -> None:
        """Plain messages to a standard topic, all or none. Raises InvalidParameter, TooMuch."""
        if self._topic.fifo:
            check_tokens(Entry(b""), fifo=True, content_dedup=True)
        simple = check_bulk(messages, self._topic.bytes_max)
        routes = self._all[""]
        if routes is None:
            for message, message_id in zip(messages, ids, strict=True):
                self.take(Entry(message), message_id, sent_ms)
            return
        self.plan.taken += len(messages)
        self.plan.bytes += sum(map(len, messages))
        targets = tuple(route.target for route in routes if route.target is not None)
        if targets:
            origin = Origin("Notification", bytes(16), sent_ms, self._topic.signature_version, "", self._topic.arn)
            notes = Run(messages, pack_many(ids, origin), simple)
            self.plan.batches.append(Batch(targets, routes, notes, range(len(notes))))

    def _token(self, entry: Entry) -> str:
        """The deduplication id of a message of a FIFO topic."""
        if not self._topic.fifo:
            return ""
        return entry.deduplication_id or hashlib.sha256(entry.message).hexdigest()

    def _spread(self, index: int, message: _Message, texts: Texts) -> None:
        """Into batches: one for each text that differs by protocol; at a FIFO topic always one."""
        protocols = [""]
        if texts.special:
            protocols = ["sqs"] if self._ledger else [*PROTOCOLS]
        attributes = {} if message.entry.json else message.entry.attributes or {}
        encoded = self._queues.encode(attributes) if attributes else b""
        for protocol in protocols:
            body = texts.of(protocol or "default")
            note = Note(body, message.origin, encoded, message.entry.group_id, message.token)
            routes = self._all[protocol]
            if routes is None or len(attributes) > limits.RAW_ATTRIBUTES_MAX:
                routes = self._choose(protocol, message, body, len(attributes))
            if routes or self._ledger:
                self._add(routes, index, note)

    def _everyone(self, protocol: str) -> tuple[Route, ...] | None:
        """All of a protocol ('' for every one), when none has a filter and each has its queue; else None."""
        mine = [route for route in self._routes if protocol in ("", route.subscription.protocol)]
        plain = all(route.target is not None and route.subscription.filter is None for route in mine)
        return tuple(mine) if plain else None

    def _choose(self, protocol: str, message: _Message, body: bytes, attributes: int) -> tuple[Route, ...]:
        chosen = []
        for route in self._routes:
            one = route.subscription
            if protocol not in ("", one.protocol) or not self._passes(one, message, body):
                continue
            to: Route | None = route
            if route.target is None:
                to = self._fail(route, route.dead)
            elif attributes > limits.RAW_ATTRIBUTES_MAX and one.raw and not one.http:
                to = self._fail(route, route.document)
            chosen += [to] if to is not None else []
        return tuple(chosen)

    def _passes(self, one: Subscription, message: _Message, body: bytes) -> bool:
        if one.filter is None:
            return True
        view = message.view(one.filter.scope, body)
        if view is not None and self._takes(one.filter, message, body):
            return True
        self.plan.count(one, "NumberOfNotificationsFilteredOut")
        if one.filter.scope == BODY:
            self.plan.count(one, "NumberOfNotificationsFilteredOut-MessageBody")
            if view is None:
                self.plan.count(one, "NumberOfNotificationsFilteredOut-InvalidMessageBody")
            return False
        self.plan.count(one, "NumberOfNotificationsFilteredOut-MessageAttributes")
        if view is None:
            self.plan.count(one, "NumberOfNotificationsFilteredOut-InvalidAttributes")
        elif not message.entry.attributes:
            self.plan.count(one, "NumberOfNotificationsFilteredOut-NoMessageAttributes")
        return False

    def _takes(self, one: Filter, message: _Message, body: bytes) -> bool:
        known = self._verdicts.get((one, body if one.scope == BODY else b""))
        if known is not None:
            return known
        found, self._tests = message.matches(one, body, self._tests)
        return found

    def _fail(self, route: Route, to: Route | None) -> Route | None:
        """Count a client-side error. Returns where the message goes now."""
        one = route.subscription
        self.plan.count(one, "NumberOfNotificationsFailed")
        if to is not None:
            self.plan.count(one, "NumberOfNotificationsRedrivenToDlq")
        elif "RedrivePolicy" in one.attributes:
            self.plan.count(one, "NumberOfNotificationsFailedToRedriveToDlq")
        return to

    def _add(self, routes: tuple[Route, ...], index: int, note: Note) -> None:
        batch = self._open.get(routes)
        last = self.plan.batches[-1] if self.plan.batches else None
        if batch is None or (self._ledger and batch is not last) or len(batch.notes) == limits.BULK_MESSAGES_MAX:
            targets = self._ledger + tuple(route.target for route in routes if route.target is not None)
            owners: tuple[Route | None, ...] = (None,) * len(self._ledger) + routes
            batch = self._open[routes] = Batch(targets, owners)
            self.plan.batches.append(batch)
        batch.add(note, index)

    def settle(self, batch: Batch, fanned: Fanned) -> list[Batch]:
        """A batch is written: numbers, errors, counts. Returns what goes to dead-letter queues now."""
        late: dict[int, Batch] = {}
        for (note, at), error in fanned.failed.items():
            route = batch.routes[at]
            if route is None:
                self.plan.results[batch.indexes[note]] = error
            elif route.lost:
                self._too_late(route)
            else:
                to = self._fail(route, route.document)
                if to is not None and to.target is not None:
                    rest = late.setdefault(at, Batch((to.target,), (to,)))
                    rest.add(batch.notes[note], batch.indexes[note])
        for index, serial in zip(batch.indexes, fanned.serials, strict=True) if self._ledger else ():
            result = self.plan.results[index]
            if serial and isinstance(result, Accepted):
                result.serial = serial
        self._count_delivered(batch, fanned)
        return list(late.values())

    def _count_delivered(self, batch: Batch, fanned: Fanned) -> None:
        missed = Counter(at for _, at in (*fanned.failed, *fanned.skipped))
        fresh = len(batch.notes) - len(fanned.duplicates)
        for at, route in enumerate(batch.routes):
            # What waits in an outbox is delivered when its endpoint took it.
            if route is not None and not route.lost and not route.subscription.http and fresh > missed[at]:
                self.plan.count(route.subscription, "NumberOfNotificationsDelivered", fresh - missed[at])

    def _too_late(self, route: Route) -> None:
        """The dead-letter queue did not take it either."""
        self.plan.count(route.subscription, "NumberOfNotificationsRedrivenToDlq", -1)
        self.plan.count(route.subscription, "NumberOfNotificationsFailedToRedriveToDlq")
