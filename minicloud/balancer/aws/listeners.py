"""Listeners, their certificates and their rules by elbv2's wire."""

from __future__ import annotations

from collections.abc import Sequence

from minicloud.aws.call import Call, harmless, only
from minicloud.aws.lists import in_order
from minicloud.balancer import commands, errors, listeners
from minicloud.balancer.aws.base import Noun, Params, Result, to_tags
from minicloud.balancer.aws.shapes import shown_action, shown_rule, to_action, to_conditions
from minicloud.balancer.balancers import find as find_balancer
from minicloud.balancer.model import APPLICATION, NETWORK, Listener, Rule
from minicloud.balancer.state import State

_ARN, _RULE = "ListenerArn", "RuleArn"
_PARTS = ("Protocol", "Port", "SslPolicy", "Certificates", "DefaultActions", "AlpnPolicy", "MutualAuthentication")
_HARMLESS = {"AlpnPolicy": ["None"], "MutualAuthentication": {"Mode": "off"}}


class ListenerDoor(Noun):
    async def CreateListener(self, params: Params, call: Call) -> Result:
        only(params, call, "LoadBalancerArn", *_PARTS, "Tags")
        harmless(params, call, _HARMLESS)
        command = commands.CreateListener(
            scope=call.caller.scope,
            balancer=params["LoadBalancerArn"],
            protocol=params.get("Protocol", ""),
            port=params.get("Port", 0),
            action=to_action(params["DefaultActions"], call),
            certificates=_certificates(params),
            ssl_policy=params.get("SslPolicy", ""),
            tags=to_tags(params.get("Tags", ())),
        )
        return {"Listeners": [_listener(*await self._service.served(command))]}

    async def DescribeListeners(self, params: Params, call: Call) -> Result:
        only(params, call, "LoadBalancerArn", "ListenerArns", "Marker", "PageSize")
        if ("LoadBalancerArn" in params) == ("ListenerArns" in params):
            raise errors.invalid("You must specify either listener ARNs or a load balancer ARN", "LoadBalancerArn")
        scope = call.caller.scope

        def look(state: State) -> Result:
            if "ListenerArns" in params:
                found = [listeners.find(state, scope, arn) for arn in params["ListenerArns"]]
            else:
                found = state.listeners_of(find_balancer(state, scope, params["LoadBalancerArn"]).arn)
            some, marker = self._page(params, call, {one.arn: one for one in found})
            return {"Listeners": [_listener(one, state.rules_of(one.arn)[-1]) for one in some], **marker}

        return await self._shown(look)

    async def ModifyListener(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, *_PARTS)
        harmless(params, call, _HARMLESS)
        certificates = _certificates(params)
        if len(certificates) > 1:
            raise errors.invalid("Only the default certificate can be specified", "Certificates")
        command = commands.ModifyListener(
            scope=call.caller.scope,
            arn=params[_ARN],
            protocol=params.get("Protocol"),
            port=params.get("Port"),
            action=to_action(params["DefaultActions"], call) if "DefaultActions" in params else None,
            certificate=certificates[0] if certificates else None,
            ssl_policy=params.get("SslPolicy"),
        )
        return {"Listeners": [_listener(*await self._service.served(command))]}

    async def DeleteListener(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN)
        await self._service.served(commands.DeleteListener(call.caller.scope, params[_ARN]))
        return {}

    # --- certificates

    async def DescribeListenerCertificates(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Marker", "PageSize")

        def look(state: State) -> Result:
            one = listeners.find(state, call.caller.scope, params[_ARN])
            some, marker = self._page(params, call, in_order(one.certificates))
            shown = [{"CertificateArn": arn, "IsDefault": arn == one.certificates[0]} for arn in some]
            return {"Certificates": shown, **marker}

        return await self._shown(look)

    async def AddListenerCertificates(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Certificates")
        added = _certificates(params)
        await self._service.served(commands.ModifyListener(call.caller.scope, params[_ARN], add=added))
        return {"Certificates": [{"CertificateArn": arn, "IsDefault": False} for arn in added]}

    async def RemoveListenerCertificates(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Certificates")
        removed = _certificates(params)
        await self._service.served(commands.ModifyListener(call.caller.scope, params[_ARN], remove=removed))
        return {}

    async def DescribeSSLPolicies(self, params: Params, call: Call) -> Result:
        """A policy stands for its TLS versions; the ciphers are HAProxy's and are not listed."""
        only(params, call, "Names", "Marker", "PageSize", "LoadBalancerType")
        for name in params.get("Names", ()):
            if name not in listeners.POLICIES:
                raise errors.bad_policy(name)
        spoken = params.get("LoadBalancerType", APPLICATION) in (APPLICATION, NETWORK)  # a gateway has no TLS
        names = params.get("Names") or listeners.POLICIES
        some, marker = self._page(params, call, in_order(names if spoken else ()))
        return {"SslPolicies": [_policy(name) for name in some], **marker}


class RuleDoor(Noun):
    async def CreateRule(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "Conditions", "Priority", "Actions", "Tags", "Transforms")
        harmless(params, call, {"Transforms": []})
        command = commands.CreateRule(
            scope=call.caller.scope,
            listener=params[_ARN],
            priority=params["Priority"],
            conditions=to_conditions(params["Conditions"], call),
            action=to_action(params["Actions"], call),
            tags=to_tags(params.get("Tags", ())),
        )
        return {"Rules": [shown_rule(await self._service.served(command))]}

    async def DescribeRules(self, params: Params, call: Call) -> Result:
        only(params, call, _ARN, "RuleArns", "Marker", "PageSize")
        if (_ARN in params) == ("RuleArns" in params):
            raise errors.invalid("You must specify either listener rule ARNs or a listener ARN", _ARN)
        scope = call.caller.scope

        def look(state: State) -> Result:
            if _ARN in params:
                found = state.rules_of(listeners.find(state, scope, params[_ARN]).arn)
            else:
                found = [self._find(state, arn, call) for arn in params["RuleArns"]]
            keyed = {f"{one.is_default:d} {one.priority:06d} {one.arn}": one for one in found}
            some, marker = self._page(params, call, keyed)
            return {"Rules": [shown_rule(one) for one in some], **marker}

        return await self._shown(look)

    def _find(self, state: State, arn: str, call: Call) -> Rule:
        rule = state.rules.get(arn)
        if rule is None or rule.scope != call.caller.scope:
            raise errors.no_rule()
        return rule

    async def ModifyRule(self, params: Params, call: Call) -> Result:
        only(params, call, _RULE, "Conditions", "Actions", "Transforms", "ResetTransforms")
        harmless(params, call, {"Transforms": [], "ResetTransforms": True})
        command = commands.ModifyRule(
            scope=call.caller.scope,
            arn=params[_RULE],
            conditions=to_conditions(params["Conditions"], call) if params.get("Conditions") else None,
            action=to_action(params["Actions"], call) if params.get("Actions") else None,
        )
        return {"Rules": [shown_rule(await self._service.served(command))]}

    async def SetRulePriorities(self, params: Params, call: Call) -> Result:
        only(params, call, "RulePriorities")
        given = {one.get("RuleArn", ""): one.get("Priority", 0) for one in params["RulePriorities"]}
        changed = await self._service.served(commands.SetPriorities(call.caller.scope, given))
        return {"Rules": [shown_rule(one) for one in sorted(changed, key=lambda one: int(one.priority))]}

    async def DeleteRule(self, params: Params, call: Call) -> Result:
        only(params, call, _RULE)
        await self._service.served(commands.DeleteRule(call.caller.scope, params[_RULE]))
        return {}


def _certificates(params: Params) -> tuple[str, ...]:
    """Raises ValidationError where one says of itself whether it is the default, as AWS does."""
    given: Sequence[Params] = params.get("Certificates", ())
    if any("IsDefault" in one for one in given):
        raise errors.invalid("You cannot set the IsDefault flag of a certificate", "Certificates")
    return tuple(one.get("CertificateArn", "") for one in given)


def _listener(one: Listener, default: Rule) -> Result:
    shown: Result = {
        "ListenerArn": one.arn,
        "LoadBalancerArn": one.balancer,
        "Port": one.port,
        "Protocol": one.protocol,
        "DefaultActions": [shown_action(default.action)],
    }
    if one.certificates:
        shown |= {"Certificates": [{"CertificateArn": one.certificates[0]}], "SslPolicy": one.ssl_policy}
    if one.protocol == "HTTPS":
        shown["MutualAuthentication"] = {"Mode": "off"}
    return shown


def _policy(name: str) -> Result:
    spoken = ("TLSv1.2", "TLSv1.3")
    low, high = listeners.POLICIES[name]
    return {
        "Name": name,
        "SslProtocols": [one for one in spoken if low <= one <= high],
        "Ciphers": [],
        "SupportedLoadBalancerTypes": [APPLICATION, NETWORK],
    }
