"""Decisions about topics and subscriptions: each call returns the reply, the records to store, and what to do after.

Nothing is changed here: the service stores the records and applies them to the state (decide, record, reply, act).
Effects are derived again from the records at a start, so that a crash between record and act does no harm.

Idempotent as SNS: CreateTopic and Subscribe answer with what exists if nothing that was given differs; DeleteTopic and
Unsubscribe succeed on what is gone. An endpoint that is not a queue confirms with a token; what is not confirmed ends
after two days. Where we differ: an Unsubscribe through the link in a message may be taken back for two days, then it is
final; topics and queues of other accounts and regions cannot be connected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context, Outcome, Record
from minicloud.base.tags import check_tags
from minicloud.topic import attributes, errors, ids, limits, tokens
from minicloud.topic.model import CONFIRMED, LEFT, PENDING, SUBSCRIPTION, TOPIC, Subscription, Topic
from minicloud.topic.state import State, topic_arn

_QUEUE_NAME = re.compile(r"^(?=.{1,80}\Z)[A-Za-z0-9_-]+(\.fifo)?\Z")
_REFUSED = ("email", "email-json", "sms", "application", "firehose")
_FUNCTION = re.compile(r"arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:[a-zA-Z0-9_-]{1,64}(:[a-zA-Z0-9_$-]{1,128})?\Z")
_FIFO_NAMES = ("ContentBasedDeduplication", "FifoThroughputScope")


@dataclass(frozen=True, slots=True)
class OpenQueue:
    """A hidden queue to make, or to set up anew. `by_group`: deduplication within a group (FIFO)."""

    key: str
    fifo: bool = False
    by_group: bool = False


@dataclass(frozen=True, slots=True)
class DropQueue:
    key: str


@dataclass(frozen=True, slots=True)
class Greet:
    """A message to an endpoint about its subscription: SubscriptionConfirmation or UnsubscribeConfirmation."""

    kind: str
    subscription: Subscription


class Directory:
    def __init__(self, state: State, secret: bytes) -> None:
        self._state = state
        self._secret = secret

    # --- topics

    def create_topic(
        self, scope: Scope, name: str, given: Mapping[str, str], tags: Mapping[str, str], context: Context
    ) -> Outcome:
        """Reply: Topic. Raises InvalidParameter, TopicLimitExceeded, TagLimitExceeded."""
        fifo = given.get("FifoTopic", "").lower() == "true"
        attributes.check_name(name, fifo)
        checked = attributes.check_topic(given, creating=True, fifo=fifo)
        known = self._state.topics.get(scope.arn("sns", name))
        if known is not None:
            self._check_same(known, checked, tags)
            return Outcome(known)
        most = limits.FIFO_TOPICS_MAX if fifo else limits.TOPICS_MAX
        if self._state.topic_counts[scope, fifo] >= most:
            raise errors.too_many_topics(most)
        stored = attributes.merged({}, checked)
        topic = Topic(scope.account, scope.region, name, stored, check_tags(tags), int(context.now * 1000))
        return Outcome(topic, [_record(topic)], [_ledger(topic)] if fifo else [])

    def _check_same(self, known: Topic, given: Mapping[str, str], tags: Mapping[str, str]) -> None:
        shown = {"FifoTopic": "false", "SignatureVersion": "1", **attributes.shown_of_topic(known, {})}
        if any(value and shown.get(name) != value for name, value in given.items()):
            raise errors.invalid("Attributes Reason: Topic already exists with different attributes", "attributes")
        if any(known.tags.get(key) != value for key, value in tags.items()):
            raise errors.invalid("Tags Reason: Topic already exists with different tags", "tags")

    def set_topic(self, scope: Scope, name: str, given: Mapping[str, str]) -> Outcome:
        """Reply: Topic. Raises NotFound, InvalidParameter."""
        topic = self._state.topic(scope, name)
        checked = attributes.check_topic(given, creating=False, fifo=topic.fifo)
        new = replace(topic, attributes=attributes.merged(topic.attributes, checked))
        if new.bytes_max > limits.MESSAGE_BYTES_DEFAULT:
            self._check_large(topic)
        effects = [_ledger(new)] if any(name in given for name in _FIFO_NAMES) else []
        return Outcome(new, [_record(new)], effects)

    def _check_large(self, topic: Topic) -> None:
        subscriptions = self._state.of_topic.get(topic.arn, {})
        if len(subscriptions) > limits.LARGE_SUBSCRIPTIONS_MAX or any(one.http for one in subscriptions.values()):
            raise _large()

    def tag_topic(self, scope: Scope, name: str, tags: Mapping[str, str], remove: Iterable[str]) -> Outcome:
        """Reply: Topic. Raises NotFound, InvalidParameter, TagLimitExceeded."""
        topic = self._state.topic(scope, name)
        gone = set(remove)
        kept = {key: value for key, value in topic.tags.items() if key not in gone}
        new = replace(topic, tags=check_tags({**kept, **tags}))
        return Outcome(new, [_record(new)])

    def delete_topic(self, scope: Scope, name: str) -> Outcome:
        """Raises InvalidParameter (no ARN)."""
        arn = topic_arn(scope, name)
        topic = self._state.topics.get(arn)
        if topic is None or topic.scope != scope:
            return Outcome()
        outcome = Outcome(None, [], [DropQueue(topic.ledger)] if topic.fifo else [])
        for subscription in self._state.of_topic.get(arn, {}).values():
            _end(subscription, outcome)
        outcome.records.append(Record(TOPIC, arn, None))
        return outcome

    # --- subscriptions

    def subscribe(
        self, scope: Scope, name: str, to: tuple[str, str], given: Mapping[str, str], context: Context
    ) -> Outcome:
        """Reply: Subscription. to: protocol and endpoint.

        Raises NotFound, InvalidParameter, AuthorizationError, SubscriptionLimitExceeded, FilterPolicyLimitExceeded.
        """
        topic = self._state.topic(scope, name)
        to = _endpoint(topic, to)
        known = self._state.subscriptions.get(self._state.places.get((topic.arn, *to), ""))
        if known is not None and known.state != LEFT:
            return self._known(known, topic, given)
        self._check_room(topic, to[0])
        stored = attributes.check_subscription(given, {}, topic, to, subscribing=True)
        self._check_filters(topic, stored, {})
        confirmed = to[0] in ("sqs", "lambda")
        key = ids.to_text(ids.fresh(context.rand))
        state = CONFIRMED if confirmed else PENDING
        now_ms = int(context.now * 1000)
        new = Subscription(key, topic.arn, *to, scope.account, stored, state, now_ms, authenticated=confirmed)
        outcome = Outcome(new, [_record(new)], [OpenQueue(new.outbox)] if new.http else [])
        outcome.effects += [] if confirmed else [_greeting(new)]
        if known is not None:
            _end(known, outcome)
        return outcome

    def _known(self, known: Subscription, topic: Topic, given: Mapping[str, str]) -> Outcome:
        stored = attributes.check_subscription(given, {}, topic, (known.protocol, known.endpoint), subscribing=True)
        if any(known.attributes.get(name, _DEFAULTS.get(name)) != value for name, value in stored.items()):
            text = "Attributes Reason: Subscription already exists with different attributes"
            raise errors.invalid(text, "attributes")
        return Outcome(known, [], [_greeting(known)] if known.state == PENDING else [])

    def _check_room(self, topic: Topic, protocol: str) -> None:
        count = len(self._state.of_topic.get(topic.arn, {}))
        most = limits.FIFO_SUBSCRIPTIONS_MAX if topic.fifo else limits.SUBSCRIPTIONS_MAX
        if topic.bytes_max > limits.MESSAGE_BYTES_DEFAULT:
            most = min(most, limits.LARGE_SUBSCRIPTIONS_MAX)
            if protocol != "sqs":
                raise _large()
        if count >= most:
            raise errors.too_many_subscriptions(most)

    def _check_filters(self, topic: Topic, new: Mapping[str, str], old: Mapping[str, str]) -> None:
        if "FilterPolicy" not in new or "FilterPolicy" in old:
            return
        if self._state.filters[topic.scope] >= limits.FILTERS_OF_ACCOUNT_MAX:
            raise errors.too_many_filters(limits.FILTERS_OF_ACCOUNT_MAX, "the account")
        siblings = self._state.of_topic.get(topic.arn, {}).values()
        if sum("FilterPolicy" in one.attributes for one in siblings) >= limits.FILTERS_OF_TOPIC_MAX:
            raise errors.too_many_filters(limits.FILTERS_OF_TOPIC_MAX, "the topic")

    def set_subscription(self, scope: Scope, arn: str, given: Mapping[str, str]) -> Outcome:
        """Reply: Subscription. Raises NotFound, InvalidParameter, FilterPolicyLimitExceeded."""
        old = self._state.subscription(scope, arn)
        topic = self._state.topics[old.topic_arn]
        to = (old.protocol, old.endpoint)
        stored = attributes.check_subscription(given, old.attributes, topic, to, subscribing=False)
        self._check_filters(topic, stored, old.attributes)
        new = replace(old, attributes=stored)
        return Outcome(new, [_record(new)])

    def confirm(self, arn: str, token: str, context: Context, *, known: bool, locked: bool = False) -> Outcome:
        """Reply: Subscription. known: the caller has proved who it is; locked: AuthenticateOnUnsubscribe.

        Also takes back what was left. Raises InvalidParameter.
        """
        key = tokens.redeem(self._secret, token, context.now)
        old = self._state.subscriptions.get(key)
        if old is None:
            raise errors.invalid("Token", "Token")
        if old.topic_arn != arn:
            raise errors.invalid("Topic", "topic")
        if old.state == CONFIRMED:
            return Outcome(old)
        changed_ms = int(context.now * 1000)
        new = replace(old, state=CONFIRMED, changed_ms=changed_ms, authenticated=known, locked=known and locked)
        return Outcome(new, [_record(new)], [OpenQueue(new.outbox)])

    def unsubscribe(self, scope: Scope, arn: str) -> Outcome:
        """By the account that owns it. Raises InvalidParameter."""
        outcome = Outcome()
        old = self._state.find_subscription(scope, arn)
        if old is not None:
            _end(old, outcome)
            self._count_end(old, outcome)
        return outcome

    def leave(self, arn: str, context: Context) -> Outcome:
        """By the link in a message, by whoever has it. Raises AuthorizationError, InvalidParameter."""
        old = self._state.subscriptions.get(arn.rsplit(":", 1)[-1])
        if old is None or old.arn != arn or old.state == LEFT:
            return Outcome()
        if old.locked:
            raise errors.not_authorized("Only a known caller may end this subscription", "SubscriptionArn")
        if old.protocol in ("sqs", "lambda"):
            return self.unsubscribe(self._state.topics[old.topic_arn].scope, arn)
        new = replace(old, state=LEFT, changed_ms=int(context.now * 1000))
        outcome = Outcome(None, [_record(new)], [Greet("UnsubscribeConfirmation", new)])
        self._count_end(old, outcome)
        return outcome

    def tick(self, now: float) -> Outcome:
        """End what was never confirmed, and what was left for good."""
        outcome = Outcome()
        for subscription in self._state.expired(now):
            _end(subscription, outcome)
        return outcome

    def _count_end(self, old: Subscription, outcome: Outcome) -> None:
        if old.state == CONFIRMED:
            topic = self._state.topics[old.topic_arn]
            outcome.records.append(_record(replace(topic, deleted=topic.deleted + 1)))

    def standing(self) -> list[OpenQueue]:
        """Every hidden queue that must be there."""
        ledgers = [_ledger(topic) for topic in self._state.topics.values() if topic.fifo]
        return ledgers + [OpenQueue(one.outbox) for one in self._state.subscriptions.values() if one.http]


_DEFAULTS = {"RawMessageDelivery": "false", "FilterPolicyScope": "MessageAttributes"}


def _record(thing: Topic | Subscription) -> Record:
    if isinstance(thing, Topic):
        return Record(TOPIC, thing.arn, thing.body())
    return Record(SUBSCRIPTION, thing.id, thing.body())


def _ledger(topic: Topic) -> OpenQueue:
    return OpenQueue(topic.ledger, True, topic.attributes.get("FifoThroughputScope") == "MessageGroup")


def _greeting(subscription: Subscription) -> Greet:
    return Greet("SubscriptionConfirmation", subscription)


def _end(subscription: Subscription, outcome: Outcome) -> None:
    outcome.records.append(Record(SUBSCRIPTION, subscription.id, None))
    if subscription.http:
        outcome.effects.append(DropQueue(subscription.outbox))


def _large() -> CloudError:
    most = limits.LARGE_SUBSCRIPTIONS_MAX
    text = f"MaximumMessageSize Reason: a topic above 256 KiB has at most {most} subscriptions, all of protocol sqs"
    return errors.invalid(text, "MaximumMessageSize")


def _endpoint(topic: Topic, to: tuple[str, str]) -> tuple[str, str]:
    """Protocol and endpoint, a queue's name made an ARN. Raises NotFound, InvalidParameter, AuthorizationError."""
    protocol, endpoint = to
    if not endpoint:
        raise errors.invalid("Endpoint not specified in subscription", "endpoint")
    if protocol in _REFUSED:
        raise errors.not_supported(
            f"Protocol {protocol} is not available here; sqs, lambda, http and https are", "protocol"
        )
    if protocol not in ("sqs", "lambda", "http", "https"):
        text = f"Amazon SNS does not support this protocol string: {protocol[:100]}"
        raise errors.invalid(text, "protocol")
    if protocol == "sqs":
        return protocol, _queue_arn(topic, endpoint)
    if topic.fifo:
        raise errors.invalid(f"Invalid protocol type: {protocol}", "protocol")
    if protocol == "lambda":
        _check_function(topic, endpoint)
    else:
        _check_url(protocol, endpoint)
    return protocol, endpoint


