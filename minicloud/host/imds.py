"""The instance metadata service, version 2 and 1, as EC2's: http://169.254.169.254 inside a guest.

    PUT /latest/api/token, X-aws-ec2-metadata-token-ttl-seconds: 1-21600   -> a token, good for this instance only
    GET /<version>/<path>, X-aws-ec2-metadata-token: <token>               -> what `metadata.page` shows

    400  no TTL or one out of range; not HTTP         403  endpoint disabled; X-Forwarded-For on PUT; a Host that is a
    401  http-tokens required and no token; a token        name of somewhere else; a caller that is no guest
         that is wrong or too old, whatever is set    404  no such path       405  another method

Who asks is known by where the question comes in: `serve(sock, instance_id)` listens for one guest alone (loopback
network: one socket each, because SDKs append their path to AWS_EC2_METADATA_SERVICE_ENDPOINT and some drop a path
that it has), and `serve(sock)` for all guests that have an address of their own (bridge network), told apart by it.
Tokens need no memory: they are an expiry and a MAC over it and the instance id, under a key of this process; after a
restart of the agent a guest meets 401 and asks for a new one, as every SDK does. The Host check keeps web pages out
(DNS rebinding) where the service listens on a loopback address of a machine that people browse from.

Bounds: heads HEAD_BYTES_MAX, bodies BODY_BYTES_MAX (nothing needs one), a request within HEAD_S, silence up to IDLE_S,
CONNECTIONS_MAX in all and CONNECTIONS_PER_GUEST_MAX each; who does not read its answers is not read from.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import re
import socket
import struct
from http import HTTPStatus
from typing import Any, Protocol

import httptools

from minicloud.host import metadata
from minicloud.host.metadata import GuestFacts

HEAD_BYTES_MAX = 8 * 1024
BODY_BYTES_MAX = 1024
HEAD_S = 10.0
IDLE_S = 60.0
CONNECTIONS_MAX = 2048
CONNECTIONS_PER_GUEST_MAX = 64
TTL_S_MAX = 21_600
_TTL = re.compile(rb"[0-9]{1,5}")
_TOKEN_PATH = re.compile(r"/+(?:latest|20[0-9]{2}-[0-9]{2}-[0-9]{2})/+api/+token/*")
_HOST_NAMES = frozenset(("instance-data", "instance-data.ec2.internal"))
_TTL_HEADER = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
_EXPIRY = struct.Struct("!d")
_MAC_BYTES = 32


class GuestDirectory(Protocol):
    """The guests of this host."""

    def by_address(self, address: str) -> GuestFacts | None: ...

    def by_id(self, instance_id: str) -> GuestFacts | None: ...


class Guests:
    """A directory in memory. Putting a guest again replaces what was known of it."""

    def __init__(self) -> None:
        self._by_id: dict[str, GuestFacts] = {}
        self._by_address: dict[str, GuestFacts] = {}

    def put(self, facts: GuestFacts) -> None:
        self.remove(facts.spec.instance_id)
        self._by_id[facts.spec.instance_id] = facts
        self._by_address[facts.private_ip] = facts

    def remove(self, instance_id: str) -> None:
        """Idempotent."""
        known = self._by_id.pop(instance_id, None)
        if known is not None and self._by_address.get(known.private_ip) is known:
            del self._by_address[known.private_ip]

    def by_address(self, address: str) -> GuestFacts | None:
        return self._by_address.get(address)

    def by_id(self, instance_id: str) -> GuestFacts | None:
        return self._by_id.get(instance_id)


class Tokens:
    """Session tokens of one process. Times are the event loop's."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, instance_id: str, expires: float) -> str:
        raw = _EXPIRY.pack(expires)
        return base64.urlsafe_b64encode(raw + self._mac(instance_id, raw)).decode()

    def left(self, token: bytes, instance_id: str, now: float) -> float:
        """Seconds that it is still good for; 0: it is not."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except ValueError:
            return 0.0
        if len(raw) != _EXPIRY.size + _MAC_BYTES:
            return 0.0
        expiry, mac = raw[: _EXPIRY.size], raw[_EXPIRY.size :]
        if not hmac.compare_digest(mac, self._mac(instance_id, expiry)):
            return 0.0
        expires: float = _EXPIRY.unpack(expiry)[0]
        return max(expires - now, 0.0)

    def _mac(self, instance_id: str, raw: bytes) -> bytes:
        return hmac.digest(self._key, raw + instance_id.encode(), hashlib.sha256)


class Imds:
    """The service. Needs a running event loop; `token_key`: 32 random bytes; `credentials`: of guests' roles."""

    def __init__(
        self, guests: GuestDirectory, token_key: bytes, credentials: metadata.Credentials | None = None
    ) -> None:
        self.guests = guests
        self.credentials = credentials
        self.tokens = Tokens(token_key)
        self._servers: dict[asyncio.Server, str | None] = {}
        self._connections: set[_Connection] = set()
        self._per_guest: dict[str, int] = {}

    async def serve(self, sock: socket.socket, instance_id: str | None = None) -> asyncio.Server:
        """Answer on a bound socket, which becomes the service's: for one guest, or for all by their addresses."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        server = await loop.create_server(lambda: _Connection(self, instance_id), sock=sock, backlog=128)
        self._servers[server] = instance_id
        return server

    def stop(self, instance_id: str) -> None:
        """Close what listens for this guest alone. Idempotent."""
        for server in [server for server, owner in self._servers.items() if owner == instance_id]:
            server.close()
            del self._servers[server]
        for connection in [one for one in self._connections if one.instance_id == instance_id]:
            connection.abort()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.abort()

    def admit(self, connection: _Connection) -> bool:
        """False: there are too many already, of this guest or in all."""
        owner = connection.instance_id
        count = self._per_guest.get(owner, 0)
        if len(self._connections) >= CONNECTIONS_MAX or count >= CONNECTIONS_PER_GUEST_MAX:
            return False
        self._connections.add(connection)
        self._per_guest[owner] = count + 1
        return True

    def forget(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        left = self._per_guest[connection.instance_id] - 1
        if left:
            self._per_guest[connection.instance_id] = left
        else:
            del self._per_guest[connection.instance_id]


class _Request:
    """What was read of one request."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.doubled: set[bytes] = set()
        self.body_bytes = 0


