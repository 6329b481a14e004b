"""Topics and subscriptions: names, attributes, confirmation, limits; replay equals live after every step."""

from __future__ import annotations

import json
import random

import pytest

from minicloud.base.errors import CloudError, LimitExceeded, NotFound, UnsupportedOperation
from minicloud.topic import limits, tokens
from minicloud.topic.attributes import shown_of_subscription, shown_of_topic
from minicloud.topic.model import Subscription
from tests.pure.topic_bench import OTHER, SCOPE, SECRET, Bench

ARN = "arn:aws:sns:us-east-1:000000000000:news"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:queue"
URL = "http://localhost:9/hook"


def test_creating_a_topic_twice_gives_the_same_topic() -> None:
    bench = Bench()
    first = bench.topic(DisplayName="News", MaximumMessageSize="2048")
    assert first.arn == ARN
    assert bench.topic() == bench.topic(DisplayName="News") == first
    assert bench.topic(SignatureVersion="1", FifoTopic="false") == first
    with pytest.raises(CloudError, match="Topic already exists with different attributes"):
        bench.topic(DisplayName="Other")
    with pytest.raises(CloudError, match="Topic already exists with different tags"):
        bench.directory.create_topic(SCOPE, "news", {}, {"a": "b"}, bench.context)


@pytest.mark.parametrize("name", ["", "a b", "a" * 257, "näme", "x.fifo", "a\n"])
def test_names_of_standard_topics(name: str) -> None:
    with pytest.raises(CloudError, match="Invalid parameter: Topic Name") as caught:
        Bench().directory.create_topic(SCOPE, name, {}, {}, Bench().context)
    assert (caught.value.code, caught.value.field) == ("InvalidParameter", "Name")


@pytest.mark.parametrize("name", ["x", ".fifo", "a b.fifo", "a" * 252 + ".fifo"])
def test_names_of_fifo_topics(name: str) -> None:
    with pytest.raises(CloudError, match=r"Fifo Topic names must end with \.fifo"):
        Bench().topic(name, FifoTopic="true")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("Colour", "red", "Attributes Reason: Unknown attribute Colour"),
        ("DisplayName", "x" * 101, "DisplayName"),
        ("SignatureVersion", "3", "Invalid value"),
        ("MaximumMessageSize", "1023", "from 1024 to 1048576"),
        ("MaximumMessageSize", "1048577", "from 1024 to 1048576"),
        ("MaximumMessageSize", "1e5", "from 1024 to 1048576"),
        ("Policy", "[]", "Policy Error: null"),
        ("DeliveryPolicy", "{}", "DeliveryPolicy: it must hold an object http"),
        ("ContentBasedDeduplication", "true", "on FIFO topics only"),
        ("TracingConfig", "Sometimes", "Invalid value"),
    ],
)
def test_attributes_of_topics_are_checked(name: str, value: str, text: str) -> None:
    with pytest.raises(CloudError, match=text) as caught:
        Bench().topic(**{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KmsMasterKeyId", "alias/aws/sns"),
        ("HTTPSuccessFeedbackRoleArn", "arn:aws:iam::000000000000:role/x"),
        ("SQSSuccessFeedbackSampleRate", "100"),
        ("ArchivePolicy", '{"MessageRetentionPeriod":"7"}'),
        ("DataProtectionPolicy", "{}"),
        ("TracingConfig", "Active"),
    ],
)
def test_what_we_do_not_have_is_refused_by_name(name: str, value: str) -> None:
    bench = Bench()
    with pytest.raises(UnsupportedOperation, match=name):
        bench.topic(**{name: value})
    bench.topic()
    with pytest.raises(UnsupportedOperation, match=name):
        bench.directory.set_topic(SCOPE, ARN, {name: value})


def test_attributes_of_a_topic_as_they_are_shown() -> None:
    bench = Bench()
    topic = bench.topic("news.fifo", ContentBasedDeduplication="true", FifoThroughputScope="MessageGroup")
    shown = shown_of_topic(topic, bench.state.counts.get(topic.arn, {}))
    assert shown["TopicArn"] == f"{ARN}.fifo"
    assert (shown["FifoTopic"], shown["ContentBasedDeduplication"], shown["Owner"]) == ("true", "true", SCOPE.account)
    assert json.loads(shown["Policy"])["Statement"][0]["Resource"] == topic.arn
    assert (shown["SubscriptionsConfirmed"], shown["SubscriptionsPending"], shown["SubscriptionsDeleted"]) == tuple(
        "000"
    )
    assert "MaximumMessageSize" not in shown and "DeliveryPolicy" not in shown and "SignatureVersion" not in shown


