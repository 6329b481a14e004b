"""The cloud's front door: what it listens on, whom it lets in, and where requests go. Pure: settings -> configuration.

Two doors, one process:

    :7077  gRPC (HTTP/2)            -> control plane, gRPC port
    :4566  HTTP/1.1 and HTTP/2      -> control plane, HTTP port (AWS protocols, health, metrics, console)
           /_minicloud/sns/<n>/...  -> message broker n, HTTP port (certificates, confirmations of subscriptions)
           signed for SQS, SNS ...  -> the process that owns the service (aws/services.py), HTTP port

Which service a request is for stands in its credential, its target header or its path. Whoever gets a request that is
another's passes it on, so what is told apart here only saves that way.

Message brokers' gRPC ports are no business of the front door: callers reach them directly, with a ticket.

Whom it keeps out. A cloud on localhost must not be drivable by a web page in the user's browser. A page reaches
localhost in two ways, and each is closed before any of our code runs:
  - under a name of its own that it points at 127.0.0.1 (DNS rebinding): the Host header is that name, and only names
    of ours are answered;
  - directly, as a cross-site request that needs no answer to do harm (a form post): browsers say so themselves, in
    Origin and in Sec-Fetch-Site. Nothing here sends CORS headers.

How long things may take. The first bytes and the head of a request: 10 s. A body that stalls: 60 s. A gRPC stream may
be silent for a day: HAProxy's `timeout client` and `timeout server` run per HTTP/2 stream, gRPC's own keep-alive pings
belong to the connection and do not count, so the timeouts must be long; dead peers are found by TCP keep-alive instead,
after two minutes. Under TLS a stream may be silent for an hour, because a handshake that stalls is held as long. HTTP
replies may take as long as the longest invocation (5,400 s).

A control plane that restarts is away for a second or two: new connections are tried again once a second, three times.
Health is asked without patience: 503 at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from minicloud.aws import services
from minicloud.base import limits
from minicloud.proxy.config import (
    Acl,
    Backend,
    Bind,
    DelHeader,
    Deny,
    Frontend,
    Global,
    ProxyConfig,
    Rule,
    Server,
    SetHeader,
    Timeouts,
    UseBackend,
    When,
)
from minicloud.settings import GUEST_NAME, CloudSettings, is_loopback

HEALTH_PATH = "/_minicloud/health"
INTERNAL_PATH = "/_minicloud/internal"
TOPICS_PATH = "/_minicloud/sns"
REACHED_AS = "X-Minicloud-Reached-As"  # rpc/locate.py reads it
INTERNAL_HEADERS = ("X-Minicloud-Fleet", "X-Minicloud-Scope")  # the cloud's own processes come by another way
LOOPBACK = "127.0.0.1"
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
LOCAL_SUFFIX = ".localhost"  # RFC 6761: names that always mean this machine
HEAD_MS_MAX = 10_000
BODY_STALL_MS_MAX = 60_000
REPLY_MS_MAX = 5_400_000
STREAM_MS_MAX = 24 * 3600 * 1000
STREAM_TLS_MS_MAX = 3600 * 1000
IDLE_MS_MAX = 3_600_000
CONNECTIONS_MAX = 4_000
PER_SOURCE_MAX = 1_000
THREADS = 2
BUFFER_BYTES = 64 * 1024  # a long answer goes through in so many pieces; only while it does is one held
_ANY_IP = r"^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$|^\[[0-9a-fA-F:.]+\]$"


@dataclass(frozen=True, slots=True)
class DoorPaths:
    """Files of the running front door. `cert`: chain and key in one PEM, '' without TLS."""

    stats_socket: Path
    cert: str = ""


def front_door(settings: CloudSettings, paths: DoorPaths) -> ProxyConfig:
    """Raises InvalidParameterValue where settings hold what HAProxy must not see."""
    return ProxyConfig(
        process=Global(
            str(paths.stats_socket),
            maxconn=2 * CONNECTIONS_MAX + 200,
            threads=THREADS,
            head_bytes_max=limits.HTTP_HEAD_BYTES_MAX,
            buffer_bytes=BUFFER_BYTES,
            hot_bytes=64 * BUFFER_BYTES,
        ),
        frontends=(_grpc_door(settings, paths), _http_door(settings, paths)),
        backends=_backends(settings),
    )


def _grpc_door(settings: CloudSettings, paths: DoorPaths) -> Frontend:
    return Frontend(
        "grpc",
        (Bind(settings.bind, settings.grpc_port, cert=paths.cert, alpn="h2" if paths.cert else ""),),
        default_backend="control_grpc",
        maxconn=CONNECTIONS_MAX,
        timeouts=Timeouts(
            client=STREAM_TLS_MS_MAX if paths.cert else STREAM_MS_MAX,
            http_request=HEAD_MS_MAX,
            http_keep_alive=IDLE_MS_MAX,
        ),
        tcp_keepalive=True,
        h2_within_ms=HEAD_MS_MAX,
        per_source_max=_per_source(settings),
    )


def _grpc_rules(settings: CloudSettings) -> tuple[Rule, ...]:
    return (
        *_head_rules(),
        *_host_rules(settings),
        SetHeader(REACHED_AS, fetch="req.hdr(host)"),
        *(DelHeader(name) for name in INTERNAL_HEADERS),
        Acl("from_a_page", "req.hdr(origin)", "found"),
        Deny(403, When(("from_a_page",)), "minicloud: web pages have no business at the gRPC door"),
        Acl("is_grpc", "req.hdr(content-type)", "beg", ("application/grpc",)),
        Deny(415, When(("!is_grpc",)), "minicloud: this port speaks gRPC"),
    )


def _per_source(settings: CloudSettings) -> int:
    """On loopback every client has the same address."""
    return 0 if is_loopback(settings.bind) else PER_SOURCE_MAX


def _http_door(settings: CloudSettings, paths: DoorPaths) -> Frontend:
    too_large = f"{limits.HTTP_BODY_BYTES_MAX + 1}:"
    rules: tuple[Rule, ...] = (
        *_head_rules(),
        *_host_rules(settings),
        *_browser_rules(settings),
        Acl("internal", "path,url_dec,lower", "beg", (INTERNAL_PATH,)),
        Deny(404, When(("internal",)), "minicloud: not found"),
        Acl("too_large", "req.hdr_val(content-length)", "int", (too_large,)),
        Deny(413, When(("too_large",)), f"minicloud: a body has at most {limits.HTTP_BODY_BYTES_MAX} bytes"),
        DelHeader("X-Forwarded-For"),
        DelHeader("Forwarded"),
        SetHeader("X-Forwarded-Proto", value="https" if paths.cert else "http"),
        Acl("health", "path", "str", (HEALTH_PATH,)),
        UseBackend("control_health", When(("health",))),
        *_broker_rules(settings),
        *_service_rules(settings),
    )
    return Frontend(
        "http",
        (Bind(settings.bind, settings.http_port, cert=paths.cert, alpn="h2,http/1.1" if paths.cert else ""),),
        rules=rules,
        default_backend="control_http",
        maxconn=CONNECTIONS_MAX,
        timeouts=Timeouts(client=BODY_STALL_MS_MAX, http_request=HEAD_MS_MAX, http_keep_alive=BODY_STALL_MS_MAX),
        forwarded_for=True,
        per_source_max=_per_source(settings),
    )


def _backends(settings: CloudSettings) -> tuple[Backend, ...]:
    http = Server("control", settings.control_host, settings.control_http_port)
    grpc = Server("control", settings.control_host, settings.control_port, h2=True)
    return (
        Backend(
            "control_grpc",
            (grpc,),
            rules=_grpc_rules(settings),
            timeouts=Timeouts(server=STREAM_MS_MAX),
            tcp_keepalive=True,
        ),
        Backend("control_http", (http,), timeouts=Timeouts(server=REPLY_MS_MAX, tunnel=STREAM_MS_MAX)),
        Backend("control_health", (http,), retries=0, timeouts=Timeouts(server=5_000, connect=1_000)),
        *(
            Backend(
                f"broker_{number}",
                (Server("broker", LOOPBACK, broker.http_port),),
                timeouts=Timeouts(server=REPLY_MS_MAX),
            )
            for number, broker in enumerate(settings.brokers)
        ),
        *(
            Backend(owner, (Server(owner, LOOPBACK, port),), timeouts=Timeouts(server=REPLY_MS_MAX))
            for owner, port in _owners(settings).items()
        ),
    )


def _owners(settings: CloudSettings) -> dict[str, int]:
    """Processes that own AWS services, besides control plane and brokers, and their HTTP ports."""
    found = {}
    for owner in (services.BALANCER, services.AUTOSCALER, services.FUNCTIONS):
        shards = getattr(settings, f"{owner.removesuffix('s')}s", ())
        if shards and shards[0].http_port:
            found[owner] = shards[0].http_port
    return found


def _service_rules(settings: CloudSettings) -> tuple[Rule, ...]:
    """By what a request is signed for, by its target, by its path. Without any of these: the control plane looks."""
    backends = {services.BROKER: "broker_0"} if settings.brokers else {}  # the most, and the smallest: looked at first
    backends |= {services.CONTROL: "control_http"} | {owner: owner for owner in _owners(settings)}
    rules: list[Rule] = []
    for owner, backend in backends.items():
        owned = [one for one in services.KNOWN if one.owner == owner]
        name, signed = f"for_{owner}", tuple(f"/{one.signing}/aws4_request" for one in owned)
        # "... Credential=key/date/region/service/aws4_request, ...": compared alone, it is the cheapest way to tell.
        rules.append(Acl(name, "req.fhdr(authorization),field(4,/)", "str", tuple(one.signing for one in owned)))
        if owner == services.CONTROL:
            rules.append(UseBackend(backend, When((name,))))
            continue
        rules.append(Acl(name, "url_param(X-Amz-Credential),url_dec", "sub", signed))
        if owner == services.FUNCTIONS:
            rules.append(Acl(name, "req.hdr(host),host_only,lower", "sub", (services.FUNCTION_URL,)))
        if targets := tuple(f"{one.target}." for one in owned if one.target):
            rules.append(Acl(name, "req.hdr(x-amz-target)", "beg", targets))
        if paths := tuple(f"^(?:{one.paths})" for one in owned if one.paths):
            rules.append(Acl(name, "path", "reg", paths))
        rules.append(UseBackend(backend, When((name,))))
    return tuple(rules)


def _broker_rules(settings: CloudSettings) -> tuple[Rule, ...]:
    """Each message broker's own part of the path."""
    rules: list[Rule] = []
    for number in range(len(settings.brokers)):
        rules.append(Acl(f"of_broker_{number}", "path", "beg", (f"{TOPICS_PATH}/{number}/",)))
        rules.append(UseBackend(f"broker_{number}", When((f"of_broker_{number}",))))
    return tuple(rules)


