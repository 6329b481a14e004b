"""The rules of a listener as HAProxy's directives. Pure.

Rules are tried in their order. A forward remembers the name of a backend and ends the trying; an answer of our own (a
redirect, a fixed response) ends the request. What is remembered is looked up once, at the end:

    txn.tg     the target group's section       txn.roll   the lot that weights are drawn by
    txn.rule   the rule, where clients stick to one of its groups

Conditions become acls named r<rule>c<condition>; a rule's line holds if all of them do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from minicloud.balancer import attributes
from minicloud.balancer.actions import FIXED, FORWARD
from minicloud.balancer.backends import OPEN
from minicloud.balancer.conditions import HEADER, HOST, METHOD, PATH, QUERY, SOURCE, is_plain, pattern
from minicloud.balancer.groups import section
from minicloud.balancer.model import Action, Condition, Group, Listener, Rule
from minicloud.balancer.state import State
from minicloud.proxy.config import Acl, UseBackend, When
from minicloud.proxy.config import Rule as Line
from minicloud.proxy.directives import Allow, Fetch, Format, Header, Redirect, Respond, SetVar, UseNamed

COOKIE = "AWSALBTG"  # AWS's
SERVER = "awselb/2.0"  # AWS's
_SENDERS = {"HTTP": "http", "HTTPS": "https"}
_WORD = re.compile(r"#\{(\w+)\}")


def plain(state: State, listener: Listener) -> Group | None:
    """The group of a listener that does nothing but forward to one."""
    rules = state.rules_of(listener.arn)
    action = rules[0].action
    if len(rules) > 1 or action.type != FORWARD or len(action.groups) > 1 or action.sticky_s:
        return None
    return state.groups[action.groups[0].group]


def lines(state: State, listener: Listener) -> Iterator[Line]:
    """What makes requests of this listener go where its rules say."""
    alone = plain(state, listener)
    if alone is not None:
        yield from straight(alone)
        return
    yield Acl("decided", "var(txn.tg)", "found")
    for number, rule in enumerate(state.rules_of(listener.arn)):
        conditions = []
        for place, condition in enumerate(rule.conditions):
            name = f"r{number}c{place}"
            yield from _acls(name, condition)
            conditions.append(name)
        yield from _act(state, listener, rule, (number, tuple(conditions)))
    yield from _lookups(state, listener)


def straight(group: Group) -> Iterator[Line]:
    """All to one group. The default backend is the listener's."""
    name, least = section(group), attributes.value(group, attributes.HEALTHY_MIN)
    yield Acl("lost", f"nbsrv({name})", "int", (f":{int(least) - 1}",))
    yield UseBackend(name + OPEN, When(("lost",)))


def _act(state: State, listener: Listener, rule: Rule, at: tuple[int, tuple[str, ...]]) -> Iterator[Line]:
    number, conditions = at
    action, when = rule.action, When(conditions)
    if action.type == FORWARD:
        yield from _forward(state, action, number, conditions)
    elif action.type == FIXED:
        kind = action.content_type or "text/plain"
        server = attributes.value(listener, attributes.SERVER_HEADER) == attributes.TRUE
        yield Respond(action.status, when, kind, action.text, (("Server", SERVER),) if server else ())
    else:
        yield from _redirect(listener, action, number, conditions)


def _forward(state: State, action: Action, number: int, conditions: tuple[str, ...]) -> Iterator[Line]:
    names = [(section(state.groups[one.group]), one.weight) for one in action.groups]
    if action.sticky_s:
        yield SetVar("txn.rule", text=str(number), when=When(conditions))
        yield Acl(f"stays{number}", f"req.cook({COOKIE})", "str", tuple(name for name, _ in names))
        yield SetVar("txn.tg", fetch=f"req.cook({COOKIE})", when=When((*conditions, f"stays{number}")))
    total = sum(weight for _, weight in names)
    if len(names) > 1 and total:
        yield SetVar("txn.roll", fetch=f"rand({total})", when=When((*conditions, "!decided")))
    reached = 0
    for place, (name, weight) in enumerate(names):
        reached += weight
        if not weight and total:
            continue
        if reached >= total:  # the last one that gets anything; without weights AWS answers 503, so here: see below
            yield SetVar("txn.tg", text=name if total else "none", when=When((*conditions, "!decided")))
            break
        acl = f"w{number}g{place}"
        yield Acl(acl, "var(txn.roll)", "int", (f":{reached - 1}",))
        yield SetVar("txn.tg", text=name, when=When((*conditions, "!decided", acl)))
    if conditions:
        yield Allow(When(("decided",)))