def test_setting_attributes_and_taking_them_away() -> None:
    bench = Bench()
    bench.topic()
    bench.do(bench.directory.set_topic(SCOPE, "news", {"DisplayName": "x", "Policy": "{}"}))
    topic = bench.do(bench.directory.set_topic(SCOPE, ARN, {"DisplayName": "", "SignatureVersion": "2"}))
    assert topic.attributes == {"Policy": "{}", "SignatureVersion": "2"}
    assert topic.signature_version == 2
    for name in ("FifoTopic", "Colour", "TopicArn"):
        with pytest.raises(CloudError, match="Invalid parameter: AttributeName"):
            bench.directory.set_topic(SCOPE, ARN, {name: "true"})


def test_tags() -> None:
    bench = Bench()
    topic = bench.do(bench.directory.create_topic(SCOPE, "news", {}, {"a": "1", "b": "2"}, bench.context))
    topic = bench.do(bench.directory.tag_topic(SCOPE, "news", {"c": "3", "a": "9"}, ["b"]))
    assert topic.tags == {"a": "9", "c": "3"}
    with pytest.raises(LimitExceeded) as caught:
        bench.directory.tag_topic(SCOPE, "news", {str(at): "" for at in range(50)}, [])
    assert caught.value.code == "TagLimitExceeded"


def test_another_account_sees_nothing() -> None:
    bench = Bench()
    bench.topic()
    subscription = bench.subscribe()
    for call in (
        lambda: bench.directory.set_topic(OTHER, ARN, {}),
        lambda: bench.directory.subscribe(OTHER, ARN, ("sqs", QUEUE), {}, bench.context),
        lambda: bench.directory.set_subscription(OTHER, subscription.arn, {}),
    ):
        with pytest.raises(NotFound):
            call()
    assert not bench.directory.delete_topic(OTHER, ARN).records
    assert not bench.directory.unsubscribe(OTHER, subscription.arn).records
    with pytest.raises(CloudError, match="An ARN must have at least 6 elements, not 2"):
        bench.directory.set_topic(SCOPE, "arn:news", {})


def test_topics_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOPICS_MAX", 2)
    monkeypatch.setattr(limits, "FIFO_TOPICS_MAX", 1)
    bench = Bench()
    bench.topic("a"), bench.topic("b"), bench.topic("c.fifo")
    for name in ("d", "e.fifo"):
        with pytest.raises(LimitExceeded) as caught:
            bench.topic(name)
        assert caught.value.code == "TopicLimitExceeded"
    assert bench.state.topic_arns(SCOPE) == sorted(f"{ARN[:-4]}{name}" for name in ("a", "b", "c.fifo"))


# --- subscriptions


def test_a_queue_is_confirmed_at_once_and_subscribing_again_gives_the_same() -> None:
    bench = Bench()
    topic = bench.topic()
    first = bench.subscribe("queue", RawMessageDelivery="TRUE")
    assert (first.endpoint, first.state, first.raw) == (QUEUE, "confirmed", True)
    assert first.arn.startswith(f"{ARN}:") and len(first.id) == 36
    assert bench.subscribe(QUEUE) == bench.subscribe(QUEUE, RawMessageDelivery="true") == first
    with pytest.raises(CloudError, match="Subscription already exists with different attributes"):
        bench.subscribe(QUEUE, RawMessageDelivery="false")
    shown = shown_of_subscription(first, topic)
    assert (shown["PendingConfirmation"], shown["ConfirmationWasAuthenticated"]) == ("false", "true")
    assert (shown["Protocol"], shown["RawMessageDelivery"]) == ("sqs", "true")
    assert "EffectiveDeliveryPolicy" not in shown and "FilterPolicyScope" not in shown


@pytest.mark.parametrize(
    ("protocol", "endpoint", "text"),
    [
        ("sqs", "", "Endpoint not specified"),
        ("sqs", "arn:aws:sqs:us-east-1:000000000000:", "SQS endpoint ARN"),
        ("sqs", "http://x", "SQS endpoint ARN"),
        ("sqs", "no queue", "SQS endpoint ARN"),
        ("sqs", "q" * 81, "SQS endpoint ARN"),
        ("sqs", "q" * 76 + ".fifo", "SQS endpoint ARN"),
        ("sqs", "arn:aws:sqs:eu-west-1:000000000000:queue", "region"),
        ("sqs", "arn:aws:sqs:us-east-1:111111111111:queue", "account"),
        ("sqs", f"{QUEUE}.fifo", "FIFO SQS Queues can not be subscribed to standard SNS topics"),
        ("http", "https://x", "Endpoint must match the specified protocol"),
        ("https", "http://x", "Endpoint must match the specified protocol"),
        ("http", "http://", "not a URL"),
        ("http", "http://x:99999/", "not a URL"),
        ("http", "http://x/\r\nHost: y", "not a URL"),
        ("http", "http://x/" + "y" * 2048, "not a URL"),
        ("email", "a@b.c", "Protocol email is not available here"),
        ("lambda", "f", "Lambda endpoint ARN"),
        ("lambda", "arn:aws:lambda:eu-west-1:000000000000:function:f", "of the topic's region"),
        ("carrier-pigeon", "coo", "does not support this protocol string: carrier-pigeon"),
    ],
)
def test_endpoints_that_are_refused(protocol: str, endpoint: str, text: str) -> None:
    bench = Bench()
    bench.topic()
    with pytest.raises(CloudError, match=text):
        bench.subscribe(endpoint, protocol)
    assert not bench.state.subscriptions


