"""Lines of HAProxy's -> entries of access logs, in AWS's form, and where they go. Pure.

Source: ALB guide, "Access log entries"; NLB guide, the page of that name: of a network balancer there are entries of
connections to TLS listeners, and of nothing else. AWS puts files into a bucket: here a bucket is a log group, and what
would be the place of its files is the stream:

    /aws/elasticloadbalancing/BUCKET      PREFIX/AWSLogs/ACCOUNT/elasticloadbalancing/REGION/app.NAME.ID

What HAProxy does not know is "-": the rule's priority, the URL of a redirect, why a request was answered by itself, the
alert with which a client ended TLS.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from minicloud.balancer import attributes, groups
from minicloud.balancer.backends import OPEN
from minicloud.balancer.model import Balancer, Group
from minicloud.balancer.state import State
from minicloud.base.arn import Scope

_TOKENS = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_WEB_TOKENS, _TLS_TOKENS = 22, 15
_PROTOCOLS = {"TLSv1.2": "tlsv12", "TLSv1.3": "tlsv13"}  # NLB guide: tls_protocol_version
_LOCAL = "LR"  # how HAProxy's own answers end, in its words
GROUP = "/aws/elasticloadbalancing/"


class Place(NamedTuple):
    scope: Scope
    group: str
    stream: str


Entries = dict[Place, list[tuple[float, str]]]


class _Known(NamedTuple):
    """What is to be told of one balancer. groups: by section; certificates: their ARNs by digest."""

    name: str
    place: Place
    groups: Mapping[str, Group]
    certificates: Mapping[str, str]


def web_format(scheme: str, balancer: str, where: str) -> str:
    """The line that `_web` takes apart. scheme: http, https; balancer: its ARN; where: address:port.

    proxy/timing.py reads the seventh word and the last but one.
    """
    request = f'"%HM {scheme}://{where}%{{+E}}HU %HV"'
    words = "%ci:%cp %si:%sp %TR %Tr %Td %ST %U %B"
    told = "%{+Q,+E}[var(txn.agent)] %sslc %sslv %{+Q,+E}[var(txn.trace)] %{+Q,+E}[ssl_fc_sni]"
    shown = "%[ssl_fc_is_resumed] %[ssl_f_sha1,hex]"
    return f"{scheme} %[date(0,ms)] {balancer} {words} {request} {told} {shown} %Tt %b %ts"


def tls_format(balancer: str, listener: str) -> str:
    """The line that `_tls` takes apart. balancer: its ARN; listener: the last part of its."""
    words = "%ci:%cp %fi:%fp %Tt %Th %U %B %[ssl_f_sha1,hex] %sslc %sslv"
    return f"tls %[date(0,ms)] {balancer} {listener} {words} %{{+Q,+E}}[ssl_fc_sni] %b"


def entries(state: State, lines: Iterable[str]) -> Entries:
    """By place; those of balancers that are gone, or keep no log, are left out."""
    balancers: dict[str, _Known | None] = {}
    found: Entries = {}
    for line in lines:
        tokens = [text or word for text, word in _TOKENS.findall(line)]
        if len(tokens) not in (_WEB_TOKENS, _TLS_TOKENS) or not tokens[1].isdigit():
            continue
        if tokens[2] not in balancers:
            balancers[tokens[2]] = _known(state, tokens[2])
        known = balancers[tokens[2]]
        if known is not None:
            entry = _web if len(tokens) == _WEB_TOKENS else _tls
            at_ms = int(tokens[1])
            found.setdefault(known.place, []).append((at_ms / 1000, entry(tokens, at_ms, known)))
    return found


def _known(state: State, arn: str) -> _Known | None:
    one = state.balancers.get(arn)
    if one is None or attributes.value(one, attributes.LOGS) != attributes.TRUE:
        return None
    used = {key for listener in state.listeners_of(arn) for key in listener.certificates}
    certificates = {_digest(state.certificates[key].certificate): key for key in used}
    return _Known(
        _tail(one), _place(one), {groups.section(group): group for group in state.groups_of(arn)}, certificates
    )


def _web(tokens: list[str], at_ms: int, known: _Known) -> str:
    scheme, _, _, client, server, *numbers = tokens[:11]
    reading, answer, sending, status, received, sent = numbers
    request, agent, cipher, protocol, trace, sni, resumed, digest, total, backend, end = tokens[11:]
    target = server if not server.startswith(("-", "<")) else "-"
    owner = known.groups.get(backend.removesuffix(OPEN))
    group = owner.arn if owner is not None else "-"
    shown = "-" if owner is not None and owner.has_function else target  # a function is at no address
    secure = scheme == "https"
    answered = status if target != "-" and answer != "-1" else "-"
    certificate = "session-reused" if resumed == "1" else known.certificates.get(digest, "-")
    words = (
        "h2" if request.endswith("HTTP/2.0") else scheme,
        _stamp(at_ms),
        known.name,
        client,
        shown,
        _seconds(reading) if target != "-" else "-1",
        _seconds(answer),
        _seconds(sending) if target != "-" else "-1",
        status,
        answered,
        received,
        sent,
        f'"{request}"',
        f'"{agent or "-"}"',
        cipher if secure else "-",
        protocol if secure else "-",
        group,
        f'"{trace or "-"}"',
        f'"{sni or "-"}"' if secure else '"-"',
        f'"{certificate}"' if secure else '"-"',
        "-",
        _stamp(at_ms - _ms(total)),
        f'"{_action(group, status, end)}"',
        '"-"',
        '"-"',
        f'"{shown}"',
        f'"{answered}"',
        '"-"',
        '"-"',
        "-",
    )
    return " ".join(words)


def _action(group: str, status: str, end: str) -> str:
    """actions_executed: a redirect is 301 or 302, which a fixed response cannot be."""
    if group != "-":
        return "forward"
    if end != _LOCAL:
        return "-"
    return "redirect" if status in ("301", "302") else "fixed-response"


def _tls(tokens: list[str], at_ms: int, known: _Known) -> str:
    listener, client, destination, total, handshake, received, sent, digest, cipher, protocol, sni = tokens[3:14]
    words = (
        "tls",
        "2.0",
        _moment(at_ms),
        known.name,
        listener,
        client,
        destination,
        total,
        handshake if handshake.isdigit() else "-",
        received,
        sent,
        "-",
        known.certificates.get(digest, "-"),
        "-",
        cipher,
        _PROTOCOLS.get(protocol, "-"),
        "-",
        quote(sni, safe="") or "-",
        "-",
        "-",
        "-",
        _moment(at_ms - _ms(total)),
    )
    return " ".join(words)


@lru_cache(maxsize=1_000)
def _digest(certificate: str) -> str:
    """As HAProxy's `ssl_f_sha1,hex` of a PEM: which of a listener's certificates a client got."""
    body = certificate.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
    return hashlib.sha1(base64.b64decode(body), usedforsecurity=False).hexdigest().upper()


def _place(one: Balancer) -> Place:
    prefix = attributes.value(one, attributes.LOGS_PREFIX)
    path = f"AWSLogs/{one.account}/elasticloadbalancing/{one.region}/{_tail(one).replace('/', '.')}"
    stream = f"{prefix}/{path}" if prefix else path
    return Place(one.scope, GROUP + attributes.value(one, attributes.LOGS_BUCKET), stream)


def _tail(one: Balancer) -> str:
    return one.arn.split(":loadbalancer/", 1)[1]


def _stamp(ms: int) -> str:
    return f"{_moment(ms)}.{ms % 1000:03d}000Z"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _ms(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _seconds(ms: str) -> str:
    return f"{int(ms) / 1000:.3f}" if ms.isdigit() else "-1"
