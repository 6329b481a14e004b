"""Security groups: what may reach an instance, and what it may reach. Source: EC2 User Guide, "Security group rules".

A rule allows; nothing denies; replies always pass. An instance may do what any of its groups allows. Each rule has one
peer: an IPv4 or IPv6 range, or a group (the addresses of its running members).

    rule   {"id": "sgr-...", "protocol": tcp | udp | icmp | icmpv6 | -1 | a number, "from": int, "to": int,
            one of "cidr", "cidr6", "group", "description", "tags"}

The default group is there without a record until somebody changes it, and lets everything in and out: that is what
guests without other groups get. (AWS's lets in its own members alone; here the host is also outside, and people curl
their servers from it.) A group that somebody made starts as AWS's: nothing in, everything out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import (
    AlreadyExists,
    CloudError,
    DependencyViolation,
    InvalidParameterValue,
    LimitExceeded,
    NotFound,
    OperationNotPermitted,
    UnsupportedOperation,
)
from minicloud.base.ids import check_id
from minicloud.base.machine import Context, Outcome
from minicloud.base.tags import check_tags
from minicloud.compute import vpc
from minicloud.compute.model import Instance, SecurityGroup
from minicloud.compute.state import Draft, State

DEFAULT = "default"
ANY = "-1"
PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
_WITH_PORTS = ("tcp", "udp")
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789. _-:/()#,@[]+=&;{}!$*")
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CreateSecurityGroup:
    scope: Scope
    name: str
    description: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteSecurityGroup:
    scope: Scope
    group: str


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """Adds rules (without ids), removes those that equal one (less id, description, tags) or have a given id."""

    scope: Scope
    group: str
    direction: str
    add: tuple[Rule, ...] = ()
    remove: tuple[Rule, ...] = ()
    remove_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplaceRules:
    """Rules by their id, changed in place."""

    scope: Scope
    group: str
    rules: dict[str, Rule]


def default_group(scope: Scope) -> SecurityGroup:
    """As it is before anybody changes it."""
    group_id = vpc.default_group_id(scope)
    return SecurityGroup(
        id=group_id,
        account=scope.account,
        region=scope.region,
        name=DEFAULT,
        created=0.0,
        description="default VPC security group",
        ingress=[
            _all_of({"group": group_id}, vpc.made_id("sgr", scope, "self")),
            _all_of({"cidr": "0.0.0.0/0"}, vpc.made_id("sgr", scope, "in")),
        ],
        egress=[_all_of({"cidr": "0.0.0.0/0"}, vpc.made_id("sgr", scope, "out"))],
    )


def _all_of(peer: Rule, rule_id: str) -> Rule:
    return {"id": rule_id, "protocol": ANY, **peer}


def find(state: State, scope: Scope, group_id: str, field: str = "GroupId") -> SecurityGroup:
    """Raises MalformedId, NotFound (InvalidGroup.NotFound)."""
    group = state.security_groups.get(group_id)
    if group is None and group_id == vpc.default_group_id(scope):
        return default_group(scope)
    if group is None or (group.account, group.region) != (scope.account, scope.region):
        check_id("sg", group_id, field)
        raise NotFound(
            f"The security group '{group_id[:64]}' does not exist", code="InvalidGroup.NotFound", field=field
        )
    return group


def find_named(state: State, scope: Scope, name: str) -> SecurityGroup:
    found = state.named(SecurityGroup.kind, scope, name)
    if found is None and name == DEFAULT:
        return default_group(scope)
    if not isinstance(found, SecurityGroup):
        raise NotFound(
            f"The security group '{name[:255]}' does not exist in default VPC '{vpc.vpc_id(scope)}'",
            code="InvalidGroup.NotFound",
            field="GroupName",
        )
    return found


def find_any(state: State, scope: Scope, text: str) -> SecurityGroup:
    """By id or name. Raises MalformedId, NotFound."""
    return find(state, scope, text) if text.startswith("sg-") else find_named(state, scope, text)


def all_of(state: State, scope: Scope) -> Iterator[SecurityGroup]:
    """Every group of the scope, the default one in any case."""
    found = state.page(SecurityGroup.kind, scope)
    if vpc.default_group_id(scope) not in found:
        yield default_group(scope)
    for key in found:
        yield state.security_groups[key]


def find_rule(state: State, scope: Scope, rule_id: str) -> tuple[SecurityGroup, Rule]:
    """Raises NotFound (InvalidSecurityGroupRuleId.NotFound)."""
    for group in all_of(state, scope):
        for rule in (*group.ingress, *group.egress):
            if rule["id"] == rule_id:
                return group, rule
    raise rule_not_found(rule_id)


def with_rule(group: SecurityGroup, changed: Rule) -> SecurityGroup:
    """The group with a rule of it changed."""

    def one(rule: Rule) -> Rule:
        return changed if rule["id"] == changed["id"] else rule

    return replace(group, ingress=[one(rule) for rule in group.ingress], egress=[one(rule) for rule in group.egress])


def ids(one: Instance) -> list[str]:
    """The groups of an instance."""
    return one.security_groups or [vpc.default_group_id(one.scope)]


def named(state: State, one: Instance) -> list[dict[str, str]]:
    """The groups of an instance, as EC2 lists them beside it."""
    shown = []
    for group_id in ids(one):
        group = state.security_groups.get(group_id)
        shown.append({"GroupId": group_id, "GroupName": group.name if group else DEFAULT})
    return shown


def members(state: State, scope: Scope, group_id: str) -> Iterator[Instance]:
    for key in state.page(Instance.kind, scope):
        one = state.instances[key]
        if one.state != "terminated" and group_id in ids(one):
            yield one


def check_all(state: State, scope: Scope, group_ids: Iterable[str]) -> None:
    """A launch's groups: each exists, and there are not too many."""
    wanted = list(group_ids)
    for one in wanted:
        find(state, scope, one, "SecurityGroupIds")
    if len(wanted) > limits.SECURITY_GROUPS_PER_INSTANCE_MAX:
        raise LimitExceeded(
            "The maximum number of security groups per interface has been reached.",
            code="SecurityGroupsPerInterfaceLimitExceeded",
            field="SecurityGroupIds",
        )