def test_fifo_topics_take_queues_of_both_kinds_and_nothing_else() -> None:
    bench = Bench()
    bench.topic("news.fifo")
    assert bench.subscribe("queue.fifo", topic="news.fifo").state == "confirmed"
    assert bench.subscribe("queue", topic="news.fifo").state == "confirmed"
    with pytest.raises(CloudError, match="Invalid protocol type: http"):
        bench.subscribe(URL, topic="news.fifo")


def test_an_endpoint_confirms_with_its_token_within_two_days() -> None:
    bench = Bench()
    bench.topic()
    pending = bench.subscribe(URL, RawMessageDelivery="true")
    assert (pending.state, [greet.kind for greet in bench.greeted]) == ("pending", ["SubscriptionConfirmation"])
    assert bench.subscribe(URL) == pending
    assert len(bench.greeted) == 2
    token = tokens.issue(SECRET, pending.id, bench.now)
    for wrong in ("", "xyz", token[:-2], token[:-2] + ("00" if token[-2:] != "00" else "01"), "é"):
        with pytest.raises(CloudError, match="Invalid parameter: Token"):
            bench.directory.confirm(ARN, wrong, bench.context, known=True)
    with pytest.raises(CloudError, match="Invalid parameter: Topic"):
        bench.directory.confirm(ARN + "x", token, bench.context, known=True)
    bench.now += limits.PENDING_S_MAX - 1
    confirmed = bench.do(bench.directory.confirm(ARN, token, bench.context, known=False, locked=True))
    assert (confirmed.state, confirmed.authenticated, confirmed.locked) == ("confirmed", False, False)
    assert bench.do(bench.directory.confirm(ARN, token, bench.context, known=True)) == confirmed
    assert bench.state.due() is None


def test_an_unconfirmed_endpoint_ends_after_two_days() -> None:
    bench = Bench()
    bench.topic()
    bench.subscribe(URL)
    due = bench.state.due()
    assert due == pytest.approx(bench.now + limits.PENDING_S_MAX, abs=0.01)
    assert not bench.directory.tick(due - 1).records
    bench.do(bench.directory.tick(due))
    assert not bench.state.subscriptions and not bench.hidden and bench.state.due() is None


def test_an_old_token_is_worth_nothing() -> None:
    bench = Bench()
    bench.topic()
    token = tokens.issue(SECRET, bench.subscribe(URL).id, bench.now)
    bench.now += limits.PENDING_S_MAX + 1
    with pytest.raises(CloudError, match="Invalid parameter: Token"):
        bench.directory.confirm(ARN, token, bench.context, known=True)


def confirmed(bench: Bench, *, locked: bool = False) -> Subscription:
    token = tokens.issue(SECRET, bench.subscribe(URL).id, bench.now)
    return bench.do(bench.directory.confirm(ARN, token, bench.context, known=True, locked=locked))  # type: ignore[no-any-return]


def test_leaving_by_the_link_can_be_taken_back_for_two_days() -> None:
    bench = Bench()
    bench.topic()
    one = confirmed(bench)
    bench.do(bench.directory.leave(one.arn, bench.context))
    assert bench.greeted[-1].kind == "UnsubscribeConfirmation"
    assert bench.state.find_subscription(SCOPE, one.arn) is None and not bench.state.subscription_arns(SCOPE)
    assert bench.state.topics[ARN].deleted == 1
    assert not bench.directory.leave(one.arn, bench.context).records
    token = tokens.issue(SECRET, one.id, bench.now)
    assert bench.do(bench.directory.confirm(ARN, token, bench.context, known=False)).state == "confirmed"
    bench.do(bench.directory.leave(one.arn, bench.context))
    bench.now += limits.PENDING_S_MAX
    bench.do(bench.directory.tick(bench.now))
    assert not bench.state.subscriptions and not bench.hidden