class _Answer:
    """A response before it is bytes."""

    def __init__(self, status: HTTPStatus, text: str = "", content_type: str = "") -> None:
        self.status = status
        self.text = text or ("" if status == HTTPStatus.OK else _error_page(status))
        self.content_type = content_type or ("text/html" if status != HTTPStatus.OK else metadata.TEXT)
        self.headers: dict[str, str] = {}


class _Connection(asyncio.Protocol):
    """HTTP/1.1 of one guest. Answers come at once, so requests on one connection are answered in order."""

    def __init__(self, service: Imds, instance_id: str | None) -> None:
        self._service = service
        self._fixed = instance_id
        self.instance_id = instance_id or ""
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._request = _Request()
        self._in_request = False
        self._bytes = 0  # of the request that is being read
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._fixed is None:
            peer = transport.get_extra_info("peername")
            facts = self._service.guests.by_address(str(peer[0])) if peer else None
            self.instance_id = facts.spec.instance_id if facts is not None else ""
        if not self._service.admit(self):
            self._finish(_Answer(HTTPStatus.SERVICE_UNAVAILABLE))
            return
        self._set_timer(HEAD_S)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if not self._in_request:
            self._in_request = True
            self._set_timer(HEAD_S)
        self._bytes += len(data)
        if self._bytes > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            self._finish(_Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._finish(_Answer(HTTPStatus.BAD_REQUEST))

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._service.forget(self)

    def abort(self) -> None:
        self._transport.abort()

    # --- httptools

    def on_message_begin(self) -> None:
        self._request = _Request()

    def on_url(self, url: bytes) -> None:
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self._request.headers:
            self._request.doubled.add(name)
        self._request.headers[name] = value.strip()

    def on_body(self, body: bytes) -> None:
        self._request.body_bytes += len(body)
        if self._request.body_bytes > BODY_BYTES_MAX:
            self._finish(_Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        answer = self._answer(self._parser.get_method(), self._request)
        if self._parser.should_keep_alive():
            self._write(answer, keep=True)
            self._in_request = False
            self._bytes = 0
            self._set_timer(IDLE_S)
        else:
            self._finish(answer)

    # --- answers

    def _answer(self, method: bytes, request: _Request) -> _Answer:
        facts = self._service.guests.by_id(self.instance_id) if self.instance_id else None
        if facts is None or not _host_is_ours(request) or facts.spec.metadata_options.http_endpoint == "disabled":
            return _Answer(HTTPStatus.FORBIDDEN)
        try:
            path = (httptools.parse_url(request.url).path or b"/").decode("ascii")
        except (httptools.HttpParserError, UnicodeDecodeError):
            return _Answer(HTTPStatus.BAD_REQUEST)
        if _TOKEN_PATH.fullmatch(path):
            return self._token(facts, request) if method == b"PUT" else _not_allowed("OPTIONS, PUT")
        if method not in (b"GET", b"HEAD"):
            return _not_allowed("OPTIONS, GET, HEAD")
        return self._page(facts, path, request.headers.get(b"x-aws-ec2-metadata-token"))

    def _token(self, facts: GuestFacts, request: _Request) -> _Answer:
        if b"x-forwarded-for" in request.headers:
            return _Answer(HTTPStatus.FORBIDDEN)
        raw = request.headers.get(_TTL_HEADER.lower().encode(), b"")
        if not _TTL.fullmatch(raw) or not 1 <= int(raw) <= TTL_S_MAX:
            return _Answer(HTTPStatus.BAD_REQUEST)
        token = self._service.tokens.issue(facts.spec.instance_id, self._loop.time() + int(raw))
        answer = _Answer(HTTPStatus.OK, token)
        answer.headers[_TTL_HEADER] = str(int(raw))
        return answer

    def _page(self, facts: GuestFacts, path: str, token: bytes | None) -> _Answer:
        left = 0.0
        if token is not None:
            left = self._service.tokens.left(token, facts.spec.instance_id, self._loop.time())
        if left <= 0 and (token is not None or facts.spec.metadata_options.http_tokens == "required"):
            return _Answer(HTTPStatus.UNAUTHORIZED)
        page = metadata.page(facts, path, self._service.credentials)
        if page is None:
            return _Answer(HTTPStatus.NOT_FOUND)
        answer = _Answer(HTTPStatus.OK, page.text, page.content_type)
        if token is not None:
            answer.headers[_TTL_HEADER] = str(int(left))
        return answer

    def _write(self, answer: _Answer, keep: bool) -> None:
        body = answer.text.encode("utf-8", "surrogatepass")
        head = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            "Server: EC2ws",
            f"Connection: {'keep-alive' if keep else 'close'}",
        ]
        if self._parser.get_method() == b"HEAD":
            body = b""
        self._transport.write("\r\n".join([*head, "", ""]).encode() + body)

    def _finish(self, answer: _Answer) -> None:
        """The last answer of this connection."""
        if self._transport.is_closing():
            return
        self._write(answer, keep=False)
        self._transport.close()
        self._set_timer(HEAD_S)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._transport.abort)


def _host_is_ours(request: _Request) -> bool:
    """An address, or the names that EC2 has for it. A page of another site would say its own name."""
    if b"host" in request.doubled:
        return False
    host = request.headers.get(b"host", b"").decode("latin-1")
    if not host:
        return True
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() in _HOST_NAMES:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _not_allowed(methods: str) -> _Answer:
    answer = _Answer(HTTPStatus.METHOD_NOT_ALLOWED)
    answer.headers["Allow"] = methods
    return answer


def _error_page(status: HTTPStatus) -> str:
    """Word for word what EC2 sends."""
    title = f"{status.value} - {status.phrase}"
    return (
        '<?xml version="1.0" encoding="iso-8859-1"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
        '\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        f" <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    )
