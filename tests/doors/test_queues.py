"""Queues of a real cloud by the SDK and the command line: through Locate, with tickets, over a broker that dies."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from minicloud.base.errors import NotFound
from minicloud.client import Client
from tests.real_cloud import RealCloud, kill, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]


@pytest.fixture
def queue(client: Client) -> Iterator[str]:
    name = f"jobs-{time.time_ns()}"
    client.queues.create(name)
    yield name
    client.queues.delete(name)


def health(cloud: RealCloud) -> dict[str, Any]:
    with urllib.request.urlopen(f"{cloud.http}/_minicloud/health") as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def test_a_message_goes_through(client: Client, queue: str) -> None:
    sent = client.queues.send(queue, "hello", attributes={"n": 1})
    (got,) = client.queues.receive(queue, 10, wait_s=20)
    assert (got.message_id, got.text, got.receive_count) == (sent.message_id, "hello", 1)
    client.queues.delete_messages(queue, [got])
    assert client.queues.get(queue).attributes["ApproximateNumberOfMessages"] == "0"


def test_a_waiting_receive_wakes_within_milliseconds(client: Client, queue: str) -> None:
    took = [woken(client, queue)]
    while min(took) > 0.5 and len(took) < 10:  # this machine may have been busy
        took.append(woken(client, queue))
    print(f"woke {1000 * min(took):.1f} ms after the send began")
    assert min(took) < 0.5, took


def woken(client: Client, queue: str) -> float:
    """How long after the beginning of a send a receive that waited returned."""
    got: list[tuple[Any, float]] = []
    waiting = threading.Thread(target=lambda: got.append((client.queues.receive(queue, wait_s=20), time.monotonic())))
    waiting.start()
    time.sleep(1)
    began = time.monotonic()
    client.queues.send(queue, "wake up")
    waiting.join()
    (((message,), woke),) = got
    assert message.text == "wake up"
    client.queues.delete_message(queue, message.receipt_handle)
    return woke - began


def test_status_shows_the_broker(cloud: RealCloud) -> None:
    shown = json.loads(cloud.cli("status", "--data-dir", str(cloud.data), "-o", "json").stdout)
    (broker,) = shown["brokers"]
    assert (broker["name"], broker["state"]) == ("message-broker-0", "up")
    assert "message-broker-0" in cloud.cli("status", "--data-dir", str(cloud.data)).stdout


def test_the_front_door_reaches_the_broker(cloud: RealCloud) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{cloud.http}/_minicloud/sns/0/nothing")
    assert refused.value.code == 404
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{cloud.http}/_minicloud/sns/1/nothing")
    assert refused.value.code == 404


def test_a_broker_that_dies_is_back_at_once_with_everything(cloud: RealCloud, client: Client, queue: str) -> None:
    for number in range(50):
        client.queues.send(queue, str(number))
    (pid,) = cloud.actor_pids("MessageBroker")
    kill(pid)
    began = time.monotonic()
    until(lambda: health(cloud)["brokers"] == ["down"], 5, "health says that the broker is down")
    seen: set[str] = set()
    while len(seen) < 50:
        seen.update(message.text for message in client.queues.receive(queue, 10, wait_s=1))
        assert time.monotonic() - began < 120
    print(f"all back {time.monotonic() - began:.2f} s after the kill")
    assert seen == {str(number) for number in range(50)}
    until(lambda: health(cloud)["status"] == "ok", 5, "health has heard of it")


def test_a_guest_uses_queues_too(cloud: RealCloud, client: Client, queue: str) -> None:
    """A broker is where the caller reached the cloud: for a guest, at its gateway."""
    (guest,) = client.instances.launch("t3.nano", wait=True)
    try:
        place = "print(__import__('os').environ['MINICLOUD_ENDPOINT'])"
        endpoint = client.instances.exec(guest.id, ["python3", "-c", place]).stdout.decode().strip()
        port = client.queues.get(queue) and cloud.state()["settings"]["brokers"][0]["port"]
        reach = (
            "import socket,sys; host=sys.argv[1].rpartition(':')[0]; "
            "socket.create_connection((host, int(sys.argv[2])), 5); print('reached')"
        )
        done = client.instances.exec(guest.id, ["python3", "-c", reach, endpoint, str(port)])
        assert done.stdout == b"reached\n", done
    finally:
        client.instances.terminate(guest.id)


def test_another_region_has_queues_of_its_own(cloud: RealCloud, queue: str) -> None:
    with Client(cloud.endpoint, region="eu-west-1") as elsewhere, pytest.raises(NotFound):
        elsewhere.queues.get(queue)