def _check_function(topic: Topic, arn: str) -> None:
    if not _FUNCTION.match(arn):
        raise errors.invalid("Lambda endpoint ARN", "endpoint")
    if arn.split(":")[3] != topic.region:
        raise errors.invalid("Lambda endpoint ARN: the function must be of the topic's region", "endpoint")
    if arn.split(":")[4] != topic.account:
        raise errors.not_authorized("The function must be of the topic's account", "endpoint")


def _queue_arn(topic: Topic, endpoint: str) -> str:
    arn = endpoint if ":" in endpoint else topic.scope.arn("sqs", endpoint)
    parts = arn.split(":")
    if len(parts) != 6 or parts[:3] != ["arn", "aws", "sqs"] or not _QUEUE_NAME.match(parts[5]):
        raise errors.invalid("SQS endpoint ARN", "endpoint")
    if parts[3] != topic.region:
        raise errors.invalid("SQS endpoint ARN: the queue must be of the topic's region", "endpoint")
    if parts[4] != topic.account:
        raise errors.not_authorized("The queue must be of the topic's account", "endpoint")
    if arn.endswith(".fifo") and not topic.fifo:
        text = "Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics"
        raise errors.invalid(text, "endpoint")
    return arn


def _check_url(protocol: str, endpoint: str) -> None:
    if not endpoint.startswith(f"{protocol}://"):
        raise errors.invalid("Endpoint must match the specified protocol", "endpoint")
    try:
        url = urlsplit(endpoint)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    plain = endpoint.isascii() and endpoint.isprintable() and " " not in endpoint
    if not url.hostname or port == 0 or not plain or len(endpoint) > limits.ENDPOINT_CHARS_MAX:
        raise errors.invalid("Endpoint Reason: it is not a URL", "endpoint")