def _redirect(listener: Listener, action: Action, number: int, conditions: tuple[str, ...]) -> Iterator[Line]:
    protocol = action.protocol if action.protocol in _SENDERS else listener.protocol
    head: Format = (
        f"{_SENDERS[protocol]}://",
        *_parts(listener, action.host),
        ":",
        *_parts(listener, action.port),
        *_parts(listener, action.path),
    )
    if action.query == "#{query}":
        yield Acl(f"asks{number}", "query", "found")
        yield Redirect(action.status, (*head, "?", Fetch("query")), When((*conditions, f"asks{number}")))
    elif action.query:
        head = (*head, "?", *_parts(listener, action.query))
    yield Redirect(action.status, head, When(conditions))


def _parts(listener: Listener, text: str) -> Iterator[str | Fetch]:
    """AWS's words as fetches; the path's has no slash in front."""
    words: dict[str, str | Fetch] = {
        "protocol": _SENDERS[listener.protocol],
        "port": str(listener.port),
        "host": Fetch("req.hdr(host),host_only"),
        "path": Fetch("path,bytes(1)"),
        "query": Fetch("query"),
    }
    for place, piece in enumerate(_WORD.split(text)):
        if place % 2:
            yield words[piece]
        elif piece:
            yield piece


def _lookups(state: State, listener: Listener) -> Iterator[Line]:
    """Cookies of clients that stay, and the way to what was remembered: its open twin where it has too few servers."""
    rules = state.rules_of(listener.arn)
    for number, rule in enumerate(rules):
        if rule.action.sticky_s:
            yield Acl(f"in{number}", "var(txn.rule)", "str", (str(number),))
            until = Fetch(f"date({rule.action.sticky_s}),http_date")
            cookie: Format = (f"{COOKIE}=", Fetch("var(txn.tg)"), "; Expires=", until, "; Path=/")
            yield Header("Set-Cookie", cookie, When((f"in{number}",)), add=True, answer=True)
    names = {one.group for rule in rules for one in rule.action.groups}
    if not names:
        return
    yield Acl("lost", "var(txn.tg),nbsrv", "int", (":0",))
    yield UseNamed("txn.tg", OPEN, When(("decided", "lost")))
    for place, arn in enumerate(sorted(names)):
        least = int(attributes.value(state.groups[arn], attributes.HEALTHY_MIN))
        if least > 1:
            name = section(state.groups[arn])
            yield Acl(f"is{place}", "var(txn.tg)", "str", (name,))
            yield Acl(f"few{place}", f"nbsrv({name})", "int", (f":{least - 1}",))
            yield UseBackend(name + OPEN, When((f"is{place}", f"few{place}")))
    yield UseNamed("txn.tg", when=When(("decided",)))


def _acls(name: str, condition: Condition) -> Iterator[Acl]:
    """Acls of one name are alternatives."""
    if condition.field == METHOD:
        yield Acl(name, "method", "str", condition.values)
    elif condition.field == SOURCE:
        yield Acl(name, "src", "ip", condition.values)
    elif condition.field == QUERY:
        yield Acl(name, "query", "reg", tuple(_pair(value) for value in condition.values), ignore_case=True)
    else:
        fetch = {HOST: "req.hdr(host),host_only", PATH: "path", HEADER: f"req.fhdr({condition.header.lower()})"}
        any_case = condition.field != PATH
        same = tuple(value for value in condition.values if is_plain(value))
        like = tuple(f"^{pattern(value)}$" for value in condition.values if not is_plain(value))
        if same:
            yield Acl(name, fetch[condition.field], "str", same, any_case)
        if like:
            yield Acl(name, fetch[condition.field], "reg", like, any_case)


def _pair(value: str) -> str:
    """One key=value of a query string; "=value": under any key."""
    key, _, wanted = value.partition("=")
    left = pattern(key, "[^&=]") if key else "[^&=]*"
    return f"(^|&){left}={pattern(wanted, '[^&]')}(&|$)"
