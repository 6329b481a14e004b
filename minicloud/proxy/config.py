"""HAProxy configuration as values: frontends, backends, servers, rules -> the text of haproxy.cfg. Pure.

Nothing reaches the text unchecked. Names, addresses and fetches must match a form; everything that may be free text is
quoted the way HAProxy's parser undoes (strong quotes, in which nothing is special but the quote itself); a line break
or another control character is refused, so a value can never become a directive. Raises InvalidParameterValue.

Order matters in HAProxy where it matters to a reader: rules are evaluated in the order given, the first final one wins.
Directive reference: HAProxy 2.8 configuration manual, sections 3 (global), 4 (proxies), 5 (bind, server), 7 (ACL).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue

NAME_CHARS_MAX = 64
VALUE_CHARS_MAX = 4096
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")
_FETCH = re.compile(r"^[a-z0-9_.,()\-/]+$")
_MATCH = frozenset({"str", "beg", "end", "sub", "dir", "dom", "reg", "ip", "int", "found", "bool"})
_HEADER = re.compile(r"^[A-Za-z0-9-]+$")
_HOSTNAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")
_ALPN = re.compile(r"^[a-z0-9/.,]+$")
_BALANCE = frozenset({"roundrobin", "leastconn", "random", "source", "first"})


@dataclass(frozen=True, slots=True)
class Bind:
    """One listening address. `h2`: HTTP/2 without negotiation, in clear text. `cert`: PEM of chain and key."""

    address: str
    port: int
    h2: bool = False
    cert: str = ""
    alpn: str = ""
    namespace: str = ""

    def render(self) -> str:
        parts = [f"bind {endpoint(self.address, self.port)}"]
        if self.namespace:
            parts.append(f"namespace {name(self.namespace, 'namespace')}")
        if self.cert:
            parts.append(f"ssl crt {quote(self.cert)}")
            parts.append("ssl-min-ver TLSv1.2")
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
        head = f"acl {name(self.name, 'acl')} {matching(_FETCH, self.fetch, 'fetch')} -m {self.match}"
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
        value = f"%[{matching(_FETCH, self.fetch, 'fetch')}]" if self.fetch else self.value.replace("%", "%%")
        return f"http-request set-header {matching(_HEADER, self.header, 'header')} {quote(value)}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class DelHeader:
    header: str
    when: When = When()

    def render(self) -> str:
        return f"http-request del-header {matching(_HEADER, self.header, 'header')}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class UseBackend:
    backend: str
    when: When

    def render(self) -> str:
        return f"use_backend {name(self.backend, 'backend')}{self.when.render()}"


Rule = Acl | Deny | SetHeader | DelHeader | UseBackend


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
class HealthCheck:
    """An HTTP request to each server every `interval_ms`; `rise`/`fall` answers in a row change its state."""

    path: str
    interval_ms: int = 2_000
    rise: int = 2
    fall: int = 2
    expect: str = "200-399"
    port: int = 0

    def backend_lines(self) -> Iterator[str]:
        yield "option httpchk"
        yield f"http-check send meth GET uri {quote(self.path)}"
        yield f"http-check expect status {matching(re.compile(r'^[0-9]{3}([,-][0-9]{3})*$'), self.expect, 'expect')}"

    def server_options(self) -> str:
        port = f" port {whole(self.port, 1, 65535, 'port')}" if self.port else ""
        counts = f"rise {whole(self.rise, 1, 100, 'rise')} fall {whole(self.fall, 1, 100, 'fall')}"
        return f"check inter {whole(self.interval_ms, 1, 10**7, 'interval_ms')}ms {counts}{port}"


@dataclass(frozen=True, slots=True)
class Server:
    """`weight` 0 keeps a server for those who have it already. `maxconn` 0: no limit."""

    name: str
    address: str
    port: int
    weight: int = 100
    h2: bool = False
    maxconn: int = 0
    backup: bool = False
    disabled: bool = False
    namespace: str = ""

    def render(self) -> str:
        target = endpoint(self.address, self.port)
        parts = [f"server {name(self.name, 'server')} {target} weight {whole(self.weight, 0, 256, 'weight')}"]
        if self.h2:
            parts.append("proto h2")
        if self.maxconn:
            parts.append(f"maxconn {whole(self.maxconn, 1, 10**6, 'maxconn')}")
        if self.namespace:
            parts.append(f"namespace {name(self.namespace, 'namespace')}")
        parts += [word for word, wanted in (("backup", self.backup), ("disabled", self.disabled)) if wanted]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Backend:
    """`tcp`: bytes, not requests. `retries`: how often a connection that was refused is tried again, 1 s apart.

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

    def render(self) -> Iterator[str]:
        yield f"backend {name(self.name, 'backend')}"
        yield f"mode {'tcp' if self.tcp else 'http'}"
        if self.balance not in _BALANCE:
            raise InvalidParameterValue(f"no such way to balance: {self.balance!r}", field="balance")
        yield f"balance {self.balance}"
        yield f"retries {whole(self.retries, 0, 100, 'retries')}"
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
        yield from self.timeouts.render()
        if self.tcp_keepalive:
            yield from ("option clitcpka", "clitcpka-idle 60s", "clitcpka-intvl 10s", "clitcpka-cnt 6")
        if self.forwarded_for:
            yield "option forwardfor"
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


