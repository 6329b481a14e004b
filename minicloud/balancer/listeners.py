"""Listeners: a port of a balancer, its default rule, its certificates. Source: elbv2 API, CreateListener.

Where we differ: a security policy stands for the TLS versions that it allows, not for its list of ciphers, and TLS 1.0
and 1.1 are never spoken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minicloud.balancer import actions, errors, limits
from minicloud.balancer.association import relink
from minicloud.balancer.balancers import find as find_balancer
from minicloud.balancer.commands import CreateListener, DeleteListener, ModifyListener
from minicloud.balancer.model import APPLICATION, DEFAULT_PRIORITY, Balancer, Listener, Rule, short
from minicloud.balancer.state import State
from minicloud.balancer.tagging import checked_tags
from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome

SECURE = ("HTTPS", "TLS")
PROTOCOLS = {APPLICATION: ("HTTP", "HTTPS"), "network": ("TCP", "TLS")}
_KNOWN = ("HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC", "GENEVE")
DEFAULT_POLICY = "ELBSecurityPolicy-2016-08"
# The lowest and the highest TLS version of each policy. Source: ALB guide, "Security policies".
POLICIES = {
    DEFAULT_POLICY: ("TLSv1.2", "TLSv1.2"),
    "ELBSecurityPolicy-TLS-1-2-2017-01": ("TLSv1.2", "TLSv1.2"),
    "ELBSecurityPolicy-TLS13-1-2-2021-06": ("TLSv1.2", "TLSv1.3"),
    "ELBSecurityPolicy-TLS13-1-3-2021-06": ("TLSv1.3", "TLSv1.3"),
}


def find(state: State, scope: Scope, arn: str) -> Listener:
    listener = state.listeners.get(arn)
    if listener is None or listener.scope != scope:
        raise errors.no_listener()
    return listener


def create(state: State, command: CreateListener, context: Context) -> Outcome:
    """The reply is (Listener, its default Rule)."""
    balancer = find_balancer(state, command.scope, command.balancer)
    others = state.listeners_of(balancer.arn)
    if len(others) >= limits.LISTENERS_MAX:
        text = f"The maximum number of listeners, {limits.LISTENERS_MAX}, is reached"
        raise errors.too_many("TooManyListeners", text, "load_balancer")
    head = balancer.arn.split(":loadbalancer/", 1)
    arn = f"{head[0]}:listener/{head[1]}/{context.hex(16)}"
    listener = Listener(
        arn=arn,
        account=balancer.account,
        region=balancer.region,
        balancer=balancer.arn,
        protocol=command.protocol,
        port=command.port,
        created=context.now,
        certificates=tuple(dict.fromkeys(command.certificates)),
        ssl_policy=command.ssl_policy or (DEFAULT_POLICY if command.protocol in SECURE else ""),
        tags=checked_tags(command.tags),
    )
    if len(command.certificates) > 1:
        raise errors.invalid("Only the default certificate can be specified; add others afterwards", "certificates")
    _check(state, balancer, listener)
    action = actions.checked(state, balancer, listener.protocol, command.action)
    rule = Rule(rule_arn(arn, context), balancer.account, balancer.region, arn, DEFAULT_PRIORITY, action)
    draft = Draft(state)
    draft.put(listener)
    draft.put(rule)
    relink(draft, balancer, ([], [rule]), context.now)
    return draft.outcome((listener, rule))


def rule_arn(listener: str, context: Context) -> str:
    return listener.replace(":listener/", ":listener-rule/", 1) + f"/{context.hex(16)}"


def modify(state: State, command: ModifyListener, context: Context) -> Outcome:
    """The reply is (Listener, its default Rule)."""
    before = find(state, command.scope, command.arn)
    balancer = state.balancers[before.balancer]
    protocol = before.protocol if command.protocol is None else command.protocol
    secure = protocol in SECURE
    after = replace(
        before,
        protocol=protocol,
        port=before.port if command.port is None else command.port,
        certificates=_certificates(before, command) if secure else (),
        ssl_policy=(command.ssl_policy or before.ssl_policy or DEFAULT_POLICY) if secure else command.ssl_policy or "",
    )
    if not secure and (command.certificate or command.add):
        raise errors.invalid(f"A certificate cannot be specified for {protocol} listeners", "certificates")
    _check(state, balancer, after)
    rules = state.rules_of(after.arn)
    changed = []
    for rule in rules:
        action = command.action if rule.is_default and command.action is not None else rule.action
        changed.append(replace(rule, action=actions.checked(state, balancer, protocol, action)))
    draft = Draft(state)
    draft.put(after)
    for rule in changed:
        draft.put(rule)
    relink(draft, balancer, (rules, changed), context.now)
    return draft.outcome((after, changed[-1]))


def _certificates(listener: Listener, command: ModifyListener) -> tuple[str, ...]:
    first, *others = listener.certificates or ("",)
    if first and first in command.remove:
        raise errors.default_certificate(first)
    first = first if command.certificate is None else command.certificate
    kept = [arn for arn in (*others, *command.add) if arn not in command.remove and arn != first]
    return tuple(dict.fromkeys((first, *kept) if first else kept))


def _check(state: State, balancer: Balancer, listener: Listener) -> None:
    allowed = PROTOCOLS[balancer.type]
    if listener.protocol not in allowed:
        _refuse_protocol(balancer, listener.protocol, allowed)
    if not 1 <= listener.port <= 65535:
        raise errors.invalid(f"Listener port '{listener.port}' must be between 1 and 65535", "port")
    others = [one for one in state.listeners_of(balancer.arn) if one.arn != listener.arn]
    if any(one.port == listener.port for one in others):
        raise errors.port_taken(balancer.arn)
    _check_tls(state, listener)


def _refuse_protocol(balancer: Balancer, protocol: str, allowed: Sequence[str]) -> None:
    if protocol in ("UDP", "TCP_UDP", "QUIC", "TCP_QUIC") and balancer.type != APPLICATION:
        raise errors.bad_protocol(f"Protocol '{protocol}' is not supported here", "protocol")
    if protocol not in _KNOWN:
        raise errors.invalid(f"Listener protocol '{protocol[:32]}' must be one of '{', '.join(allowed)}'", "protocol")
    text = f"Listener protocol '{protocol}' is not supported by {balancer.type} load balancers"
    raise errors.bad_protocol(text, "protocol")


def _check_tls(state: State, listener: Listener) -> None:
    if listener.protocol not in SECURE:
        if listener.certificates or listener.ssl_policy:
            text = f"A certificate or security policy cannot be specified for {listener.protocol} listeners"
            raise errors.invalid(text, "certificates")
        return
    if listener.ssl_policy not in POLICIES:
        raise errors.bad_policy(listener.ssl_policy)
    if not listener.certificates:
        raise errors.invalid(f"A certificate must be specified for {listener.protocol} listeners", "certificates")
    if len(listener.certificates) - 1 > limits.CERTIFICATES_MAX:
        text = f"A listener can have at most {limits.CERTIFICATES_MAX} certificates besides the default one"
        raise errors.too_many("TooManyCertificates", text, "certificates")
    for arn in listener.certificates:
        certificate = state.certificates.get(arn)
        if certificate is None or certificate.scope != listener.scope:
            raise errors.no_certificate(arn)


def delete(state: State, command: DeleteListener, context: Context) -> Outcome:
    listener = find(state, command.scope, command.arn)
    rules = state.rules_of(listener.arn)
    draft = Draft(state)
    relink(draft, state.balancers[listener.balancer], (rules, []), context.now)
    for entity in (*rules, listener):
        draft.drop(entity)
    return draft.outcome()


def section(listener: Listener) -> str:
    """What the listener's part of HAProxy's configuration is named."""
    return f"l-{short(listener.arn)}"
