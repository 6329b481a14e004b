"""State -> the whole configuration of one shard's HAProxy. Pure.

One frontend a listener, at its balancer's address; two backends a target group (backends.py). Two layouts whose
`skeleton` is the same differ in servers alone, and servers are changed without a reload.

What clients cannot say: X-Forwarded-Proto, -Port are ours; X-Forwarded-For is extended, removed or left, as the
balancer is told. HTTP/2 is spoken where TLS is; clear-text listeners speak HTTP/1.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from minicloud.balancer import attributes
from minicloud.balancer.access import tls_format, web_format
from minicloud.balancer.backends import NO_FUNCTIONS, backends, check
from minicloud.balancer.groups import section as group_section
from minicloud.balancer.listeners import POLICIES, SECURE, section
from minicloud.balancer.model import WEB_PROTOCOLS, Balancer, Listener, short
from minicloud.balancer.ports import Functions
from minicloud.balancer.routing import lines, plain, straight
from minicloud.balancer.state import State
from minicloud.proxy.config import Acl, Backend, Bind, DelHeader, Frontend, Global, ProxyConfig, Rule, Timeouts, When
from minicloud.proxy.directives import DropAnswerHeader, DropOddHeaders, Fetch, Header, SetVar, TraceId
from minicloud.proxy.timing import LINE, RING, Ring, Sampled

HEAD_MS_MAX = 60_000  # ours: a request's head that takes longer is a slow loris
LEAVE_S_MAX = 3_600  # ours: how long a process that was reloaded may finish what it has; a WebSocket may last
HEAD_BYTES_MAX = 64 * 1024  # ALB quotas: the whole of a request's headers, 64 KB
URL_BYTES_MAX = 16 * 1024  # ALB quotas: a request line; of a longer one the access log has the beginning
XFF = "X-Forwarded-For"


@dataclass(frozen=True, slots=True)
class Places:
    """Where one HAProxy keeps what. `times_socket`: who hears how long targets take, '' for nobody.

    `second_ms`: how long a second of a health check takes; tests are short of time. `functions`: where they are.
    `relay`: the port at which health checks are made that HAProxy cannot make (proxy/relay.py), 0 for none.
    """

    stats_socket: str
    states: str
    certificates: str
    times_socket: str = ""
    connections_max: int = 4_000
    threads: int = 0
    second_ms: int = 1_000
    functions: Functions = NO_FUNCTIONS
    relay: int = 0


def layout(state: State, places: Places, left_out: Collection[str] = ()) -> ProxyConfig:
    """`left_out`: ARNs of listeners whose port cannot be had, and of balancers that HAProxy does not take."""
    frontends: list[Frontend] = []
    sections: list[Backend] = []
    for balancer in state.balancers.values():
        if balancer.arn in left_out:
            continue
        wanted = [one for one in state.listeners_of(balancer.arn) if one.arn not in left_out]
        frontends += [_frontend(state, balancer, listener, places) for listener in wanted]
        for group in state.groups_of(balancer.arn):
            sections += backends(state, balancer, group, places.second_ms, places.functions, places.relay)
    process = Global(
        places.stats_socket,
        maxconn=places.connections_max,
        threads=places.threads,
        head_bytes_max=HEAD_BYTES_MAX,
        hard_stop_after_s=LEAVE_S_MAX,
        server_states=places.states,
        hot_bytes=64 * HEAD_BYTES_MAX,
        logged_url_bytes=URL_BYTES_MAX,
    )
    rings = (Ring(places.times_socket),) if places.times_socket else ()
    return ProxyConfig(process, tuple(frontends), tuple(sections), rings)


def skeleton(state: State, config: ProxyConfig, second_ms: int, relay: int = 0) -> str:
    """The configuration without its servers, and what all servers of a group have in common."""
    bare = replace(config, backends=tuple(replace(one, servers=()) for one in config.backends)).render()
    options = []
    for group in state.groups.values():
        if group.balancer:
            made = check(group, second_ms, relay)
            common = made.server_options() if made else ""
            mine = {key: attributes.value(group, key) for key in _OF_SERVERS if key in attributes.known(group)}
            options.append(f"{group_section(group)} {common} {mine}")
    return "\n".join((bare, *sorted(options)))


_OF_SERVERS = (attributes.SLOW_START, attributes.PROXY_V2)


def certificate_path(places: Places, arn: str) -> str:
    return f"{places.certificates}/{short(arn)}.pem"


def _frontend(state: State, balancer: Balancer, listener: Listener, places: Places) -> Frontend:
    web = listener.protocol in WEB_PROTOCOLS
    alone = plain(state, listener)
    logs = attributes.value(balancer, attributes.LOGS) == attributes.TRUE
    if web:
        idle_ms = int(attributes.value(balancer, attributes.IDLE)) * 1000
        timeouts = Timeouts(client=idle_ms, http_request=HEAD_MS_MAX, http_keep_alive=idle_ms)
        told = _TOLD if logs else (Sampled(),) if places.times_socket else ()
        rules = (*told, *_headers(balancer, listener), *(_TRACED if logs else ()), *lines(state, listener))
    else:
        timeouts = Timeouts(client=int(attributes.value(listener, attributes.TCP_IDLE)) * 1000)
        rules = tuple(straight(alone)) if alone else ()
    log_format, log_to = _log(balancer, listener, places, logs)
    return Frontend(
        section(listener),
        (_bind(balancer, listener, places),),
        rules=rules,
        default_backend=group_section(alone) if alone else "",
        tcp=not web,
        patient=web,
        silent=not logs or not log_format,
        forwarded_for_once=web and _appends(balancer) and not _with_port(balancer),
        maxconn=places.connections_max,
        timeouts=timeouts,
        log_format=log_format,
        log_to=log_to,
    )


# What a line of an access log says of a request; the trace id is the client's, or ours, which comes later.
# ALB guide, "Access log entries": of a user agent 8 KB; ours: of a trace id 1 KB.
_TOLD = (SetVar("txn.agent", "req.hdr(user-agent),bytes(0,8192)"),)
_TRACED = (SetVar("txn.trace", "req.hdr(x-amzn-trace-id),bytes(0,1024)"),)


def _bind(balancer: Balancer, listener: Listener, places: Places) -> Bind:
    if listener.protocol not in SECURE:
        return Bind(balancer.address, listener.port)
    first, *others = (certificate_path(places, arn) for arn in listener.certificates)
    alpn = ""
    if listener.protocol == "HTTPS":
        both = attributes.value(balancer, attributes.HTTP2) == attributes.TRUE
        alpn = "h2,http/1.1" if both else "http/1.1"
    tls = POLICIES[listener.ssl_policy]
    return Bind(balancer.address, listener.port, cert=first, alpn=alpn, others=tuple(others), tls=tls)


def _headers(balancer: Balancer, listener: Listener) -> Iterator[Rule]:
    """Source: ALB guide, "HTTP headers and Application Load Balancers"."""
    if attributes.value(balancer, attributes.DROP_ODD_HEADERS) == attributes.TRUE:
        yield DropOddHeaders()
    yield from _forwarded_for(balancer)
    yield Header("X-Forwarded-Proto", (listener.protocol.lower(),))
    yield Header("X-Forwarded-Port", (str(listener.port),))
    yield Acl("traced", "req.hdr(x-amzn-trace-id)", "found")
    yield TraceId(When(("!traced",)))
    if attributes.value(balancer, attributes.TLS_HEADERS) == attributes.TRUE and listener.protocol == "HTTPS":
        yield Header("X-Amzn-Tls-Version", (Fetch("ssl_fc_protocol"),))
        yield Header("X-Amzn-Tls-Cipher-Suite", (Fetch("ssl_fc_cipher"),))
    if attributes.value(listener, attributes.SERVER_HEADER) != attributes.TRUE:
        yield DropAnswerHeader("Server")
    for key, name in attributes.RESPONSE_HEADERS.items():
        if text := attributes.value(listener, key):
            yield Header(name, (text,), answer=True)


def _forwarded_for(balancer: Balancer) -> Iterator[Rule]:
    """Where it has none, and no port is wanted, HAProxy adds it by itself, which costs less."""
    if attributes.value(balancer, attributes.XFF_MODE) == "remove":
        yield DelHeader(XFF)
    if not _appends(balancer):
        return
    port = _with_port(balancer)
    client: tuple[str | Fetch, ...] = (Fetch("src"), ":", Fetch("src_port")) if port else (Fetch("src"),)
    yield Acl("forwarded", "req.hdr(x-forwarded-for)", "found")
    yield Header(XFF, (Fetch("req.fhdr(x-forwarded-for)"), ", ", *client), When(("forwarded",)))
    if port:
        yield Header(XFF, client, When(("!forwarded",)))


def _appends(balancer: Balancer) -> bool:
    return attributes.value(balancer, attributes.XFF_MODE) == "append"


def _with_port(balancer: Balancer) -> bool:
    return attributes.value(balancer, attributes.XFF_PORT) == attributes.TRUE


def _log(balancer: Balancer, listener: Listener, places: Places, logs: bool) -> tuple[str, tuple[str, ...]]:
    """Each request's line (TLS: each connection's), and where it goes: a listener has one form for all places."""
    web, ring = listener.protocol in WEB_PROTOCOLS, (f"ring@{RING}",) if places.times_socket else ()
    if logs and web:
        where = f"{balancer.address}:{listener.port}"
        return web_format(listener.protocol.lower(), balancer.arn, where), ("stdout", *ring)
    if logs and listener.protocol in SECURE:
        return tls_format(balancer.arn, short(listener.arn)), ("stdout", *ring)
    return (LINE, ring) if web and ring else ("", ())
