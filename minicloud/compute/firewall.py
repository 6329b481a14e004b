"""From security groups to what a host enforces for each guest, and when a host must be told anew.

A group as a peer is the addresses of its running members, so one instance that starts or ends can change what others
let in. Whoever has only open groups (the default one, untouched) has no firewall, and costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeAlias

from minicloud.base.arn import Scope
from minicloud.compute import security
from minicloud.compute.model import Instance, SecurityGroup
from minicloud.compute.security import Rule
from minicloud.compute.state import State, Touched
from minicloud.wire import fleet_pb2 as pb

_LIVE = ("pending", "running")
_OPEN = ("", 0, b"")
Peers: TypeAlias = dict[str, list[str]]  # a group's id -> ranges


class Firewalls:
    """Which firewall each live instance has, and `push(instance)` where it is another than its host was told last."""

    def __init__(self, state: State, push: Callable[[Instance], None]) -> None:
        self._state = state
        self._push = push
        self._told: dict[str, tuple[str, int, bytes]] = {}
        self._stirred: set[Scope] = set()

    def of(self, instance: Instance) -> pb.Firewall | None:
        """As of now; None: open. Remembered as what its host is told."""
        found = firewall(self._state, instance)
        self._told[instance.id] = _mark(instance, _text(found))
        return found

    def touched(self, effect: Touched) -> None:
        """A record of an instance or a group: `settle` looks for whom that makes a difference."""
        entity = effect.entity
        if isinstance(entity, SecurityGroup):
            self._stirred.add(Scope(entity.account, entity.region))
        elif effect.kind == Instance.kind:
            if not isinstance(entity, Instance) or entity.state not in _LIVE:
                self._told.pop(effect.key, None)
            if isinstance(entity, Instance):
                self._stirred.add(entity.scope)

    def settle(self) -> None:
        """After all records of a commit: tell the hosts."""
        while self._stirred:
            self._refresh(self._stirred.pop())

    def again(self, here: Iterable[Instance]) -> None:
        """A host came back and may have missed something."""
        for instance in here:
            if instance.state == "running" and self._state.page(SecurityGroup.kind, instance.scope):
                self._push(instance)

    def _refresh(self, scope: Scope) -> None:
        """One look at the scope's instances, however many groups name each other: a record may come every few ms."""
        if not self._state.page(SecurityGroup.kind, scope):
            return
        every = [self._state.instances[key] for key in self._state.page(Instance.kind, scope)]
        peers = _peers(every)
        texts: dict[tuple[str, ...], bytes] = {}  # instances of the same groups have the same firewall
        for instance in every:
            if instance.state != "running":  # a start order has what there was; running tells it again
                continue
            groups = tuple(security.ids(instance))
            if groups not in texts:
                texts[groups] = _text(_firewall(self._state, instance, peers))
            if self._told.get(instance.id, _OPEN) != _mark(instance, texts[groups]):
                self._push(instance)


def _text(found: pb.Firewall | None) -> bytes:
    return b"" if found is None else b"+" + found.SerializeToString(deterministic=True)


def _mark(instance: Instance, text: bytes) -> tuple[str, int, bytes]:
    return (instance.state if text else "", instance.generation if text else 0, text)


def firewall(state: State, instance: Instance) -> pb.Firewall | None:
    """None: everything may pass."""
    scope = instance.scope
    return _firewall(state, instance, _peers(state.instances[key] for key in state.page(Instance.kind, scope)))


def _firewall(state: State, instance: Instance, peers: Peers) -> pb.Firewall | None:
    there = [one for one in security.ids(instance) if _there(state, instance, one)]
    groups = [security.find(state, instance.scope, one) for one in there]
    ingress = [rule for group in groups for rule in group.ingress]
    egress = [rule for group in groups for rule in group.egress]
    if security.is_open(ingress) and security.is_open(egress):
        return None
    return pb.Firewall(
        ingress=[_rule(one, peers) for one in ingress if _is_ipv4(one)],
        egress=[_rule(one, peers) for one in egress if _is_ipv4(one)],
    )


def _is_ipv4(rule: Rule) -> bool:
    """Guests have no IPv6."""
    return "cidr6" not in rule and rule["protocol"] != "icmpv6"


def _there(state: State, instance: Instance, group_id: str) -> bool:
    return group_id in state.security_groups or group_id == security.default_group(instance.scope).id


def _rule(rule: Rule, peers: Peers) -> pb.FirewallRule:
    made = pb.FirewallRule(
        protocol="" if rule["protocol"] == security.ANY else rule["protocol"],
        from_port=rule.get("from", -1),
        to_port=rule.get("to", -1),
        host="group" in rule,
    )
    if "cidr" in rule:
        made.peers.append(rule["cidr"])
    else:
        made.peers.extend(sorted(peers.get(rule["group"], ())))
    return made


def _peers(every: Iterable[Instance]) -> Peers:
    """The addresses of each group's live members."""
    found: Peers = defaultdict(list)
    for one in every:
        if one.private_ip and one.state in _LIVE:
            for group in security.ids(one):
                found[group].append(f"{one.private_ip}/32")
    return found
