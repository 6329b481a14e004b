"""Delivery policies: the phases and their delays, what is in force, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minicloud.base.errors import CloudError
from minicloud.topic import retries


def delays(**retry: Any) -> list[float]:
    text = retries.check_subscription_policy(json.dumps({"healthyRetryPolicy": retry}))
    return [round(delay, 3) for delay in retries.delivery_policy("", text).delays_s]


def test_without_a_policy_three_retries_come_twenty_seconds_apart() -> None:
    policy = retries.delivery_policy("", "")
    assert [policy.delay_after(attempt) for attempt in (1, 2, 3, 4, 99)] == [20, 20, 20, None, None]
    assert (policy.receives_per_s, policy.content_type) == (None, "text/plain; charset=UTF-8")


def test_the_four_phases_follow_one_another() -> None:
    found = delays(minDelayTarget=1, maxDelayTarget=60, numRetries=9, numNoDelayRetries=2, numMinDelayRetries=2,
                   numMaxDelayRetries=2)  # fmt: skip
    assert found == [0, 0, 1, 1, 1, 30.5, 60, 60, 60]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("linear", [1, 4, 7, 10, 13]),
        ("arithmetic", [1, 2.2, 4.6, 8.2, 13]),
        ("geometric", [1, 1.899, 3.606, 6.846, 13]),
        ("exponential", [1, 1.8, 3.4, 6.6, 13]),
    ],
)
def test_back_off_functions_go_from_the_least_delay_to_the_greatest(function: str, expected: list[float]) -> None:
    assert delays(minDelayTarget=1, maxDelayTarget=13, numRetries=5, backoffFunction=function) == expected


def test_one_back_off_retry_waits_the_least_delay() -> None:
    assert delays(minDelayTarget=5, maxDelayTarget=50, numRetries=1, backoffFunction="exponential") == [5]


def test_all_retries_together_last_an_hour_at_most() -> None:
    assert delays(minDelayTarget=1000, maxDelayTarget=1000, numRetries=100) == [1000, 1000, 1000]
    assert len(delays(minDelayTarget=36, maxDelayTarget=36, numRetries=100)) == 100


def test_a_subscriptions_policy_overrides_its_topics_unless_the_topic_forbids_it() -> None:
    http = {"defaultHealthyRetryPolicy": {"numRetries": 7}, "defaultThrottlePolicy": {"maxReceivesPerSecond": 4}}
    topic = retries.check_topic_policy(json.dumps({"http": http}))
    own = retries.check_subscription_policy('{"healthyRetryPolicy": {"numRetries": 1}}')
    assert len(retries.delivery_policy(topic, "").delays_s) == 7
    both = retries.delivery_policy(topic, own)
    assert (len(both.delays_s), both.receives_per_s) == (1, 4)
    strict = retries.check_topic_policy(json.dumps({"http": {**http, "disableSubscriptionOverrides": True}}))
    assert len(retries.delivery_policy(strict, own).delays_s) == 7


def test_effective_policies_are_shown_with_every_default() -> None:
    assert json.loads(retries.effective_of_topic("")) == {
        "http": {
            "defaultHealthyRetryPolicy": retries.RETRY_DEFAULT,
            "disableSubscriptionOverrides": False,
            "defaultRequestPolicy": {"headerContentType": "text/plain; charset=UTF-8"},
        }
    }
    shown = json.loads(retries.effective_of_subscription("", '{"requestPolicy":{"headerContentType":"text/html"}}'))
    assert shown["requestPolicy"] == {"headerContentType": "text/html"}
    assert (shown["guaranteed"], shown["throttlePolicy"], shown["sicklyRetryPolicy"]) == (False, None, None)


@pytest.mark.parametrize(
    "policy",
    [
        "{",
        "[]",
        '{"retries": 1}',
        '{"guaranteed": true}',
        '{"sicklyRetryPolicy": {}}',
        '{"healthyRetryPolicy": 3}',
        '{"healthyRetryPolicy": {"numRetries": 101}}',
        '{"healthyRetryPolicy": {"numRetries": -1}}',
        '{"healthyRetryPolicy": {"numRetries": 1.5}}',
        '{"healthyRetryPolicy": {"numRetries": true}}',
        '{"healthyRetryPolicy": {"minDelayTarget": 0}}',
        '{"healthyRetryPolicy": {"minDelayTarget": 9, "maxDelayTarget": 8}}',
        '{"healthyRetryPolicy": {"maxDelayTarget": 3601}}',
        '{"healthyRetryPolicy": {"numRetries": 2, "numNoDelayRetries": 2, "numMaxDelayRetries": 1}}',
        '{"healthyRetryPolicy": {"backoffFunction": "cubic"}}',
        '{"throttlePolicy": {"maxReceivesPerSecond": 0}}',
        '{"throttlePolicy": {}}',
        '{"requestPolicy": {"headerContentType": "image/png"}}',
        '{"requestPolicy": {"headerContentType": "text/plain; charset=UTF-8\\r\\nX: y"}}',
    ],
)
def test_what_a_policy_cannot_be(policy: str) -> None:
    with pytest.raises(CloudError, match="Invalid parameter: DeliveryPolicy: ") as caught:
        retries.check_subscription_policy(policy)
    assert (caught.value.code, caught.value.field) == ("InvalidParameter", "DeliveryPolicy")


@pytest.mark.parametrize("policy", ["{}", '{"http": 1}', '{"http": {"x": 1}}', '{"https": {}}'])
def test_what_a_topics_policy_cannot_be(policy: str) -> None:
    with pytest.raises(CloudError, match="DeliveryPolicy: "):
        retries.check_topic_policy(policy)
