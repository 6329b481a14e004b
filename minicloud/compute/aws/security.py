"""Security groups and their rules, between EC2's permissions (one with many peers) and ours (one peer a rule)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterCombination, MissingParameter
from minicloud.compute import security, vpc
from minicloud.compute.aws.base import Noun, Params, Result, named_in, tagged, tags_for, to_tags
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.model import SecurityGroup
from minicloud.compute.security import Rule

_PLAIN = ("IpProtocol", "FromPort", "ToPort", "CidrIp", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId")
# Member of a permission -> (its peer's member, ours).
_PEERS = {"IpRanges": ("CidrIp", "cidr"), "Ipv6Ranges": ("CidrIpv6", "cidr6"), "UserIdGroupPairs": ("GroupId", "group")}


class SecurityDoor(Noun):
    async def DescribeSecurityGroups(self, params: Params, call: Call) -> Result:
        """The default group lets everything in and out until it is changed."""
        only(params, call, "GroupIds", "GroupNames", "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._security_groups(params, call))

    def _security_groups(self, params: Params, call: Call) -> Result:
        scope, state = call.caller.scope, self._state
        by_id = named_in(params, "GroupIds", lambda one: security.find(state, scope, one))
        by_name = named_in(params, "GroupNames", lambda one: security.find_named(state, scope, one))
        if by_id is None and by_name is None:
            by_id = list(security.all_of(state, scope))
        every = {one.id: one for one in [*(by_id or ()), *(by_name or ())]}
        some, result = self._page(call, params, every.items(), _FIELDS)
        return {**result, "SecurityGroups": [_group(one) for one in some]}

    async def DescribeSecurityGroupRules(self, params: Params, call: Call) -> Result:
        only(params, call, "SecurityGroupRuleIds", "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._described_rules(params, call))

    def _described_rules(self, params: Params, call: Call) -> Result:
        every = {rule["SecurityGroupRuleId"]: rule for rule in self._all_rules(call.caller.scope)}
        if wanted := params.get("SecurityGroupRuleIds", ()):
            for one in wanted:
                if one not in every:
                    raise security.rule_not_found(one)
            every = {key: every[key] for key in wanted}
        some, result = self._page(call, params, every.items(), _RULE_FIELDS)
        return {**result, "SecurityGroupRules": some}

    def _all_rules(self, scope: Scope) -> Iterator[Result]:
        for group in security.all_of(self._state, scope):
            for direction in ("ingress", "egress"):
                for rule in getattr(group, direction):
                    yield _rule(group, rule, direction)

    async def DescribeSecurityGroupReferences(self, params: Params, call: Call) -> Result:
        """Groups of other, peered VPCs that name these: there are none."""
        only(params, call, "GroupId", "DryRun")
        for one in params["GroupId"]:
            security.find(self._state, call.caller.scope, one)
        return await self._shown(params, lambda: {"SecurityGroupReferenceSet": []})


class RuleDoor(SecurityDoor):
    async def CreateSecurityGroup(self, params: Params, call: Call) -> Result:
        """Refused at the launch where hosts give guests no network of their own."""
        only(params, call, "GroupName", "Description", "VpcId", "TagSpecifications", "DryRun")
        scope = call.caller.scope
        if params.get("VpcId"):
            vpc.check_vpc(scope, params["VpcId"])
        tags = tags_for(params, "security-group")["security-group"]
        command = security.CreateSecurityGroup(scope, params["GroupName"], params["Description"], tags)
        group = await self._submit(command, params)
        return {"GroupId": group.id, "SecurityGroupArn": _arn(group), **tagged(group.tags)}

    async def DeleteSecurityGroup(self, params: Params, call: Call) -> Result:
        only(params, call, "GroupId", "GroupName", "DryRun")
        group = self._security_group(params, call)
        await self._submit(security.DeleteSecurityGroup(call.caller.scope, group.id), params)
        return {"Return": True, "GroupId": group.id}

    def _security_group(self, params: Params, call: Call) -> SecurityGroup:
        scope = call.caller.scope
        if params.get("GroupId"):
            return security.find(self._state, scope, params["GroupId"])
        if params.get("GroupName"):
            return security.find_named(self._state, scope, params["GroupName"])
        raise MissingParameter("The request must contain the parameter groupName or groupId", field="GroupId")

    async def AuthorizeSecurityGroupIngress(self, params: Params, call: Call) -> Result:
        """Enforced in guests' networks. A group as a peer lets in the guest's host too: balancers are there."""
        return await self._authorize(params, call, "ingress")

    async def AuthorizeSecurityGroupEgress(self, params: Params, call: Call) -> Result:
        """Enforced in guests' networks, but for the metadata service and name lookups."""
        return await self._authorize(params, call, "egress")

    async def _authorize(self, params: Params, call: Call, direction: str) -> Result:
        only(params, call, "GroupId", "GroupName", "IpPermissions", "TagSpecifications", "DryRun", *_PLAIN)
        group = self._security_group(params, call)
        tags = tags_for(params, "security-group-rule")["security-group-rule"]
        rules = tuple({**one, **({"tags": tags} if tags else {})} for one in self._rules(params, call))
        added, _ = await self._submit(security.ChangeRules(call.caller.scope, group.id, direction, add=rules), params)
        return {"Return": True, "SecurityGroupRules": [_rule(group, one, direction) for one in added]}

    async def RevokeSecurityGroupIngress(self, params: Params, call: Call) -> Result:
        return await self._revoke(params, call, "ingress")

    async def RevokeSecurityGroupEgress(self, params: Params, call: Call) -> Result:
        return await self._revoke(params, call, "egress")

    async def _revoke(self, params: Params, call: Call, direction: str) -> Result:
        only(params, call, "GroupId", "GroupName", "IpPermissions", "SecurityGroupRuleIds", "DryRun", *_PLAIN)
        group, scope = self._security_group(params, call), call.caller.scope
        ids = tuple(params.get("SecurityGroupRuleIds", ()))
        given = () if ids else self._rules(params, call)
        rules = tuple(security.checked(self._state, scope, one) for one in given)
        command = security.ChangeRules(scope, group.id, direction, remove=rules, remove_ids=ids)
        _, removed = await self._submit(command, params)
        gone = [
            {
                "SecurityGroupRuleId": one["id"],
                "GroupId": group.id,
                "IsEgress": direction == "egress",
                **_common(one),
                **({"ReferencedGroupId": one["group"]} if "group" in one else {}),
            }
            for one in removed
        ]
        return {"Return": True, "RevokedSecurityGroupRules": gone}

    def _rules(self, params: Params, call: Call) -> tuple[Rule, ...]:
        """From IpPermissions, or from the plain members of an old request."""
        permissions = params.get("IpPermissions")
        if not permissions:
            permissions = [self._plain(params, call)]
        return tuple(rule for one in permissions for rule in self._of_permission(one, call))

    def _plain(self, params: Params, call: Call) -> Params:
        if "IpProtocol" not in params and "SourceSecurityGroupName" not in params:
            raise MissingParameter("The request must contain the parameter ipPermissions", field="IpPermissions")
        one: Params = {name: params[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in params}
        if params.get("CidrIp"):
            one["IpRanges"] = [{"CidrIp": params["CidrIp"]}]
        if params.get("SourceSecurityGroupName"):
            one.setdefault("IpProtocol", security.ANY)
            owner = params.get("SourceSecurityGroupOwnerId", call.caller.scope.account)
            one["UserIdGroupPairs"] = [{"GroupName": params["SourceSecurityGroupName"], "UserId": owner}]
        return one

    def _of_permission(self, one: Params, call: Call) -> Iterator[Rule]:
        if one.get("PrefixListIds"):
            raise refused("PrefixListIds", call)
        head: Rule = {"protocol": one.get("IpProtocol", security.ANY)}
        for name, ours in (("FromPort", "from"), ("ToPort", "to")):
            if name in one:
                head[ours] = one[name]
        if not any(one.get(member) for member in _PEERS):
            raise MissingParameter("A permission needs a range or a group as its peer", field="IpPermissions")
        for member, (peer, ours) in _PEERS.items():
            for given in one.get(member, ()):
                rule = {**head, ours: self._peer_group(given, call) if ours == "group" else given.get(peer, "")}
                if given.get("Description"):
                    rule["description"] = given["Description"]
                yield rule

    def _peer_group(self, given: Params, call: Call) -> str:
        """The id of a group of the caller's own that a pair names by id or name."""
        scope = call.caller.scope
        if given.get("UserId", scope.account) != scope.account:
            raise refused("UserIdGroupPairs.UserId", call, "Groups of other accounts cannot be named.")
        if given.get("VpcPeeringConnectionId"):
            raise refused("UserIdGroupPairs.VpcPeeringConnectionId", call)
        if given.get("VpcId"):
            vpc.check_vpc(scope, given["VpcId"])
        if given.get("GroupId"):
            return str(given["GroupId"])
        return security.find_named(self._state, scope, given.get("GroupName", "")).id

    async def ModifySecurityGroupRules(self, params: Params, call: Call) -> Result:
        only(params, call, "GroupId", "SecurityGroupRules", "DryRun")
        rules: dict[str, Rule] = {}
        for given in params["SecurityGroupRules"]:
            wanted = given.get("SecurityGroupRule", {})
            if wanted.get("PrefixListId"):
                raise refused("PrefixListId", call)
            peers = [wanted.get(name) for name in ("CidrIpv4", "CidrIpv6", "ReferencedGroupId")]
            if sum(1 for one in peers if one) != 1:
                raise InvalidParameterCombination("A rule has one peer: a range or a group", field="SecurityGroupRules")
            rule: Rule = {"protocol": wanted.get("IpProtocol", security.ANY)}
            for name, ours in (("FromPort", "from"), ("ToPort", "to")):
                if name in wanted:
                    rule[ours] = wanted[name]
            rule |= {ours: peer for ours, peer in zip(("cidr", "cidr6", "group"), peers, strict=True) if peer}
            if wanted.get("Description"):
                rule["description"] = wanted["Description"]
            rules[given["SecurityGroupRuleId"]] = rule
        await self._submit(security.ReplaceRules(call.caller.scope, params["GroupId"], rules), params)
        return {"Return": True}

    async def UpdateSecurityGroupRuleDescriptionsIngress(self, params: Params, call: Call) -> Result:
        return await self._describe_rules(params, call, "ingress")

    async def UpdateSecurityGroupRuleDescriptionsEgress(self, params: Params, call: Call) -> Result:
        return await self._describe_rules(params, call, "egress")

    async def _describe_rules(self, params: Params, call: Call, direction: str) -> Result:
        only(params, call, "GroupId", "GroupName", "IpPermissions", "SecurityGroupRuleDescriptions", "DryRun")
        group, scope = self._security_group(params, call), call.caller.scope
        named = {
            one.get("SecurityGroupRuleId", ""): one.get("Description", "")
            for one in params.get("SecurityGroupRuleDescriptions", ())
        }
        wanted = [security.checked(self._state, scope, one) for one in self._rules(params, call)] if not named else []
        rules: dict[str, Rule] = {}
        for rule in getattr(group, direction):
            same = next((one for one in wanted if security.core(one) == security.core(rule)), None)
            if rule["id"] in named or same is not None:
                text = named.get(rule["id"], (same or {}).get("description", ""))
                rules[rule["id"]] = {**security.core(rule), **({"description": text} if text else {})}
        await self._submit(security.ReplaceRules(scope, group.id, rules), params)
        return {"Return": True}


def _arn(group: SecurityGroup) -> str:
    return f"arn:aws:ec2:{group.region}:{group.account}:security-group/{group.id}"


def _group(one: SecurityGroup) -> Result:
    return {
        "GroupId": one.id,
        "GroupName": one.name,
        "Description": one.description,
        "OwnerId": one.account,
        "VpcId": vpc.vpc_id(Scope(one.account, one.region)),
        "SecurityGroupArn": _arn(one),
        "IpPermissions": _permissions(one, one.ingress),
        "IpPermissionsEgress": _permissions(one, one.egress),
        **tagged(one.tags),
    }


def _permissions(group: SecurityGroup, rules: list[Rule]) -> list[Result]:
    """Rules of the same protocol and ports are one permission, as EC2 shows them."""
    found: dict[Any, Result] = {}
    for rule in rules:
        key = (rule["protocol"], rule.get("from"), rule.get("to"))
        one = found.setdefault(
            key, {"IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": [], **_ports(rule)}
        )
        for member, (peer, ours) in _PEERS.items():
            if ours in rule:
                shown = {peer: rule[ours], **({"UserId": group.account} if ours == "group" else {})}
                one[member].append(shown | _description(rule))
    return list(found.values())


def _ports(rule: Rule) -> Result:
    shown: Result = {"IpProtocol": rule["protocol"]}
    if "from" in rule:
        shown |= {"FromPort": rule["from"], "ToPort": rule.get("to", rule["from"])}
    return shown


def _description(rule: Rule) -> Result:
    return {"Description": rule["description"]} if rule.get("description") else {}


def _common(rule: Rule) -> Result:
    shown: Result = {"IpProtocol": rule["protocol"], "FromPort": rule.get("from", -1), "ToPort": rule.get("to", -1)}
    if "cidr" in rule:
        shown["CidrIpv4"] = rule["cidr"]
    if "cidr6" in rule:
        shown["CidrIpv6"] = rule["cidr6"]
    return shown | _description(rule)


def _rule(group: SecurityGroup, rule: Rule, direction: str) -> Result:
    shown = {
        "SecurityGroupRuleId": rule["id"],
        "SecurityGroupRuleArn": f"arn:aws:ec2:{group.region}:{group.account}:security-group-rule/{rule['id']}",
        "GroupId": group.id,
        "GroupOwnerId": group.account,
        "IsEgress": direction == "egress",
        **_common(rule),
        **tagged(rule.get("tags", {})),
    }
    if "group" in rule:
        shown["ReferencedGroupInfo"] = {"GroupId": rule["group"], "UserId": group.account}
    return shown


def _every(one: SecurityGroup, direction: str, name: str) -> list[Any]:
    return [rule[name] for rule in getattr(one, direction) if name in rule]


_FIELDS: Fields[SecurityGroup] = {
    TAGS: lambda one: one.tags,
    "description": lambda one: one.description,
    "group-id": lambda one: one.id,
    "group-name": lambda one: one.name,
    "owner-id": lambda one: one.account,
    "vpc-id": lambda one: vpc.vpc_id(Scope(one.account, one.region)),
    "ip-permission.cidr": lambda one: _every(one, "ingress", "cidr"),
    "ip-permission.from-port": lambda one: _every(one, "ingress", "from"),
    "ip-permission.group-id": lambda one: _every(one, "ingress", "group"),
    "ip-permission.protocol": lambda one: _every(one, "ingress", "protocol"),
    "ip-permission.to-port": lambda one: _every(one, "ingress", "to"),
    "egress.ip-permission.cidr": lambda one: _every(one, "egress", "cidr"),
    "egress.ip-permission.from-port": lambda one: _every(one, "egress", "from"),
    "egress.ip-permission.group-id": lambda one: _every(one, "egress", "group"),
    "egress.ip-permission.protocol": lambda one: _every(one, "egress", "protocol"),
    "egress.ip-permission.to-port": lambda one: _every(one, "egress", "to"),
}
_RULE_FIELDS: Fields[Result] = {
    TAGS: lambda one: to_tags(one.get("Tags", ())),
    "group-id": lambda one: one["GroupId"],
    "security-group-rule-id": lambda one: one["SecurityGroupRuleId"],
}