def test_who_left_may_subscribe_anew() -> None:
    bench = Bench()
    bench.topic()
    one = confirmed(bench)
    bench.do(bench.directory.leave(one.arn, bench.context))
    again = bench.subscribe(URL)
    assert again.id != one.id and list(bench.state.subscriptions) == [again.id]


def test_a_locked_subscription_ends_only_by_a_known_caller() -> None:
    bench = Bench()
    bench.topic()
    one = confirmed(bench, locked=True)
    with pytest.raises(CloudError) as caught:
        bench.directory.leave(one.arn, bench.context)
    assert caught.value.code == "AuthorizationError"
    bench.do(bench.directory.unsubscribe(SCOPE, one.arn))
    assert not bench.state.subscriptions and bench.state.topics[ARN].deleted == 1


def test_unsubscribing_what_is_gone_succeeds() -> None:
    bench = Bench()
    bench.topic()
    one = bench.subscribe()
    bench.do(bench.directory.unsubscribe(SCOPE, one.arn))
    assert not bench.directory.unsubscribe(SCOPE, one.arn).records
    with pytest.raises(CloudError, match="SubscriptionId"):
        bench.directory.unsubscribe(SCOPE, ARN)
    with pytest.raises(CloudError, match="at least 6 elements, not 1"):
        bench.directory.unsubscribe(SCOPE, "x")
    with pytest.raises(NotFound, match="Subscription does not exist"):
        bench.directory.set_subscription(SCOPE, one.arn, {})


def test_deleting_a_topic_ends_its_subscriptions() -> None:
    bench = Bench()
    bench.topic()
    bench.topic("other.fifo")
    bench.subscribe(), bench.subscribe(URL), bench.subscribe("queue", topic="other.fifo")
    bench.do(bench.directory.delete_topic(SCOPE, "news"))
    bench.do(bench.directory.delete_topic(SCOPE, "news"))
    assert [one.topic_arn for one in bench.state.subscriptions.values()] == [ARN.replace("news", "other.fifo")]
    bench.do(bench.directory.delete_topic(SCOPE, "other.fifo"))
    assert not bench.hidden and not bench.stored


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("Colour", "red", "AttributeName"),
        ("RawMessageDelivery", "perhaps", "RawMessageDelivery: Invalid value [perhaps]. Must be true or false."),
        ("FilterPolicyScope", "Random",
         "FilterPolicyScope: Invalid value [Random]. Please use either MessageBody or MessageAttributes"),
        ("FilterPolicy", "{", "FilterPolicy: failed to parse JSON."),
        ("RedrivePolicy", "x", "RedrivePolicy: failed to parse JSON."),
        ("RedrivePolicy", "{}", "RedrivePolicy: deadLetterTargetArn is an invalid arn"),
        ("RedrivePolicy", f'{{"deadLetterTargetArn": "{QUEUE}.fifo"}}',
         "RedrivePolicy: must use a standard queue as DLQ for this subscription."),
        ("RedrivePolicy", '{"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:000000000000:q"}',
         "RedrivePolicy: the dead-letter queue must be of the topic's account and region"),
        ("DeliveryPolicy", "{}", "DeliveryPolicy: it can be set on http and https subscriptions only"),
        ("SubscriptionRoleArn", "arn:aws:iam::000000000000:role/x", "SubscriptionRoleArn: there is no Firehose here"),
        ("ReplayPolicy", "{}", "ReplayPolicy: topics keep no archive here"),
    ],
)  # fmt: skip
def test_attributes_of_subscriptions_are_checked(name: str, value: str, text: str) -> None:
    bench = Bench()
    bench.topic()
    with pytest.raises(CloudError) as caught:
        bench.subscribe(**{name: value})
    assert caught.value.message.endswith(text) and caught.value.field == name
    one = bench.subscribe()
    with pytest.raises(CloudError) as caught:
        bench.directory.set_subscription(SCOPE, one.arn, {name: value})
    assert caught.value.message in (f"Invalid parameter: {text}", text)


def test_a_fifo_subscription_of_a_fifo_topic_needs_a_fifo_dead_letter_queue() -> None:
    bench = Bench()
    bench.topic("news.fifo")
    with pytest.raises(CloudError, match="must use a FIFO queue as DLQ for a FIFO Subscription to a FIFO Topic"):
        bench.subscribe("queue.fifo", topic="news.fifo", RedrivePolicy=f'{{"deadLetterTargetArn": "{QUEUE}"}}')
    bench.subscribe("queue.fifo", topic="news.fifo", RedrivePolicy=f'{{"deadLetterTargetArn": "{QUEUE}.fifo"}}')