def is_open(rules: Iterable[Rule]) -> bool:
    """Whether everything may pass (IPv4; guests have no other)."""
    return any(rule["protocol"] == ANY and rule.get("cidr") == "0.0.0.0/0" for rule in rules)


def restricts(groups: Iterable[SecurityGroup]) -> bool:
    every = list(groups)
    ingress = is_open(rule for group in every for rule in group.ingress)
    return not (ingress and is_open(rule for group in every for rule in group.egress))


def check_enforced(state: State, groups: Iterable[SecurityGroup], host_ids: Iterable[str]) -> None:
    """Groups that hold something back need hosts that can: guests in namespaces of their own.

    Raises UnsupportedOperation.
    """
    if not restricts(groups):
        return
    for host_id in host_ids:
        host = state.hosts.get(host_id)
        if host is not None and host.isolation.get("network") == "loopback":
            raise UnsupportedOperation(
                f"host {host.name} gives guests no network of their own, so security groups cannot be enforced there; "
                "run minicloud as root, or use groups that let everything through"
            )


# --- deciding


def create(state: State, command: CreateSecurityGroup, context: Context) -> Outcome:
    scope = command.scope
    _check_text(command.name, "groupName")
    _check_text(command.description, "groupDescription")
    if command.name == DEFAULT or command.name.startswith("sg-"):
        raise InvalidParameterValue(f"Cannot use reserved security group name: {command.name}", field="GroupName")
    if state.named(SecurityGroup.kind, scope, command.name) is not None:
        raise AlreadyExists(
            f"The security group '{command.name}' already exists for VPC '{vpc.vpc_id(scope)}'",
            code="InvalidGroup.Duplicate",
            field="GroupName",
        )
    if len(state.page(SecurityGroup.kind, scope)) >= limits.SECURITY_GROUPS_MAX:
        raise LimitExceeded(
            "The maximum number of security groups has been reached.", code="SecurityGroupLimitExceeded"
        )
    group = SecurityGroup(
        id=context.new_id("sg"),
        account=scope.account,
        region=scope.region,
        name=command.name,
        created=context.now,
        description=command.description,
        egress=[_all_of({"cidr": "0.0.0.0/0"}, context.new_id("sgr"))],
        tags=check_tags(command.tags),
    )
    draft = Draft()
    draft.put(group)
    return draft.outcome(group)


