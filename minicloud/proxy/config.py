"""HAProxy configuration as values: frontends, backends, servers, rules -> the text of haproxy.cfg. Pure.

Nothing reaches the text unchecked. Names, addresses and fetches must match a form; everything that may be free text is
quoted the way HAProxy's parser undoes (strong quotes, in which nothing is special but the quote itself); a line break
or another control character is refused, so a value can never become a directive. Raises InvalidParameterValue.

Order matters in HAProxy where it matters to a reader: rules are evaluated in the order given, the first final one wins.
Directive reference: HAProxy 2.8 configuration manual, sections 3 (global), 4 (proxies), 5 (bind, server), 7 (ACL).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue
from minicloud.proxy.checked import FETCH, HEADER, distinct, endpoint, matching, name, quote, whole
from minicloud.proxy.health import HealthCheck

_MATCH = frozenset({"str", "beg", "end", "sub", "dir", "dom", "reg", "ip", "int", "found", "bool"})
_ALPN = re.compile(r"^[a-z0-9/.,]+$")
_TLS = re.compile(r"^TLSv1\.[23]$")
_COOKIE = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
LOG_LINE_BYTES_MAX = 60_000  # ours: more than the longest, with each character escaped; HAProxy's own is 1,024
_LOG = re.compile(r"^(stdout|ring@[a-z]+)$")
_BALANCE = frozenset({"roundrobin", "leastconn", "random", "random(1)", "source", "first"})


@dataclass(frozen=True, slots=True)
class Bind:
    """One listening address. `h2`: HTTP/2 without negotiation, in clear text. `cert`: PEM of chain and key.

    `others`: certificates for other names, chosen by SNI. `tls`: the lowest and the highest version.
    """

    address: str
    port: int
    h2: bool = False
    cert: str = ""
    alpn: str = ""
    namespace: str = ""
    others: tuple[str, ...] = ()
    tls: tuple[str, str] = ("TLSv1.2", "TLSv1.3")

    def render(self) -> str:
        parts = [f"bind {endpoint(self.address, self.port)}"]
        if self.namespace:
            parts.append(f"namespace {name(self.namespace, 'namespace')}")
        if self.cert:
            parts.append("ssl " + " ".join(f"crt {quote(path)}" for path in (self.cert, *self.others)))
            low, high = (matching(_TLS, version, "tls") for version in self.tls)
            parts.append(f"ssl-min-ver {low} ssl-max-ver {high}")
            if self.alpn:
                parts.append(f"alpn {matching(_ALPN, self.alpn, 'alpn')}")
        if self.h2 and not self.cert:
            parts.append("proto h2")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Acl:
    """A named condition: `fetch` (a sample expression, 7.3) matched by `match` (7.1.2) against any of `values`."""

    name: str
    fetch: str
    match: str
    values: tuple[str, ...] = ()
    ignore_case: bool = False

    def render(self) -> Iterator[str]:
        if self.match not in _MATCH:
            raise InvalidParameterValue(f"no such match: {self.match!r}", field="match")
        head = f"acl {name(self.name, 'acl')} {matching(FETCH, self.fetch, 'fetch')} -m {self.match}"
        if self.match in ("found", "bool"):
            yield head
            return
        if not self.values:
            raise InvalidParameterValue(f"acl {self.name} has nothing to match", field="values")
        flags = " -i" if self.ignore_case else ""
        for value in self.values:  # lines of one name are alternatives
            yield f"{head}{flags} -- {quote(value)}"


@dataclass(frozen=True, slots=True)
class When:
    """All of these acls; one that starts with '!' must not hold."""

    acls: tuple[str, ...] = ()

    def render(self) -> str:
        if not self.acls:
            return ""
        return " if " + " ".join("!" * acl.startswith("!") + name(acl.removeprefix("!"), "acl") for acl in self.acls)


ALWAYS = When()


@dataclass(frozen=True, slots=True)
class Deny:
    """Answer here and now. `text` is the plain-text body ('' leaves HAProxy's own page)."""

    status: int
    when: When
    text: str = ""

    def render(self) -> str:
        status = whole(self.status, 200, 599, "status")
        if not self.text:
            return f"http-request deny deny_status {status}{self.when.render()}"
        body = f"content-type text/plain string {quote(self.text)}"
        return f"http-request return status {status} {body}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class SetHeader:
    """`value` is fixed text, or a sample expression in %[...] when `fetch` is given instead."""

    header: str
    value: str = ""
    fetch: str = ""
    when: When = When()

    def render(self) -> str:
        value = f"%[{matching(FETCH, self.fetch, 'fetch')}]" if self.fetch else self.value.replace("%", "%%")
        return f"http-request set-header {matching(HEADER, self.header, 'header')} {quote(value)}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class DelHeader:
    header: str
    when: When = When()

    def render(self) -> str:
        return f"http-request del-header {matching(HEADER, self.header, 'header')}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class UseBackend:
    backend: str
    when: When

    def render(self) -> str:
        return f"use_backend {name(self.backend, 'backend')}{self.when.render()}"


class Directive(Protocol):
    """One line of a frontend or backend that acts on requests or answers; more of them are in directives.py."""

    def render(self) -> str:
        """The line. Raises InvalidParameterValue."""
        ...


Rule = Acl | Deny | SetHeader | DelHeader | UseBackend | Directive


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Milliseconds; None leaves what `defaults` says. Meaning: HAProxy manual, section 4.2, `timeout ...`."""

    client: int | None = None
    server: int | None = None
    connect: int | None = None
    queue: int | None = None
    tunnel: int | None = None
    http_request: int | None = None
    http_keep_alive: int | None = None
    check: int | None = None

    def render(self) -> Iterator[str]:
        for key in ("client", "server", "connect", "queue", "tunnel", "http_request", "http_keep_alive", "check"):
            value: int | None = getattr(self, key)
            if value is not None:
                yield f"timeout {key.replace('_', '-')} {whole(value, 1, 2**31 - 1, key)}ms"


@dataclass(frozen=True, slots=True)
class Server:
    """`weight` 0 keeps a server for those who have it already. `maxconn` 0: no limit.

    `cookie`: how a sticky client names it. `tls`: without a look at its certificate. `proxy_v2`: tell it who asks.
    """

    name: str
    address: str
    port: int
    weight: int = 100
    h2: bool = False
    maxconn: int = 0
    backup: bool = False
    disabled: bool = False
    namespace: str = ""
    cookie: str = ""
    slow_start_s: int = 0
    tls: bool = False
    proxy_v2: bool = False

    def render(self) -> str:
        target = endpoint(self.address, self.port)
        parts = [f"server {name(self.name, 'server')} {target} weight {whole(self.weight, 0, 256, 'weight')}"]
        if self.tls:
            parts.append("ssl verify none alpn h2 check-alpn h2" if self.h2 else "ssl verify none")
        elif self.h2:
            parts.append("proto h2")
        if self.cookie:
            parts.append(f"cookie {name(self.cookie, 'cookie')}")
        if self.slow_start_s:
            parts.append(f"slowstart {whole(self.slow_start_s, 1, 86_400, 'slow_start_s')}s")
        if self.proxy_v2:
            parts.append("send-proxy-v2")
        if self.maxconn:
            parts.append(f"maxconn {whole(self.maxconn, 1, 10**6, 'maxconn')}")
        if self.namespace:
            parts.append(f"namespace {name(self.namespace, 'namespace')}")
        parts += [word for word, wanted in (("backup", self.backup), ("disabled", self.disabled)) if wanted]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Cookie:
    """Clients stay with their server. `idle_s`: a cookie of ours that lasts so long after its last use; 0: our word in
    front of the application's own cookie, which then says both.
    """

    name: str
    idle_s: int = 0

    def render(self) -> str:
        head = f"cookie {quote(matching(_COOKIE, self.name, 'cookie'))}"
        if not self.idle_s:
            return f"{head} prefix"
        return f"{head} insert indirect maxidle {whole(self.idle_s, 1, 10**7, 'idle_s')}s"


@dataclass(frozen=True, slots=True)
class Backend:
    """`tcp`: bytes, not requests. `retries`: how often a connection that was refused is tried again, 1 s apart, at the
    last time with another server; `elsewhere`: each time, and at once.

    `rules`: here as in a frontend, after those of the frontend; without UseBackend.
    """

    name: str
    servers: tuple[Server, ...] = ()
    rules: tuple[Rule, ...] = ()
    tcp: bool = False
    balance: str = "roundrobin"
    retries: int = 3
    timeouts: Timeouts = Timeouts()
    health: HealthCheck | None = None
    tcp_keepalive: bool = False
    cookie: Cookie | None = None
    elsewhere: bool = False

    def render(self) -> Iterator[str]:
        yield f"backend {name(self.name, 'backend')}"
        yield f"mode {'tcp' if self.tcp else 'http'}"
        if self.balance not in _BALANCE:
            raise InvalidParameterValue(f"no such way to balance: {self.balance!r}", field="balance")
        yield f"balance {self.balance}"
        yield f"retries {whole(self.retries, 0, 100, 'retries')}"
        if self.elsewhere:
            yield "option redispatch 1"
        if self.cookie:
            yield self.cookie.render()
        yield from self.timeouts.render()
        if self.tcp_keepalive:
            yield from ("option srvtcpka", "srvtcpka-idle 60s", "srvtcpka-intvl 10s", "srvtcpka-cnt 6")
        yield from _rule_lines(self.rules, self.tcp)
        if self.health:
            yield from self.health.backend_lines()
        distinct([server.name for server in self.servers], "server")
        for server in self.servers:
            yield f"{server.render()} {self.health.server_options()}" if self.health else server.render()


@dataclass(frozen=True, slots=True)
class Frontend:
    """What clients connect to. The first matching UseBackend wins, else `default_backend` ('' answers 503).

    `h2_within_ms`: speak HTTP/2 only, and hang up on who has not sent its preface by then. HAProxy starts an HTTP/2
    connection as TCP for this (a connection that says nothing is otherwise held for `timeout client`, which must be
    long where streams are), and has no request to apply rules to yet: they go into the backend.
    `per_source_max`: connections that one address may have, 0: any number.
    `patient`: a process that leaves closes an idle connection with the next answer on it, not at once.
    `log_format`: of a line for each request, '' for none; `log_to`: where it goes. `silent`: nor of failures.
    `forwarded_for`: add X-Forwarded-For; `forwarded_for_once`: where there is none.
    """

    name: str
    binds: tuple[Bind, ...]
    rules: tuple[Rule, ...] = ()
    default_backend: str = ""
    tcp: bool = False
    maxconn: int = 2_000
    timeouts: Timeouts = Timeouts()
    tcp_keepalive: bool = False
    forwarded_for: bool = False
    h2_within_ms: int = 0
    per_source_max: int = 0
    log_format: str = ""
    log_to: tuple[str, ...] = ("stdout",)
    patient: bool = False
    silent: bool = False
    forwarded_for_once: bool = False

    def render(self) -> Iterator[str]:
        as_tcp = self.tcp or self.h2_within_ms > 0
        yield f"frontend {name(self.name, 'frontend')}"
        yield f"mode {'tcp' if as_tcp else 'http'}"
        yield f"maxconn {whole(self.maxconn, 1, 10**6, 'maxconn')}"
        if not self.binds:
            raise InvalidParameterValue(f"frontend {self.name} listens nowhere", field="binds")
        if as_tcp and any(bind.h2 for bind in self.binds):
            raise InvalidParameterCombination("a bind cannot be h2 where connections start as TCP", field="binds")
        yield from (bind.render() for bind in self.binds)
        yield from self._log()
        yield from self.timeouts.render()
        yield from self._options()
        if self.per_source_max:
            yield "stick-table type ipv6 size 100k expire 60s store conn_cur"
            yield "tcp-request connection track-sc0 src"
            limit = whole(self.per_source_max, 1, 10**6, "per_source_max")
            yield f"tcp-request connection reject if {{ sc0_conn_cur gt {limit} }}"
        if self.h2_within_ms:
            yield f"tcp-request inspect-delay {whole(self.h2_within_ms, 1, 10**6, 'h2_within_ms')}ms"
            yield f"tcp-request content switch-mode http proto h2 if {{ req.len ge {_H2_PREFACE_BYTES} }}"
            yield "tcp-request content reject"
        yield from _rule_lines(self.rules, as_tcp)
        if self.default_backend:
            yield f"default_backend {name(self.default_backend, 'backend')}"

    def _log(self) -> Iterator[str]:
        if self.log_format:
            to = (matching(_LOG, one, "log_to") for one in self.log_to)
            yield from (f"log {one} len {LOG_LINE_BYTES_MAX} format raw local0 info" for one in to)
            yield "no option dontlog-normal"
            yield f"log-format {quote(self.log_format)}"
        elif self.silent:
            yield "no log"

    def _options(self) -> Iterator[str]:
        if self.tcp_keepalive:
            yield from ("option clitcpka", "clitcpka-idle 60s", "clitcpka-intvl 10s", "clitcpka-cnt 6")
        if self.patient:
            yield "option idle-close-on-response"
        if self.forwarded_for:
            yield "option forwardfor"
        if self.forwarded_for_once:
            yield "option forwardfor if-none"


def _rule_lines(rules: Sequence[Rule], as_tcp: bool) -> Iterator[str]:
    if as_tcp and not all(isinstance(rule, Acl | UseBackend) for rule in rules):
        raise InvalidParameterCombination("rules read requests, and bytes are no requests", field="rules")
    for rule in rules:
        if isinstance(rule, Acl):
            yield from rule.render()
        else:
            yield rule.render()


@dataclass(frozen=True, slots=True)
class Global:
    """The process. `head_bytes_max` bounds a request's head (line and headers); each connection may hold two buffers,
    of that size or of `buffer_bytes`, where that is more: then it is for the frontends' rules to bound the head.

    `stats_socket`: path of the runtime API's unix socket, mode 0600. `threads` 0: one per core. `server_states`: a file
    that says how servers are when the process starts. `hot_bytes`: memory that each thread keeps at hand, 0: HAProxy's
    512 KiB, which are eight buffers of 64 KiB. `logged_url_bytes`: of a longer URL a log has the beginning.
    """

    stats_socket: str
    maxconn: int = 4_096
    threads: int = 0
    head_bytes_max: int = 16 * 1024
    buffer_bytes: int = 0
    hard_stop_after_s: int = 30
    server_states: str = ""
    hot_bytes: int = 0
    logged_url_bytes: int = 1_024
    defaults: Timeouts = field(default_factory=lambda: Timeouts(client=60_000, server=60_000, connect=5_000))

    def render(self) -> Iterator[str]:
        yield "global"
        yield "log stderr format raw daemon notice"
        yield f"maxconn {whole(self.maxconn, 1, 10**6, 'maxconn')}"
        if self.threads:
            yield f"nbthread {whole(self.threads, 1, 64, 'threads')}"
        yield f"stats socket {quote(self.stats_socket)} mode 600 level admin expose-fd listeners"
        yield "stats timeout 1h"
        yield f"hard-stop-after {whole(self.hard_stop_after_s, 1, 86_400, 'hard_stop_after_s')}s"
        # Two processes must not share a port in silence; a reload hands its sockets over instead.
        yield "noreuseport"
        whole(self.head_bytes_max, 4096, 1 << 20, "head_bytes_max")
        whole(self.buffer_bytes, 0, 1 << 20, "buffer_bytes")
        yield f"tune.bufsize {max(self.head_bytes_max, self.buffer_bytes) + _REWRITE_BYTES}"
        yield f"tune.maxrewrite {_REWRITE_BYTES}"
        yield f"tune.http.logurilen {whole(self.logged_url_bytes, 1_024, LOG_LINE_BYTES_MAX, 'logged_url_bytes')}"
        if self.hot_bytes:
            yield f"tune.memory.hot-size {whole(self.hot_bytes, 1 << 19, 1 << 30, 'hot_bytes')}"
        if self.server_states:
            yield f"server-state-file {quote(self.server_states)}"
        yield "defaults"
        yield "mode http"
        yield "log global"
        yield "option dontlognull"
        yield "option dontlog-normal"
        yield "option redispatch"
        if self.server_states:
            yield "load-server-state-from-file global"
        yield from self.defaults.render()


_H2_PREFACE_BYTES = 24
_REWRITE_BYTES = 1024  # room in a buffer for the headers that HAProxy adds itself


class Section(Protocol):
    def render(self) -> Iterable[str]:
        """Its lines, the head first. Raises InvalidParameterValue."""
        ...


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """A whole haproxy.cfg."""

    process: Global
    frontends: tuple[Frontend, ...] = ()
    backends: tuple[Backend, ...] = ()
    rings: tuple[Section, ...] = ()

    def render(self) -> str:
        """Raises InvalidParameterValue, also where a rule names a backend that is not there."""
        distinct([frontend.name for frontend in self.frontends], "frontend")
        backends = [backend.name for backend in self.backends]
        distinct(backends, "backend")
        for frontend in self.frontends:
            used = [rule.backend for rule in frontend.rules if isinstance(rule, UseBackend)]
            for wanted in filter(None, [*used, frontend.default_backend]):
                if wanted not in backends:
                    raise InvalidParameterValue(f"{frontend.name} uses backend {wanted}, which is not there")
        sections: list[Section] = [self.process, *self.rings, *self.frontends, *self.backends]
        return "\n".join(_indent(list(section.render())) for section in sections) + "\n"


def _indent(lines: list[str]) -> str:
    heads = ("global", "defaults", "ring ", "frontend ", "backend ")
    return "\n".join(line if line.startswith(heads) else f"    {line}" for line in lines)