def test_filter_policies_are_set_shown_and_taken_away() -> None:
    bench = Bench()
    topic = bench.topic()
    one = bench.subscribe()
    one = bench.do(bench.directory.set_subscription(SCOPE, one.arn, {"FilterPolicyScope": "MessageBody"}))
    assert "FilterPolicyScope" not in shown_of_subscription(one, topic)
    one = bench.do(bench.directory.set_subscription(SCOPE, one.arn, {"FilterPolicy": '{"a": {"b": ["c"]}}'}))
    assert shown_of_subscription(one, topic)["FilterPolicyScope"] == "MessageBody"
    assert one.filter is not None and one.filter.matches({"a": {"b": "c"}})
    with pytest.raises(CloudError, match="MessageAttributes does not support nested filter policy"):
        bench.directory.set_subscription(SCOPE, one.arn, {"FilterPolicyScope": "MessageAttributes"})
    one = bench.do(bench.directory.set_subscription(SCOPE, one.arn, {"FilterPolicy": ""}))
    assert one.filter is None and "FilterPolicy" not in one.attributes


def test_filter_policies_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILTERS_OF_TOPIC_MAX", 2)
    monkeypatch.setattr(limits, "FILTERS_OF_ACCOUNT_MAX", 3)
    bench = Bench()
    bench.topic(), bench.topic("more")
    policy = '{"a": ["b"]}'
    ones = [bench.subscribe(f"q{at}", FilterPolicy=policy) for at in range(2)]
    with pytest.raises(LimitExceeded, match="of the topic, 2,") as caught:
        bench.subscribe("q2", FilterPolicy=policy)
    assert caught.value.code == "FilterPolicyLimitExceeded"
    bench.do(bench.directory.set_subscription(SCOPE, ones[0].arn, {"FilterPolicy": '{"a": ["c"]}'}))
    bench.subscribe("q0", topic="more", FilterPolicy=policy)
    with pytest.raises(LimitExceeded, match="of the account, 3,"):
        bench.subscribe("q1", topic="more", FilterPolicy=policy)


def test_subscriptions_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIFO_SUBSCRIPTIONS_MAX", 1)
    bench = Bench()
    bench.topic("news.fifo")
    bench.subscribe("a", topic="news.fifo")
    with pytest.raises(LimitExceeded) as caught:
        bench.subscribe("b", topic="news.fifo")
    assert caught.value.code == "SubscriptionLimitExceeded"


def test_large_messages_are_for_queues_only() -> None:
    bench = Bench()
    bench.topic("large", MaximumMessageSize="1048576")
    with pytest.raises(CloudError, match="all of protocol sqs"):
        bench.subscribe(URL, topic="large")
    bench.topic()
    bench.subscribe(URL)
    with pytest.raises(CloudError, match="all of protocol sqs"):
        bench.directory.set_topic(SCOPE, "news", {"MaximumMessageSize": "300000"})
    bench.do(bench.directory.set_topic(SCOPE, "news", {"MaximumMessageSize": "262144"}))


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_keep_replay_equal_to_live(seed: int) -> None:
    """The bench checks after every step."""
    bench, rand = Bench(), random.Random(seed)
    names, endpoints = ["a", "b", "c.fifo"], ["q0", "q1", "q2.fifo", URL, URL + "2"]
    for _ in range(150):
        bench.now += rand.choice([0, 1, 3600, 90_000])
        arns = [one.arn for one in bench.state.subscriptions.values()]
        name, arn = rand.choice(names), rand.choice(arns) if arns else ""
        step = rand.randrange(8)
        try:
            if step == 0:
                bench.topic(name)
            elif step == 1 and rand.random() < 0.3:
                bench.do(bench.directory.delete_topic(SCOPE, name))
            elif step in (2, 3):
                policy = {"FilterPolicy": '{"a": ["b"]}'} if rand.random() < 0.5 else {}
                bench.subscribe(rand.choice(endpoints), topic=name, **policy)
            elif step == 4 and arn:
                bench.do(bench.directory.unsubscribe(SCOPE, arn))
            elif step == 5 and arn:
                bench.do(bench.directory.leave(arn, bench.context))
            elif step == 6 and arn:
                token = tokens.issue(SECRET, arn.rsplit(":", 1)[-1], bench.now)
                bench.do(
                    bench.directory.confirm(arn.rsplit(":", 1)[0], token, bench.context, known=rand.random() < 0.5)
                )
            else:
                bench.do(bench.directory.tick(bench.now))
        except CloudError:
            bench.check()
