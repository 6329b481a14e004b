"""Functions on a real cloud: deployed and invoked by the SDK, while processes under them are killed."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress

import pytest

from minicloud.base.errors import CloudError, Unavailable
from minicloud.client import Client
from tests.real_cloud import RealCloud, ends, kill, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]

CODE = """
import os, subprocess
count = 0
def handler(event, context):
    global count
    count += 1
    print("event", event)
    if event == "fail":
        raise ValueError("no")
    if isinstance(event, (int, float)):
        subprocess.run(["sleep", str(event)])
    return {"event": event, "count": count, "pid": os.getpid()}
"""


def package(code: str = CODE) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", code)
    return buffer.getvalue()


@pytest.fixture
def function(client: Client) -> Iterator[str]:
    name = f"f{time.monotonic_ns():x}"
    client.functions.create(name, package(), runtime="python3.11", handler="app.handler", timeout_s=30)
    yield name
    client.functions.delete(name)


def test_a_function_is_deployed_invoked_and_changed(client: Client, function: str) -> None:
    first = client.functions.invoke(function, {"a": 1}, tail=True)
    assert first.function_error == ""
    assert first.json()["event"] == {"a": 1}
    assert first.init_ms is not None
    assert b"event {'a': 1}" in first.tail
    again = client.functions.invoke(function, "x")
    assert again.json()["count"] == 2
    failed = client.functions.invoke(function, "fail")
    assert failed.function_error
    assert failed.json()["errorType"] == "ValueError"
    client.functions.update_code(function, package("def handler(e, c):\n  return 'new'\n"))
    assert client.functions.invoke(function).json() == "new"


def test_a_killed_functions_process_takes_its_environments_along_and_comes_back(
    cloud: RealCloud, client: Client, function: str
) -> None:
    client.functions.invoke(function)
    (pid,) = cloud.actor_pids("Functions")
    guests = children(pid)
    assert len(guests) >= 3
    errors: list[BaseException] = []

    def slow() -> None:
        try:
            client.functions.invoke(function, 25)
        except CloudError as error:
            errors.append(error)

    caller = threading.Thread(target=slow)
    caller.start()
    until(lambda: any(is_asleep(one) for one in children(pid)), 20, "it is at work")
    guests = children(pid)
    with ends(guests, 20):
        kill(pid)
    caller.join(10)
    assert not caller.is_alive(), "told at once, not when it would have ended"
    assert isinstance(errors[0], Unavailable)  # it may have run: nobody repeats it for the caller

    def back() -> bool:
        try:
            return client.functions.invoke(function, "again").json()["event"] == "again"
        except Unavailable:
            return False

    until(back, 15)
    assert set(cloud.actor_pids("Functions")) - {pid}


def children(pid: int) -> list[int]:
    """All processes below this one. Those that end meanwhile have none."""
    found = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                for word in file.read().split():
                    found += [int(word), *children(int(word))]
    return found


def is_asleep(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().startswith(b"sleep\0")
    return False


SENDS = """
import os, urllib.parse, urllib.request
def handler(event, context):
    env = os.environ
    scope = f"{env['AWS_ACCESS_KEY_ID']}/20260101/{env['AWS_REGION']}/sqs/aws4_request"
    form = {"Action": "SendMessage", "Version": "2012-11-05", "QueueUrl": event["queue"], "MessageBody": event["text"]}
    request = urllib.request.Request(env["AWS_ENDPOINT_URL"], urllib.parse.urlencode(form).encode())
    request.add_header("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0")
    request.add_header("X-Amz-Security-Token", env["AWS_SESSION_TOKEN"])
    urllib.request.urlopen(request, timeout=10).read()
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{event['other']}", timeout=20)
    except OSError as error:
        return str(error)
"""


def test_a_function_reaches_its_cloud_and_nothing_else_of_the_machine(cloud: RealCloud, client: Client) -> None:
    queue = client.queues.create("from-a-function")
    client.functions.create("sends", package(SENDS), runtime="python3.11", handler="app.handler", timeout_s=20)
    with socket.create_server(("127.0.0.1", 0)) as other:
        event = {"queue": queue.url, "text": "hello", "other": other.getsockname()[1]}
        answer = client.functions.invoke("sends", event)
    assert answer.function_error == "", answer
    assert "refused" in answer.json()
    (message,) = client.queues.receive("from-a-function", wait_s=20)
    assert message.body == b"hello"
    client.functions.delete("sends")
    client.queues.delete("from-a-function")