def _rule_lines(rules: Sequence[Rule], as_tcp: bool) -> Iterator[str]:
    if rules and as_tcp:
        raise InvalidParameterCombination("rules read requests, and bytes are no requests", field="rules")
    for rule in rules:
        if isinstance(rule, Acl):
            yield from rule.render()
        else:
            yield rule.render()


@dataclass(frozen=True, slots=True)
class Global:
    """The process. `head_bytes_max` bounds a request's head (line and headers); each connection may hold two buffers.

    `stats_socket`: path of the runtime API's unix socket, mode 0600. `threads` 0: one per core.
    """

    stats_socket: str
    maxconn: int = 4_096
    threads: int = 0
    head_bytes_max: int = 16 * 1024
    hard_stop_after_s: int = 30
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
        yield f"tune.bufsize {whole(self.head_bytes_max, 4096, 1 << 20, 'head_bytes_max') + _REWRITE_BYTES}"
        yield f"tune.maxrewrite {_REWRITE_BYTES}"
        yield "defaults"
        yield "mode http"
        yield "log global"
        yield "option dontlognull"
        yield "option dontlog-normal"
        yield "option redispatch"
        yield from self.defaults.render()


_H2_PREFACE_BYTES = 24
_REWRITE_BYTES = 1024  # room in a buffer for the headers that HAProxy adds itself


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """A whole haproxy.cfg."""

    process: Global
    frontends: tuple[Frontend, ...] = ()
    backends: tuple[Backend, ...] = ()

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
        sections: list[Global | Frontend | Backend] = [self.process, *self.frontends, *self.backends]
        return "\n".join(_indent(list(section.render())) for section in sections) + "\n"


def _indent(lines: list[str]) -> str:
    heads = ("global", "defaults", "frontend ", "backend ")
    return "\n".join(line if line.startswith(heads) else f"    {line}" for line in lines)


# ---------------------------------------------------------------- checked values


def quote(value: str) -> str:
    """HAProxy's strong quotes. Raises InvalidParameterValue for control characters and absurd lengths."""
    if len(value) > VALUE_CHARS_MAX:
        raise InvalidParameterValue(f"longer than {VALUE_CHARS_MAX} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise InvalidParameterValue(f"holds a control character: {value[:80]!r}")
    return "'" + value.replace("'", "'\\''") + "'"


def name(value: str, field: str) -> str:
    if len(value) > NAME_CHARS_MAX:
        raise InvalidParameterValue(f"longer than {NAME_CHARS_MAX} characters: {value[:NAME_CHARS_MAX]!r}", field=field)
    return matching(_NAME, value, field)


def matching(form: re.Pattern[str], value: str, field: str) -> str:
    if not form.fullmatch(value):
        raise InvalidParameterValue(f"not a valid {field}: {value[:80]!r}", field=field)
    return value


def whole(value: int, low: int, high: int, field: str) -> int:
    if not low <= value <= high:
        raise InvalidParameterValue(f"must be between {low} and {high}, not {value}", field=field)
    return int(value)


def endpoint(address: str, port: int) -> str:
    """`address:port`; an IPv6 address in brackets. The address is numeric, '*' or a host name."""
    number = whole(port, 1, 65535, "port")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"{address if address == '*' else matching(_HOSTNAME, address, 'address')}:{number}"
    return f"[{parsed}]:{number}" if parsed.version == 6 else f"{parsed}:{number}"


def distinct(names: Sequence[str], field: str) -> None:
    if len(set(names)) != len(names):
        raise InvalidParameterValue(f"a {field} name is used twice: {sorted(names)}", field=field)
