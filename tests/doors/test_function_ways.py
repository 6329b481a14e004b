"""What calls functions, on a real cloud: queues, topics, URLs, the command line, a decorated callable."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.errors import NotFound
from minicloud.cli.demo_function import feed_a_function
from minicloud.cli.demo_story import Story
from minicloud.client import Client
from minicloud.client.deploy import pack
from minicloud.client.function_models import FunctionStatement
from tests.real_cloud import RealCloud

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]

ECHO = """
def handler(event, context):
    print("got", event)
    return {"statusCode": 200, "body": event.get("rawPath")}
"""
ADD = """
import minicloud

@minicloud.function(name={name!r})
def add(a, b=1):
    return a + b

if __name__ == "__main__":
    print(add(1, 2), add.remote(3, b=4))
"""


@pytest.fixture
def function(client: Client) -> Iterator[str]:
    name = f"t{time.monotonic_ns():x}"
    package = pack({"app.py": (ECHO.encode(), False)})
    client.functions.create(name, package, runtime="python3.11", handler="app.handler", timeout_s=30)
    yield name
    client.functions.delete(name)


def soon(look: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
    return found


def written(client: Client, group: str, part: str) -> list[str]:
    """Lines with this in them; none as long as nothing was written."""
    try:
        return [one.message for one in client.logs.filter(group) if part in one.message]
    except NotFound:
        return []


def test_a_queue_feeds_a_function_that_publishes(client: Client) -> None:
    feed_a_function(Story(), client)


def test_a_topic_invokes_a_function_that_permits_it(client: Client, function: str) -> None:
    topic = client.topics.create(f"{function}-news").arn
    found = client.functions.get(function)
    client.topics.subscribe(topic, "lambda", found.arn)
    client.topics.publish(topic, "not permitted")
    soon(lambda: client.topics.metrics(topic).values.get("NumberOfNotificationsFailed"))
    client.triggers.permit(function, FunctionStatement("t", "sns.amazonaws.com", source_arn=topic))
    client.topics.publish(topic, "permitted")
    lines = soon(lambda: written(client, found.log_group, "permitted"))
    assert "'EventSource': 'aws:sns'" in lines[0] and not any("not permitted" in line for line in lines)
    client.topics.delete(topic)


def test_a_url_reaches_a_function(client: Client, function: str) -> None:
    url = client.triggers.create_url(function, auth="NONE").url
    host = url.split("/")[2]

    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", int(host.rpartition(":")[2]), timeout=30)
        connection.request("GET", "/a/b", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert ask()[0] == 403
    statement = FunctionStatement("public", "*", "lambda:InvokeFunctionUrl", url_auth="NONE")
    client.triggers.permit(function, statement)
    assert ask() == (200, b"/a/b")


def test_a_callable_runs_in_the_cloud(client: Client, tmp_path: Path) -> None:
    name = f"add{time.monotonic_ns():x}"
    program = tmp_path / "sums.py"
    program.write_text(ADD.format(name=name))
    env = {"MINICLOUD_ENDPOINT": client.config.address}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.stdout == "3 7\n", done.stderr
    client.functions.delete(name)


def test_the_command_line(cloud: RealCloud, client: Client, function: str) -> None:
    def shell(*args: str) -> str:
        return str(cloud.cli("function", *args).stdout)

    event = json.dumps({"rawPath": "/x"})
    assert json.loads(shell("invoke", function, event))["body"] == "/x"
    assert "taken" in shell("invoke", function, event, "--later")
    shell("trigger", "add", function, "--schedule", "rate(1 hour)", "--name", function)
    assert "rate(1 hour)" in shell("trigger", "list", function)
    shell("trigger", "remove", function)
    assert "rate(1 hour)" not in shell("trigger", "list", function)
    client.queues.create(function)
    shell("trigger", "add", function, "--queue", function, "--batch", "3")
    (row,) = [line for line in shell("trigger", "list", function).splitlines() if "batch 3" in line]
    shell("trigger", "remove", row.split()[0])
    assert soon(lambda: "batch 3" not in shell("trigger", "list", function))
    client.queues.delete(function)
    assert soon(lambda: "got" in shell("logs", function))
