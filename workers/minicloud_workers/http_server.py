"""A web server to put behind a balancer or to scale: it does as much work as it is asked for, and says where it ran.

GET  /            a line of text with the instance's id        GET  /health  ok (503 after POST /health/fail)
GET  /info        instance id, zone, type, address, uptime and requests as JSON
GET  /work?ms=N   burns N milliseconds of CPU (at most 60,000), answers how many rounds of SHA-256 that was
POST /echo        the body back (at most 16 MiB)               POST /health/fail, /health/pass

python3 -m minicloud_workers.http_server --port 80
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from minicloud_workers import metadata

WORK_MS_MAX = 60_000
BODY_BYTES_MAX = 16 * 1024 * 1024
IDLE_S = 60
WHO = {
    "instance_id": "meta-data/instance-id",
    "zone": "meta-data/placement/availability-zone",
    "type": "meta-data/instance-type",
    "address": "meta-data/local-ipv4",
}


class State:
    """What all requests share."""

    def __init__(self, who: dict[str, str | None]) -> None:
        self.who = who
        self.name = who.get("instance_id") or socket.gethostname()
        self.started = time.monotonic()
        self.healthy = True
        self._lock = threading.Lock()
        self._requests = 0

    def count(self) -> int:
        with self._lock:
            self._requests += 1
            return self._requests

    @property
    def requests(self) -> int:
        return self._requests


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], state: State) -> None:
        self.state = state
        super().__init__(address, Handler)

    def handle_error(self, _request: object, _client_address: object) -> None:
        """A client that went away is no news."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"http_server: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "minicloud"
    timeout = IDLE_S
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        state = self.server.state
        state.count()
        url = urlsplit(self.path)
        if url.path == "/":
            self._text(f"hello from {state.name}\n")
        elif url.path == "/health":
            self._text("ok\n" if state.healthy else "failing\n", HTTPStatus.OK if state.healthy else 503)
        elif url.path == "/info":
            uptime = round(time.monotonic() - state.started, 3)
            self._json({**state.who, "host": socket.gethostname(), "uptime_s": uptime, "requests": state.requests})
        elif url.path == "/work":
            self._work(parse_qs(url.query).get("ms", ["10"])[0])
        else:
            self._text("not found\n", HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        self.server.state.count()
        body = self._body()
        if body is None:
            return
        if self.path == "/echo":
            self._send(HTTPStatus.OK, self.headers.get("Content-Type", "application/octet-stream"), body)
        elif self.path in ("/health/fail", "/health/pass"):
            self.server.state.healthy = self.path == "/health/pass"
            self._text("ok\n")
        else:
            self._text("not found\n", HTTPStatus.NOT_FOUND)

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.close_connection = True
            self._text("a body needs a Content-Length\n", HTTPStatus.LENGTH_REQUIRED)
            return None
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._text(f"at most {BODY_BYTES_MAX} bytes\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        return self.rfile.read(int(length))

    def _work(self, text: str) -> None:
        if not text.isdigit() or int(text) > WORK_MS_MAX:
            self._text(f"ms must be from 0 to {WORK_MS_MAX}\n", HTTPStatus.BAD_REQUEST)
            return
        rounds = burn(int(text) / 1000)
        self._json({"instance_id": self.server.state.name, "ms": int(text), "rounds": rounds})

    def _text(self, text: str, status: int = HTTPStatus.OK) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode())

    def _json(self, value: object) -> None:
        self._send(HTTPStatus.OK, "application/json", json.dumps(value).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet unless asked: a console log is bounded."""
        if os.environ.get("HTTP_SERVER_LOG"):
            super().log_message(format, *arguments)


def burn(seconds: float) -> int:
    """Use that much CPU time of this thread; how many rounds of SHA-256 over 4 KiB it was."""
    block, rounds = b"\0" * 4096, 0
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        block = hashlib.sha256(block).digest() * 128
        rounds += 1
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="http_server", description="A web server that does work and says where it ran."
    )
    parser.add_argument("--port", type=int, default=80, help="default 80; 0: any free one")
    parser.add_argument("--address", default="", help="default: every address of this instance")
    options = parser.parse_args()
    address = options.address or os.environ.get("MINICLOUD_BIND_ADDRESS", "0.0.0.0")
    try:
        server = Server((address, options.port), State(metadata.read_all(WHO)))
    except (OSError, OverflowError) as error:
        print(f"http_server: cannot listen on {address} port {options.port}: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"http_server: {server.state.name} listens on {address} port {server.server_address[1]}", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