def delete(state: State, command: DeleteSecurityGroup, context: Context) -> Outcome:
    group = find(state, command.scope, command.group)
    if group.name == DEFAULT:
        raise OperationNotPermitted(
            f'the specified group: "{group.id}" name: "{DEFAULT}" cannot be deleted by a user', code="CannotDelete"
        )
    used = any(True for _ in members(state, command.scope, group.id))
    named_by = any(
        rule.get("group") == group.id
        for other in all_of(state, command.scope)
        if other.id != group.id
        for rule in (*other.ingress, *other.egress)
    )
    if used or named_by:
        raise DependencyViolation(f"resource {group.id} has a dependent object")
    draft = Draft()
    draft.drop(group)
    return draft.outcome(group)


def change(state: State, command: ChangeRules, context: Context) -> Outcome:
    """The reply is (added, removed), each a list of rules. Raises AlreadyExists, NotFound; then nothing changes."""
    group = find(state, command.scope, command.group)
    rules: list[Rule] = list(getattr(group, command.direction))
    removed = [_taken(rules, group, lambda rule, one=one: core(rule) == core(one)) for one in command.remove]
    removed += [_taken(rules, group, lambda rule, key=key: rule["id"] == key) for key in command.remove_ids]
    added = []
    for one in command.add:
        rule = checked(state, command.scope, one)
        if any(core(rule) == core(other) for other in rules):
            raise AlreadyExists(
                f'the specified rule "{describe(rule)}" already exists', code="InvalidPermission.Duplicate"
            )
        rule["id"] = context.new_id("sgr")
        rules.append(rule)
        added.append(rule)
    if len(rules) > limits.SECURITY_GROUP_RULES_MAX:
        raise LimitExceeded(
            "The maximum number of rules per security group has been reached.",
            code="RulesPerSecurityGroupLimitExceeded",
        )
    after = replace(group, ingress=rules) if command.direction == "ingress" else replace(group, egress=rules)
    _check_members(state, command.scope, after)
    draft = Draft()
    draft.put(after)
    return draft.outcome((added, removed))


def _check_members(state: State, scope: Scope, after: SecurityGroup) -> None:
    """That those who have the group can be held to what it will be."""
    if not restricts([after]):
        return
    for one in members(state, scope, after.id):
        others = [find(state, scope, key) for key in ids(one) if key != after.id]
        check_enforced(state, [*others, after], [one.host_id])


def _taken(rules: list[Rule], group: SecurityGroup, which: Any) -> Rule:
    for at, rule in enumerate(rules):
        if which(rule):
            return rules.pop(at)
    raise NotFound(
        "The specified rule does not exist in this security group.", code="InvalidPermission.NotFound", field="GroupId"
    )


def modify(state: State, command: ReplaceRules, context: Context) -> Outcome:
    group = find(state, command.scope, command.group)
    left = dict(command.rules)

    def changed(rule: Rule) -> Rule:
        after = left.pop(rule["id"], None)
        if after is None:
            return rule
        return {**checked(state, command.scope, after), "id": rule["id"], "tags": rule.get("tags", {})}

    after = replace(
        group, ingress=[changed(one) for one in group.ingress], egress=[changed(one) for one in group.egress]
    )
    if left:
        raise rule_not_found(next(iter(left)))
    _check_members(state, command.scope, after)
    draft = Draft()
    draft.put(after)
    return draft.outcome(after)


