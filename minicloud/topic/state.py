"""All topics and subscriptions of a broker, with the indexes that decisions and publishing read.

`apply` is the only mutator. A record is an upsert, so applying one twice changes nothing, and applying the stored ones
in any order gives the live state.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Record
from minicloud.topic import errors, limits
from minicloud.topic.model import CONFIRMED, SUBSCRIPTION, TOPIC, Subscription, Topic

Place = tuple[str, str, str]  # topic ARN, protocol, endpoint


class State:
    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.of_topic: dict[str, dict[str, Subscription]] = {}
        self.places: dict[Place, str] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.filters: Counter[Scope] = Counter()
        self.topic_counts: Counter[tuple[Scope, bool]] = Counter()
        self._topic_arns: dict[Scope, list[str]] = {}
        self._subscription_arns: dict[Scope, list[str]] = {}
        self._waiting: list[tuple[int, str]] = []

    # --- reading

    def topic(self, scope: Scope, name: str) -> Topic:
        """By name or ARN. Another scope's does not exist. Raises NotFound, InvalidParameter."""
        topic = self.topics.get(topic_arn(scope, name))
        if topic is None or topic.scope != scope:
            raise errors.no_such_topic()
        return topic

    def subscription(self, scope: Scope, arn: str) -> Subscription:
        """Raises NotFound, InvalidParameter."""
        found = self.find_subscription(scope, arn)
        if found is None:
            raise errors.no_such_subscription()
        return found

    def find_subscription(self, scope: Scope, arn: str) -> Subscription | None:
        """None: there is none (any more). Raises InvalidParameter."""
        parts = arn.split(":")
        if len(parts) < 6:
            text = f"SubscriptionArn Reason: An ARN must have at least 6 elements, not {len(parts)}"
            raise errors.invalid(text, "subscription_arn")
        if len(parts) == 6:
            raise errors.invalid("SubscriptionId", "subscription_arn")
        found = self.subscriptions.get(parts[-1])
        visible = found is not None and found.arn == arn and found.state != "left"
        return found if visible and found is not None and self.topics[found.topic_arn].scope == scope else None

    def topic_arns(self, scope: Scope) -> list[str]:
        """Sorted; base.pages cuts it."""
        return self._topic_arns.get(scope, [])

    def subscription_arns(self, scope: Scope) -> list[str]:
        """Sorted by topic, then id; without those that were left."""
        return self._subscription_arns.get(scope, [])

    def arns_of_topic(self, arn: str) -> list[str]:
        """The same, of one topic. O(its subscriptions)."""
        return sorted(one.arn for one in self.of_topic.get(arn, {}).values() if one.state != "left")

    def due(self) -> float | None:
        """When the oldest unconfirmed subscription ends, Unix seconds."""
        while self._waiting:
            changed_ms, key = self._waiting[0]
            known = self.subscriptions.get(key)
            if known is not None and known.state != CONFIRMED and known.changed_ms == changed_ms:
                return changed_ms / 1000 + limits.PENDING_S_MAX
            heapq.heappop(self._waiting)
        return None

    def expired(self, now: float) -> list[Subscription]:
        """Unconfirmed or left for two days. They come again until they are removed."""
        found, last_ms = [], (now - limits.PENDING_S_MAX) * 1000
        for changed_ms, key in heapq.nsmallest(limits.BULK_MESSAGES_MAX, self._waiting):
            known = self.subscriptions.get(key)
            if changed_ms <= last_ms and known is not None and known.changed_ms == changed_ms:
                found += [known] if known.state != CONFIRMED else []
        return found

    # --- changing

    def apply(self, record: Record) -> None:
        if record.kind == TOPIC:
            self._apply_topic(record.key, record.body)
        elif record.kind == SUBSCRIPTION:
            self._apply_subscription(record.key, record.body)

    def _apply_topic(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.topics.pop(key, None)
        if before is not None:
            self.topic_counts[before.scope, before.fifo] -= 1
            _remove(self._topic_arns, before.scope, key)
        if body is None:
            return
        topic = self.topics[key] = Topic.from_body(body)
        self.topic_counts[topic.scope, topic.fifo] += 1
        insort(self._topic_arns.setdefault(topic.scope, []), key)

    def _apply_subscription(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.subscriptions.pop(key, None)
        if before is not None:
            self._forget(before)
        if body is not None:
            self._enter(Subscription.from_body(body))

    def _enter(self, new: Subscription) -> None:
        scope = scope_of(new.topic_arn)
        self.subscriptions[new.id] = new
        self.of_topic.setdefault(new.topic_arn, {})[new.id] = new
        self.counts.setdefault(new.topic_arn, Counter())[new.state] += 1
        self.places[new.topic_arn, new.protocol, new.endpoint] = new.id
        self.filters[scope] += "FilterPolicy" in new.attributes
        if new.state != "left":
            insort(self._subscription_arns.setdefault(scope, []), new.arn)
        if new.state != CONFIRMED:
            heapq.heappush(self._waiting, (new.changed_ms, new.id))

    def _forget(self, old: Subscription) -> None:
        scope = scope_of(old.topic_arn)
        siblings = self.of_topic[old.topic_arn]
        del siblings[old.id]
        self.counts[old.topic_arn][old.state] -= 1
        if not siblings:
            del self.of_topic[old.topic_arn], self.counts[old.topic_arn]
        if self.places.get((old.topic_arn, old.protocol, old.endpoint)) == old.id:
            del self.places[old.topic_arn, old.protocol, old.endpoint]
        self.filters[scope] -= "FilterPolicy" in old.attributes
        if old.state != "left":
            _remove(self._subscription_arns, scope, old.arn)


def topic_arn(scope: Scope, name: str) -> str:
    """Of a name or an ARN. Raises InvalidParameter."""
    if ":" not in name:
        return scope.arn("sns", name)
    count = name.count(":") + 1
    if count < 6:
        raise errors.invalid(f"TopicArn Reason: An ARN must have at least 6 elements, not {count}", "topic")
    return name


def scope_of(arn: str) -> Scope:
    parts = arn.split(":", 5)
    return Scope(parts[4], parts[3])


def _remove(lists: dict[Scope, list[str]], scope: Scope, key: str) -> None:
    keys = lists[scope]
    del keys[bisect_left(keys, key)]
    if not keys:
        del lists[scope]
