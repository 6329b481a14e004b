"""What calls functions by itself, on a real cloud: events, queues; while what they stand on is killed under them: the
process of functions, the broker that feeds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from minicloud.base.errors import NotFound, Unavailable
from minicloud.client import Client
from tests.doors.test_functions import package
from tests.real_cloud import RealCloud, kill, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]

ECHO = """
def handler(event, context):
    if isinstance(event, dict):
        bodies = [one["body"] for one in event["Records"]]
        if "poison" in bodies:
            raise ValueError("poison")
        return bodies
    return event
"""


TELLS = """
import time
def handler(event, context):
    time.sleep(0.05)
    print("did", *(one["body"] for one in event["Records"]))
"""


@pytest.fixture
def queues(client: Client) -> Iterator[Any]:
    made: list[str] = []

    def make(**attributes: str) -> Any:
        name = f"q{time.monotonic_ns():x}"
        made.append(name)
        return client.queues.create(name, attributes)

    yield make
    for name in made:
        client.queues.delete(name)


@pytest.fixture
def function(client: Client) -> Iterator[str]:
    name = f"f{time.monotonic_ns():x}"
    client.functions.create(name, package(ECHO), runtime="python3.11", handler="app.handler", timeout_s=20)
    yield name
    client.functions.delete(name)


def bodies(client: Client, queue: Any) -> list[str]:
    found = client.queues.receive(queue.name, max_messages=10, wait_s=1)
    for message in found:
        client.queues.delete_message(queue.name, message.receipt_handle)
    return [message.body.decode() for message in found]


def left(client: Client, queue: str) -> int:
    counts = client.queues.get(queue).attributes
    return int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])


def test_events_survive_a_killed_functions_process_and_reach_their_destination(
    cloud: RealCloud, client: Client, queues: Any, function: str
) -> None:
    done = queues()
    client.triggers.set_event_invoke(function, on_success=done.arn)
    accepted = {client.functions.invoke_async(function, number): number for number in range(20)}
    (pid,) = cloud.actor_pids("Functions")
    kill(pid)

    def more() -> bool:
        try:
            accepted[client.functions.invoke_async(function, 20)] = 20
        except Unavailable:
            return False
        return True

    until(more, 20, "the process is back")
    seen: dict[str, int] = {}

    def all_there() -> bool:
        for body in bodies(client, done):
            record = json.loads(body)
            seen[record["requestContext"]["requestId"]] = record["responsePayload"]
        return set(seen) >= set(accepted)

    until(all_there, 40, "every event's result")
    assert {one: seen[one] for one in accepted} == accepted  # what was refused may have been taken all the same


def test_a_mapping_goes_on_when_its_broker_was_killed_and_nothing_is_lost(
    cloud: RealCloud, client: Client, queues: Any, function: str
) -> None:
    source = queues(VisibilityTimeout="6")
    client.functions.update_code(function, package(TELLS))
    mapping = client.triggers.map(function, source.arn, batch_size=5)
    group = client.functions.get(function).log_group
    sent = {f"job-{number}-of-this" for number in range(120)}

    def told() -> set[str]:
        try:
            lines = [one.message for one in client.logs.filter(group, pattern="did")]
        except NotFound:  # it has written nothing yet
            return set()
        return {word for line in lines for word in line.split() if word in sent}

    try:
        some, rest = sorted(sent)[:60], sorted(sent)[60:]
        assert not [one for one in client.queues.send_batch(source.name, some) if one.error]
        until(told, 40, "the first of them")
        kill(*cloud.actor_pids("MessageBroker"))
        assert not [one for one in client.queues.send_batch(source.name, rest) if one.error]  # it waits for the broker
        until(lambda: told() == sent, 60, lambda: f"not done: {sorted(sent - told())}")
        until(lambda: emptied(client, source), 30, "the queue's end")
    finally:
        client.triggers.unmap(mapping.uuid)


def emptied(client: Client, queue: Any) -> bool:
    counts = client.queues.get(queue.name).attributes
    return counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_a_queue_feeds_a_function_and_poison_ends_in_the_dead_letter_queue(
    client: Client, queues: Any, function: str
) -> None:
    dead = queues()
    redrive = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
    source = queues(VisibilityTimeout="120", RedrivePolicy=redrive)
    mapping = client.triggers.map(function, source.arn, batch_size=1)
    try:
        for number in range(30):
            client.queues.send(source.name, str(number))
        until(lambda: left(client, source.name) == 0, 30, "all are worked off")
        client.queues.set_attributes(source.name, {"VisibilityTimeout": "4"})
        client.queues.send(source.name, "poison")
        buried: list[str] = []
        until(lambda: buried.extend(bodies(client, dead)) or buried, 40, "the dead letter")
        assert buried == ["poison"]
        assert left(client, source.name) == 0
        (shown,) = client.triggers.mappings(function)
        assert (shown.state, shown.uuid) == ("Enabled", mapping.uuid)
    finally:
        client.triggers.unmap(mapping.uuid)