def rule_not_found(rule_id: str) -> CloudError:
    return NotFound(
        f"The security group rule ID '{rule_id[:64]}' does not exist", code="InvalidSecurityGroupRuleId.NotFound"
    )


def core(rule: Rule) -> Rule:
    """What makes two rules the same."""
    return {name: value for name, value in rule.items() if name not in ("id", "description", "tags")}


def describe(rule: Rule) -> str:
    peer = rule.get("cidr") or rule.get("cidr6") or rule.get("group")
    ports = f", from port: {rule['from']}, to port: {rule['to']}" if "from" in rule else ""
    return f"peer: {peer}, {rule['protocol']}{ports}, ALLOW"


def checked(state: State, scope: Scope, rule: Rule) -> Rule:
    """A rule as it is kept: protocol by name, ranges in their plain form. Raises InvalidParameterValue, NotFound."""
    kept = dict(rule)
    kept["protocol"] = protocol = PROTOCOLS.get(str(rule["protocol"]).lower(), str(rule["protocol"]).lower())
    if protocol != ANY and protocol not in PROTOCOLS.values() and not (protocol.isdigit() and int(protocol) < 256):
        raise _malformed(f'Unsupported IP protocol "{protocol[:32]}" - supported: [-1, tcp, udp, icmp, icmpv6]')
    if protocol in _WITH_PORTS:
        _check_ports(kept)
    elif protocol in ("icmp", "icmpv6"):
        _check_icmp(kept)
    else:
        kept.pop("from", None)
        kept.pop("to", None)
    if "cidr" in kept:
        kept["cidr"] = _network(kept["cidr"], ipaddress.IPv4Network)
    if "cidr6" in kept:
        kept["cidr6"] = _network(kept["cidr6"], ipaddress.IPv6Network)
    if "group" in kept:
        kept["group"] = find(state, scope, kept["group"]).id
    if len(kept.get("description", "")) > limits.DESCRIPTION_CHARS_MAX:
        raise InvalidParameterValue("Invalid rule description. At most 255 characters.", field="Description")
    return kept


def _check_ports(rule: Rule) -> None:
    low, high = rule.get("from"), rule.get("to")
    if low is None or high is None:
        raise InvalidParameterValue(
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.", field="FromPort"
        )
    if low == high == -1:
        rule["from"], rule["to"] = 0, 65535
    elif not 0 <= low <= 65535 or not 0 <= high <= 65535:
        raise InvalidParameterValue(f"TCP/UDP port ({low if not 0 <= low <= 65535 else high}) out of range")
    elif low > high:
        raise InvalidParameterValue(f"Invalid TCP/UDP port range ({low}:{high})")


def _check_icmp(rule: Rule) -> None:
    """Type and code, where ports are with others; -1 is any. The codes of any type are any."""
    kind, code = rule.setdefault("from", -1), rule.setdefault("to", -1)
    if not -1 <= kind <= 255 or not -1 <= code <= 255:
        raise InvalidParameterValue(f"ICMP code ({code}) or type ({kind}) out of range", field="FromPort")
    if kind == -1 and code != -1:
        raise InvalidParameterValue(f"ICMP code ({code}) needs a type", field="ToPort")


def _network(text: str, kind: Any) -> str:
    try:
        return str(kind(text, strict=False))
    except ValueError:
        raise InvalidParameterValue(
            f"CIDR block {text[:64]} is malformed", code="InvalidParameterValue", field="CidrIp"
        ) from None


def _malformed(text: str) -> InvalidParameterValue:
    return InvalidParameterValue(text, code="InvalidPermission.Malformed")


def _check_text(text: str, name: str) -> None:
    if not 1 <= len(text) <= limits.NAME_CHARS_MAX or not _NAME_CHARS.issuperset(text):
        raise InvalidParameterValue(
            f"Invalid security group {'name' if name == 'groupName' else 'description'}. Valid values are at most "
            "255 characters from a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{}!$*",
            field=name,
        )
