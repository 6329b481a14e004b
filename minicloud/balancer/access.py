"""Lines of HAProxy's -> entries of access logs, in AWS's form, and where they go. Pure.

Source: ALB guide, "Access log entries". NLB's page of that name has entries of TLS listeners alone; here are those
of TCP too, in HAProxy's words. AWS puts files into a bucket: here a bucket is a log group, and what would be the place
of its files is the stream:

    /aws/elasticloadbalancing/BUCKET      PREFIX/AWSLogs/ACCOUNT/elasticloadbalancing/REGION/app.NAME.ID

What HAProxy does not know is "-": the rule's priority, the certificate, why a request was answered by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from minicloud.balancer import attributes, groups
from minicloud.balancer.backends import OPEN
from minicloud.balancer.model import APPLICATION, Balancer, Group
from minicloud.balancer.state import State
from minicloud.base.arn import Scope

_TOKENS = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_WEB_TOKENS = 20
GROUP = "/aws/elasticloadbalancing/"


class Place(NamedTuple):
    scope: Scope
    group: str
    stream: str


Entries = dict[Place, list[tuple[float, str]]]


def web_format(scheme: str, name: str, where: str) -> str:
    """The line that `_entry` takes apart. scheme: http, https; name: app/NAME/ID; where: address:port.

    proxy/timing.py reads the seventh word and the last but one.
    """
    request = f'"%HM {scheme}://{where}%{{+E}}HU %HV"'
    words = "%ci:%cp %si:%sp %TR %Tr %Td %ST %U %B"
    told = "%{+Q,+E}[var(txn.agent)] %sslc %sslv %{+Q,+E}[var(txn.trace)] %{+Q,+E}[ssl_fc_sni]"
    return f"{scheme} %[date(0,ms)] {name} {words} {request} {told} %Tt %b %ts"


def entries(state: State, lines: Iterable[str]) -> Entries:
    """By place; those of balancers that are gone, or keep no log, are left out."""
    balancers = {_tail(one): one for one in state.balancers.values() if one.type == APPLICATION or _keeps(one)}
    sections = {groups.section(group): group for group in state.groups.values()}
    found: Entries = {}
    for line in lines:
        tokens = [text or word for text, word in _TOKENS.findall(line)]
        owner = balancers.get(tokens[2]) if len(tokens) > 2 else None
        if owner is None or not _keeps(owner):
            continue
        if tokens[0] not in ("http", "https"):
            found.setdefault(_place(owner), []).append((int(tokens[1]) / 1000 if tokens[1].isdigit() else 0.0, line))
        elif len(tokens) == _WEB_TOKENS and tokens[1].isdigit():
            at_ms = int(tokens[1])
            found.setdefault(_place(owner), []).append((at_ms / 1000, _entry(tokens, at_ms, sections)))
    return found


def _entry(tokens: list[str], at_ms: int, sections: Mapping[str, Group]) -> str:
    scheme, _, name, client, server, *numbers = tokens[:11]
    reading, answer, sending, status, received, sent = numbers
    request, agent, cipher, protocol, trace, sni, total, backend = tokens[11:19]
    target = server if not server.startswith(("-", "<")) else "-"
    owner = sections.get(backend.removesuffix(OPEN))
    group = owner.arn if owner is not None else "-"
    shown = "-" if owner is not None and owner.has_function else target  # a function is at no address
    secure = scheme == "https"
    kind = "h2" if request.endswith("HTTP/2.0") else scheme
    answered = status if target != "-" and answer != "-1" else "-"
    created_ms = at_ms - (int(total) if total.isdigit() else 0)
    words = (
        kind,
        _stamp(at_ms),
        name,
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
        '"-"',
        "-",
        _stamp(created_ms),
        f'"{"forward" if group != "-" else "-"}"',
        '"-"',
        '"-"',
        f'"{shown}"',
        f'"{answered}"',
        '"-"',
        '"-"',
        "-",
    )
    return " ".join(words)


def _keeps(one: Balancer) -> bool:
    return attributes.value(one, attributes.LOGS) == attributes.TRUE


def _place(one: Balancer) -> Place:
    prefix = attributes.value(one, attributes.LOGS_PREFIX)
    path = f"AWSLogs/{one.account}/elasticloadbalancing/{one.region}/{_tail(one).replace('/', '.')}"
    stream = f"{prefix}/{path}" if prefix else path
    return Place(one.scope, GROUP + attributes.value(one, attributes.LOGS_BUCKET), stream)


def _tail(one: Balancer) -> str:
    return one.arn.split(":loadbalancer/", 1)[1]


def _stamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}000Z"


def _seconds(ms: str) -> str:
    return f"{int(ms) / 1000:.3f}" if ms.isdigit() else "-1"