def known_names(settings: CloudSettings) -> tuple[str, ...]:
    """Every name that a client may call this cloud by, besides those under `.localhost`."""
    own = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    to_guests = (GUEST_NAME,) if settings.tls else ()
    return tuple(dict.fromkeys((*LOCAL_NAMES, *to_guests, own, *settings.allowed_hosts)))


def _head_rules() -> tuple[Rule, ...]:
    """Buffers would hold longer heads than anybody has."""
    more = (f"{limits.HTTP_HEAD_BYTES_MAX + 1}:",)
    return (
        Acl("long_head", "req.hdrs,length", "int", more),
        Acl("long_head", "url,length", "int", more),
        Deny(400, When(("long_head",)), f"minicloud: a head has at most {limits.HTTP_HEAD_BYTES_MAX} bytes"),
    )


def _host_rules(settings: CloudSettings) -> tuple[Rule, ...]:
    fetch = "req.hdr(host),host_only,lower"
    rules: tuple[Rule, ...] = (
        Acl("known_host", fetch, "str", known_names(settings)),
        Acl("known_host", fetch, "end", (LOCAL_SUFFIX,)),
        # Guests come by the address of their gateway, other machines by any address of ours. Only names can be rebound.
        Acl("known_host", fetch, "reg", (_ANY_IP,)),
    )
    hint = "minicloud: unknown Host name (minicloud up --allow-host NAME)"
    return (*rules, Deny(403, When(("!known_host",)), hint))


def _browser_rules(settings: CloudSettings) -> tuple[Rule, ...]:
    names = "|".join([re.escape(name) for name in known_names(settings)] + [r"[a-z0-9.-]+\.localhost"])
    ours = rf"^https?://(?:{names})(?::[0-9]{{1,5}})?$"
    return (
        Acl("has_origin", "req.hdr(origin)", "found"),
        Acl("two_origins", "req.hdr_cnt(origin)", "int", ("2:",)),
        Deny(400, When(("two_origins",)), "minicloud: one Origin at most"),
        Acl("known_origin", "req.hdr(origin)", "reg", (ours,), ignore_case=True),
        Deny(403, When(("has_origin", "!known_origin")), "minicloud: not for pages of other origins"),
        Acl("cross_site", "req.hdr(sec-fetch-site)", "str", ("cross-site",), ignore_case=True),
        Deny(403, When(("cross_site",)), "minicloud: not for pages of other sites"),
    )
