"""The sample workloads, as a guest runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import minicloud_workers
import pytest
from minicloud_workers import cpu_job
from minicloud_workers.http_server import Server, State, burn

LIBRARY = Path(minicloud_workers.__file__).parent.parent


def job(name: str, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, its lines of JSON, its errors."""
    done = subprocess.run(
        [sys.executable, "-m", f"minicloud_workers.{name}", *arguments],
        env={"PYTHONPATH": str(LIBRARY), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_primes_are_counted_right_on_two_processes() -> None:
    code, lines, _ = job("cpu_job", "--limit", "3000000", "--processes", "2")
    assert code == 0 and lines[0]["event"] == "started"
    assert (lines[-1]["event"], lines[-1]["primes"], lines[-1]["percent"]) == ("finished", 216816, 100.0)


@pytest.mark.parametrize(("limit", "count"), [(1, 0), (2, 0), (3, 1), (4, 2), (100, 25), (1000, 168)])
def test_small_counts(limit: int, count: int) -> None:
    assert sum(cpu_job.count_between(start, min(start + 7, limit)) for start in range(0, limit, 7)) == count


def test_memory_is_filled_and_sorted() -> None:
    code, lines, _ = job("memory_job", "--mib", "20")
    assert code == 0 and (lines[-1]["event"], lines[-1]["done"], lines[-1]["blocks"]) == ("finished", 20, 3)


def test_memory_that_is_not_there_is_said() -> None:
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))"
    script += "; import sys; sys.argv = ['m', '--mib', '4000']; from minicloud_workers.memory_job import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(LIBRARY)}, capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout.splitlines()[-1])["reason"] == "no more memory"


def test_disk_blocks_come_back(tmp_path: Path) -> None:
    code, lines, _ = job("disk_job", "--directory", str(tmp_path), "--mib", "9", "--sync-every-mib", "4")
    assert code == 0 and (lines[-1]["event"], lines[-1]["wrong_blocks"]) == ("finished", [])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said() -> None:
    code, lines, _ = job("disk_job", "--directory", "/proc/none")
    assert code == 1 and lines[-1]["event"] == "failed" and "No such file" in lines[-1]["reason"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("cpu_job", "--limit", "0"),
        ("memory_job", "--mib", "-1"),
        ("disk_job", "--mib", "0"),
        ("http_server", "--port", "x"),
    ],
)
def test_bad_arguments_are_usage(arguments: tuple[str, ...]) -> None:
    code, _, errors = job(*arguments)
    assert code == 2 and "usage:" in errors


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server(("127.0.0.1", 0), State({"instance_id": "i-1", "zone": "a", "type": "t3.micro", "address": None}))
    thread = threading.Thread(target=one.serve_forever, args=(0.01,))
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


def ask(server: Server, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, body)
    response = connection.getresponse()
    got = response.read()
    connection.close()
    return response.status, got


def test_the_web_server_answers(server: Server) -> None:
    assert ask(server, "GET", "/") == (200, b"hello from i-1\n")
    assert ask(server, "GET", "/none")[0] == 404
    status, body = ask(server, "GET", "/info")
    info = json.loads(body)
    assert (status, info["zone"], info["type"], info["requests"]) == (200, "a", "t3.micro", 3)
    assert ask(server, "POST", "/echo", b"x" * 100_000) == (200, b"x" * 100_000)


def test_health_can_be_told(server: Server) -> None:
    assert ask(server, "GET", "/health")[0] == 200
    assert ask(server, "POST", "/health/fail", b"")[0] == 200
    assert ask(server, "GET", "/health")[0] == 503
    assert ask(server, "POST", "/health/pass", b"")[0] == 200
    assert ask(server, "GET", "/health")[0] == 200


def test_work_is_measured_and_bounded(server: Server) -> None:
    status, body = ask(server, "GET", "/work?ms=20")
    assert status == 200 and json.loads(body)["rounds"] > 0
    assert ask(server, "GET", "/work?ms=60001")[0] == ask(server, "GET", "/work?ms=-1")[0] == 400
    assert burn(0.0) == 0


def test_large_bodies_are_refused_unread(server: Server) -> None:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.putrequest("POST", "/echo")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
