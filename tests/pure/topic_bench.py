"""A bench for the rules of topics: a directory over a state that every step applies, checks and replays."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.base.machine import Context, Outcome, Record
from minicloud.topic.directory import Directory, DropQueue, Greet, OpenQueue
from minicloud.topic.message import Attribute
from minicloud.topic.model import SUBSCRIPTION, TOPIC, Subscription, Topic
from minicloud.topic.ports import Note, Target
from minicloud.topic.state import State

SCOPE = Scope()
OTHER = Scope("111111111111", "us-east-1")
SECRET = b"s" * 32


class Bench:
    """Decide, record, apply; after each step the replay of all records is the live state."""

    def __init__(self) -> None:
        self.state = State()
        self.directory = Directory(self.state, SECRET)
        self.now = 1_700_000_000.0
        self.rand = random.Random(1)
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.hidden: set[str] = set()
        self.greeted: list[Greet] = []

    @property
    def context(self) -> Context:
        return Context(self.now, self.rand)

    def do(self, outcome: Outcome) -> Any:
        for record in outcome.records:
            self.keep(record)
            self.state.apply(record)
        for effect in outcome.effects:
            if isinstance(effect, OpenQueue):
                self.hidden.add(effect.key)
            elif isinstance(effect, DropQueue):
                self.hidden.discard(effect.key)
            elif isinstance(effect, Greet):
                self.greeted.append(effect)
        self.check()
        return outcome.reply

    def keep(self, record: Record) -> None:
        if record.body is None:
            self.stored.pop((record.kind, record.key), None)
        else:
            self.stored[record.kind, record.key] = json.loads(json.dumps(record.body))

    def check(self) -> None:
        twin = State()
        items = list(self.stored.items())
        random.Random(len(items)).shuffle(items)
        for (kind, key), body in items:
            twin.apply(Record(kind, key, copy.deepcopy(body)))
            twin.apply(Record(kind, key, body))
        for name in ("topics", "subscriptions", "of_topic", "places", "_topic_arns", "_subscription_arns"):
            assert getattr(twin, name) == getattr(self.state, name), name
        for name in ("counts", "filters", "topic_counts"):
            assert without_zeros(getattr(twin, name)) == without_zeros(getattr(self.state, name)), name
        assert twin.due() == self.state.due()
        assert {one.key for one in self.directory.standing()} == self.hidden

    # --- short ways

    def topic(self, name: str = "news", **attributes: str) -> Topic:
        if name.endswith(".fifo"):
            attributes.setdefault("FifoTopic", "true")
        return self.do(self.directory.create_topic(SCOPE, name, attributes, {}, self.context))  # type: ignore[no-any-return]

    def subscribe(
        self, endpoint: str = "queue", protocol: str = "", topic: str = "news", **attributes: str
    ) -> Subscription:
        protocol = protocol or (endpoint.split(":")[0] if "://" in endpoint else "sqs")
        outcome = self.directory.subscribe(SCOPE, topic, (protocol, endpoint), attributes, self.context)
        return self.do(outcome)  # type: ignore[no-any-return]


def without_zeros(value: Any) -> Any:
    if isinstance(value, dict) and not isinstance(value, Counter):
        return {key: without_zeros(inner) for key, inner in value.items()}
    return {key: count for key, count in value.items() if count}


@dataclass(slots=True)
class FakeFanned:
    serials: list[int]
    failed: dict[tuple[int, int], CloudError] = field(default_factory=dict)
    duplicates: set[int] = field(default_factory=set)
    skipped: set[tuple[int, int]] = field(default_factory=set)


@dataclass(eq=False)
class FakeQueue:
    """`full`: it refuses every message."""

    name: str
    got: list[tuple[Note, Target]] = field(default_factory=list)
    full: bool = False
    known: dict[str, int] = field(default_factory=dict)


class FakeQueues:
    """Queues that are lists. `calls`: (targets, notes) of each fan-out."""

    def __init__(self) -> None:
        self.queues: dict[str, FakeQueue] = {}
        self.calls: list[tuple[int, int]] = []

    def add(self, name: str, *, full: bool = False) -> FakeQueue:
        arn = name if "/" in name else SCOPE.arn("sqs", name)
        self.queues[arn] = FakeQueue(name, full=full)
        return self.queues[arn]

    def find(self, arn: str) -> FakeQueue | None:
        return self.queues.get(arn)

    def hidden(self, key: str) -> FakeQueue | None:
        return self.queues.get(key) or self.add(key)

    def open(self, key: str, scope: Scope, context: Context, *, fifo: bool, by_group: bool) -> None:
        self.add(key)

    def drop(self, key: str, now: float) -> None:
        self.queues.pop(key, None)

    def encode(self, attributes: Mapping[str, Attribute]) -> bytes:
        return json.dumps({name: one.type for name, one in attributes.items()}).encode()

    def fan_out(self, targets: Sequence[Target], notes: Sequence[Note], now: float) -> FakeFanned:
        self.calls.append((len(targets), len(notes)))
        fanned = FakeFanned([0] * len(notes))
        for index, note in enumerate(notes):
            for at, target in enumerate(targets):
                if target.ledger:
                    ledger = target.queue.known
                    if note.deduplication_id in ledger:
                        fanned.duplicates.add(index)
                    fanned.serials[index] = ledger.setdefault(note.deduplication_id, len(ledger) + 1)
                elif index in fanned.duplicates:
                    continue
                elif target.queue.full:
                    fanned.failed[index, at] = InvalidParameterValue("too long")
                else:
                    target.queue.got.append((note, target))
        return fanned


__all__ = ["OTHER", "SCOPE", "SUBSCRIPTION", "TOPIC", "Bench", "FakeQueue", "FakeQueues"]
