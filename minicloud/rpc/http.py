"""The control plane's own HTTP paths. Raw ASGI; JSON in every answer but the metrics.

    GET  /_minicloud/health              200 when the cloud is ready, else 503
    GET  /_minicloud/metrics             Prometheus text
    POST /_minicloud/internal/shutdown   202; for the supervisor, which proves itself by `internal_token`
    everything else                      404

A web page in the user's browser must not drive a cloud on localhost: a Host that is neither an IP address nor a name
that we know is refused (DNS rebinding), and so is what a script of another origin sends to the internal path.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from minicloud.base.errors import CloudError

log = logging.getLogger(__name__)

OWN_PATHS = "/_minicloud"  # everything else is AWS's
HEALTH = "/_minicloud/health"
METRICS = "/_minicloud/metrics"
SHUTDOWN = "/_minicloud/internal/shutdown"
TOKEN_HEADER = "x-minicloud-internal"
HEALTH_S_MAX = 2.0
_JSON = "application/json"

Answer = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class CloudHealth:
    """What GET health answers; ready means 200."""

    ready: bool
    status: str  # ok | starting | degraded | stopping
    cloud_id: str
    version: str
    hosts_up: int
    hosts_down: int
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "brokers", ...: of each of them, up | down


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Operations:
    """What the paths are made of. `allowed_hosts`: names this cloud is reached by besides IP addresses, lower case.

    `refresh` comes before the registry is read, and takes a bounded time.
    """

    health: Callable[[], Awaitable[CloudHealth]]
    registry: CollectorRegistry
    shutdown: Callable[[], None]
    secret: bytes
    allowed_hosts: frozenset[str] = frozenset()
    refresh: Callable[[], Awaitable[None]] = _nothing


def internal_token(secret: bytes, path: str = SHUTDOWN) -> str:
    """The value of TOKEN_HEADER that proves knowledge of the cluster secret, for this path only."""
    return hmac.new(secret, b"minicloud internal " + path.encode(), hashlib.sha256).hexdigest()


def control_app(operations: Operations) -> Callable[..., Awaitable[None]]:
    """The ASGI application."""
    allowed = operations.allowed_hosts | {"localhost"}
    routes: dict[str, tuple[str, Callable[[dict[str, str]], Awaitable[Answer]]]] = {
        HEALTH: ("GET", lambda _headers: _health(operations)),
        METRICS: ("GET", lambda _headers: _metrics(operations)),
        SHUTDOWN: ("POST", lambda headers: _shutdown(operations, headers)),
    }

    async def answer(scope: dict[str, Any]) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not known_host(headers.get("host", ""), allowed):
            return _error(403, "HostNotAllowed", "this cloud is not known by that host name")
        method, route = routes.get(scope["path"], ("", None))
        if route is None:
            return _error(404, "NotFound", "there is nothing here")
        if scope["method"] not in (method, "HEAD" if method == "GET" else method):
            return _error(405, "MethodNotAllowed", f"this path answers to {method}")
        return await route(headers)

    async def app(scope: dict[str, Any], _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        try:
            status, content_type, body = await answer(scope)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            status, content_type, body = _error(500, "InternalError", "the log has the story")
        await _send(send, status, content_type, body if scope["method"] != "HEAD" else b"")

    return app


def known_host(host: str, allowed: frozenset[str] | set[str]) -> bool:
    """A Host header that no rebound DNS name can have sent: none at all, an IP address, or a name that we know."""
    name = host.lower().strip()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if not name or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _health(operations: Operations) -> Answer:
    try:
        async with asyncio.timeout(HEALTH_S_MAX):
            health = await operations.health()
    except TimeoutError:
        return _error(503, "ServiceUnavailable", f"the control plane did not answer within {HEALTH_S_MAX:g} s")
    except CloudError as error:
        return _error(503, error.code, error.message)
    body = asdict(health)
    del body["ready"]
    body |= body.pop("shards")
    return 200 if health.ready else 503, _JSON, _json(body)


async def _metrics(operations: Operations) -> Answer:
    await operations.refresh()
    return 200, CONTENT_TYPE_LATEST, generate_latest(operations.registry)


async def _shutdown(operations: Operations, headers: dict[str, str]) -> Answer:
    token = headers.get(TOKEN_HEADER, "").encode("latin-1")
    if "origin" in headers or not hmac.compare_digest(token, internal_token(operations.secret).encode()):
        return _error(403, "AccessDenied", "this path is not for you")
    operations.shutdown()
    return 202, _JSON, _json({"status": "stopping"})


def _error(status: int, code: str, message: str) -> Answer:
    return status, _JSON, _json({"status": "error", "code": code, "message": message})


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode() + b"\n"


async def _send(send: Callable[[dict[str, Any]], Awaitable[None]], status: int, content_type: str, body: bytes) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
