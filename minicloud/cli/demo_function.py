"""The demo's part on functions: a queue feeds one that publishes to a topic; a message that fails ends in the DLQ."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from minicloud.base.errors import Internal
from minicloud.cli.demo_story import Story
from minicloud.client.deploy import pack

if TYPE_CHECKING:
    from minicloud.client import Client

# The standard library alone: with an SDK of AWS it would be boto3.client("sns").publish(...).
CODE = """
import os
import urllib.parse
import urllib.request


def handler(event, context):
    failed = []
    for record in event["Records"]:
        if record["body"] == "poison":
            failed.append({"itemIdentifier": record["messageId"]})
        else:
            publish(os.environ["TOPIC"], record["body"].upper())
    return {"batchItemFailures": failed}


def publish(topic, text):
    query = {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic, "Message": text}
    scope = f"{os.environ['AWS_ACCESS_KEY_ID']}/20260101/{os.environ['AWS_REGION']}/sns/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "X-Amz-Security-Token": os.environ["AWS_SESSION_TOKEN"],
    }
    body = urllib.parse.urlencode(query).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], body, headers), timeout=10).close()
"""
GOOD = ("one", "two", "three")
ANSWER_S_MAX = 30.0


def feed_a_function(story: Story, client: Client) -> None:
    """Raises Internal where a message is lost or the bad one does not end in the dead-letter queue."""
    topic = client.topics.create("demo-news").arn
    dead = client.queues.create("demo-dead").arn
    redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": 1})
    jobs = client.queues.create("demo-jobs", {"RedrivePolicy": redrive, "VisibilityTimeout": "2"}).arn
    client.queues.create("demo-out")
    client.topics.subscribe(topic, "sqs", "demo-out", {"RawMessageDelivery": "true"})
    package = pack({"app.py": (CODE.encode(), False)})
    client.functions.create(
        "demo-shout", package, runtime="python3.11", handler="app.handler", timeout_s=2, environment={"TOPIC": topic}
    )
    client.triggers.map("demo-shout", jobs, report_failures=True)
    began = time.monotonic()
    for text in (*GOOD, "poison"):
        client.queues.send("demo-jobs", text)
    out = _bodies(client, "demo-out", len(GOOD))
    took_ms = (time.monotonic() - began) * 1000
    if sorted(out) != sorted(text.upper() for text in GOOD):
        raise Internal(f"the function published {out}")
    buried = _bodies(client, "demo-dead", 1)
    if buried != ["poison"]:
        raise Internal(f"the dead-letter queue has {buried}")
    story.done(
        "function",
        f"queue -> function -> topic -> queue in {took_ms:.0f} ms; the message that failed is in the dead-letter queue",
    )


def _bodies(client: Client, queue: str, count: int) -> list[str]:
    """What comes, until there is enough of it."""
    found: list[str] = []
    deadline = time.monotonic() + ANSWER_S_MAX
    while len(found) < count and time.monotonic() < deadline:
        messages = list(client.queues.receive(queue, max_messages=10, wait_s=2))
        found += [message.body.decode() for message in messages]
    return found
