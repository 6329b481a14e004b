"""Topics of a real cloud: an endpoint outside of it, which knows what any web server knows; what a restart keeps."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.contract.topic_world import CONFIRMATION, NOTIFICATION, verify
from tests.real_cloud import RealCloud, real_cloud, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]


class Endpoint(ThreadingHTTPServer):
    """Keeps what it is sent, with its headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[tuple[dict[str, str], dict[str, Any]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def document(self, number: int, kind: str) -> dict[str, Any]:
        """The post with this number, whose signature is good."""
        until(lambda: len(self.posts) > number, 20, f"post {number} at the endpoint")
        headers, document = self.posts[number]
        assert headers["x-amz-sns-message-type"] == document["Type"] == kind
        names = NOTIFICATION if kind == "Notification" else CONFIRMATION
        verify(document, names, get(document["SigningCertURL"]))
        return document


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.posts.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.shutdown()
    made.server_close()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as reply:
        body: bytes = reply.read()
    return body


def counts(cloud: RealCloud, queue: str) -> dict[str, int]:
    with cloud.client() as client:
        shown = client.queues.get(queue).attributes
    return {name.removeprefix("ApproximateNumberOf"): int(shown[name]) for name in shown if name.startswith("Approx")}


def test_an_endpoint_outside_and_a_cloud_that_ends_and_comes_back(endpoint: Endpoint) -> None:
    with real_cloud("--hosts", "1") as cloud:
        with cloud.client() as client:
            client.topics.create("news", {"SignatureVersion": 2})
            client.topics.subscribe("news", "http", endpoint.url)
            greeting = endpoint.document(0, "SubscriptionConfirmation")
            assert b"<SubscriptionArn>" in get(greeting["SubscribeURL"])
            client.topics.publish("news", "grüße", subject="s", attributes={"n": 1})
            note = endpoint.document(1, "Notification")
            assert (note["Message"], note["Subject"], note["SignatureVersion"]) == ("grüße", "s", "2")
            assert note["MessageAttributes"] == {"n": {"Type": "Number", "Value": "1"}}
            jobs = client.queues.create("jobs")
            client.topics.subscribe("news", "sqs", "jobs", {"RawMessageDelivery": True})
            client.queues.send_batch("jobs", [f"job {number}" for number in range(20)])
            taken = client.queues.receive("jobs", 5, visibility_timeout_s=600)
            client.queues.delete_messages("jobs", taken[:2])
        cloud.down()
        cloud.up()
        assert counts(cloud, "jobs") == {"Messages": 15, "MessagesNotVisible": 3, "MessagesDelayed": 0}
        with cloud.client() as client:
            assert client.queues.get("jobs").attributes["CreatedTimestamp"] == jobs.attributes["CreatedTimestamp"]
            assert not client.queues.delete_messages("jobs", taken[2:])
            client.topics.publish("news", "after")
            note = endpoint.document(2, "Notification")
            assert note["Message"] == "after"
            bodies = {message.text for message in client.queues.receive("jobs", 100)}
            assert bodies == {"after", *(f"job {number}" for number in range(5, 20))}
            get(note["UnsubscribeURL"])
            endpoint.document(3, "UnsubscribeConfirmation")
            client.topics.publish("news", "to nobody there")
            until(
                lambda: client.topics.metrics("news").values["NumberOfNotificationsDelivered"] == 3, 10, "all counted"
            )
        assert len(endpoint.posts) == 4
