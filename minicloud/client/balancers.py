"""Load balancers, listeners, rules, certificates. `balancer` is a name or ARN; the others are named by ARN."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from minicloud.client.broker import Broker
from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.messages import to_texts

if TYPE_CHECKING:
    from minicloud.client import balancer_models
    from minicloud.wire import balancer_pb2
else:
    balancer_models = lazy("minicloud.client.balancer_models")
    balancer_pb2 = lazy("minicloud.wire.balancer_pb2")


class AsyncBalancers:
    """Application and network load balancers."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create(
        self,
        name: str,
        *,
        type: str = "application",
        scheme: str = "internet-facing",
        zones: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> balancer_models.Balancer:
        """Make a balancer; the same request again is answered with the one that is there.

        type: application (HTTP, HTTPS) or network (TCP, TLS). Raises InvalidParameterValue, AlreadyExists,
        LimitExceeded.
        """
        request = balancer_pb2.CreateBalancerRequest(name=name, type=type, scheme=scheme, zones=zones, tags=tags or {})
        reply = await self._broker.call("BalancerService/CreateBalancer", request, balancer_pb2.Balancer)
        return to_model(balancer_models.Balancer, reply)

    async def get(self, balancer: str) -> balancer_models.Balancer:
        """With its attributes and tags. Raises NotFound."""
        request = balancer_pb2.GetBalancerRequest(balancer=balancer)
        reply = await self._broker.call("BalancerService/GetBalancer", request, balancer_pb2.Balancer)
        return to_model(balancer_models.Balancer, reply)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[balancer_models.Balancer]:
        """All balancers. Pages are fetched as they are needed."""
        request = balancer_pb2.ListBalancersRequest(page_size=page_size)
        while True:
            reply = await self._broker.call("BalancerService/ListBalancers", request, balancer_pb2.ListBalancersReply)
            for item in reply.balancers:
                yield to_model(balancer_models.Balancer, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, balancer: str) -> None:
        """With its listeners and rules; one that is not there is not an error. Raises OperationNotPermitted."""
        request = balancer_pb2.DeleteBalancerRequest(balancer=balancer)
        await self._broker.call("BalancerService/DeleteBalancer", request, balancer_pb2.DeleteBalancerReply)

    async def set_attributes(self, arn: str, attributes: Mapping[str, object]) -> dict[str, str]:
        """Of a balancer, listener or target group, by its ARN; answers with all that it has then.

        attributes: AWS's names; texts, ints or bools. Raises NotFound, InvalidParameterValue.
        """
        request = balancer_pb2.SetBalancerAttributesRequest(arn=arn, attributes=to_texts(attributes))
        method = "BalancerService/SetBalancerAttributes"
        return dict((await self._broker.call(method, request, balancer_pb2.AttributesReply)).attributes)

    async def tag(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags to anything that has an ARN here, or change their values; answers with all that it has then."""
        return await self._tags(balancer_pb2.SetBalancerTagsRequest(arn=arn, tags=tags))

    async def untag(self, arn: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return await self._tags(balancer_pb2.SetBalancerTagsRequest(arn=arn, remove=keys))

    async def _tags(self, request: balancer_pb2.SetBalancerTagsRequest) -> dict[str, str]:
        reply = await self._broker.call("BalancerService/SetBalancerTags", request, balancer_pb2.BalancerTagsReply)
        return dict(reply.tags)

    # ------------------------------------------------------------ listeners

    async def listen(
        self,
        balancer: str,
        port: int,
        action: balancer_models.BalancerAction,
        *,
        protocol: str = "HTTP",
        certificates: Sequence[str] = (),
        ssl_policy: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> balancer_models.Listener:
        """Open a port. When this returns it is served; `problem` says so where another program has the port.

        action: `balancer_models.forward("group")`, `redirect(...)`, `fixed_response(...)`. protocol: HTTP, HTTPS; TCP,
        TLS. certificates: one ARN, for HTTPS and TLS. Raises NotFound, AlreadyExists, InvalidRequest.
        """
        request = balancer_pb2.CreateListenerRequest(
            balancer=balancer,
            port=port,
            action=_action(action),
            protocol=protocol,
            certificates=certificates,
            ssl_policy=ssl_policy,
            tags=tags or {},
        )
        reply = await self._broker.call("BalancerService/CreateListener", request, balancer_pb2.Listener)
        return to_model(balancer_models.Listener, reply)

    async def modify_listener(
        self,
        listener_arn: str,
        *,
        protocol: str | None = None,
        port: int | None = None,
        action: balancer_models.BalancerAction | None = None,
        certificate: str | None = None,
        add_certificates: Sequence[str] = (),
        remove_certificates: Sequence[str] = (),
        ssl_policy: str | None = None,
    ) -> balancer_models.Listener:
        """What is None stays. certificate: the default one; others are chosen by SNI. Raises NotFound, ..."""
        request = balancer_pb2.ModifyListenerRequest(
            listener_arn=listener_arn,
            protocol=protocol,
            port=port,
            action=_action(action) if action else None,
            certificate=certificate,
            add_certificates=add_certificates,
            remove_certificates=remove_certificates,
            ssl_policy=ssl_policy,
        )
        reply = await self._broker.call("BalancerService/ModifyListener", request, balancer_pb2.Listener)
        return to_model(balancer_models.Listener, reply)

    async def listeners(self, balancer: str) -> tuple[balancer_models.Listener, ...]:
        """By port."""
        request = balancer_pb2.ListListenersRequest(balancer=balancer)
        reply = await self._broker.call("BalancerService/ListListeners", request, balancer_pb2.ListListenersReply)
        return tuple(to_model(balancer_models.Listener, item) for item in reply.listeners)

    async def delete_listener(self, listener_arn: str) -> None:
        """With its rules. Raises NotFound."""
        request = balancer_pb2.DeleteListenerRequest(listener_arn=listener_arn)
        await self._broker.call("BalancerService/DeleteListener", request, balancer_pb2.DeleteListenerReply)

    # ------------------------------------------------------------ rules

    async def create_rule(
        self,
        listener_arn: str,
        priority: int,
        conditions: Sequence[balancer_models.RuleCondition],
        action: balancer_models.BalancerAction,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> balancer_models.ListenerRule:
        """All conditions must hold; the lowest priority (1 to 50,000) is tried first. Raises Conflict, NotFound, ..."""
        request = balancer_pb2.CreateRuleRequest(
            listener_arn=listener_arn,
            priority=priority,
            conditions=_conditions(conditions),
            action=_action(action),
            tags=tags or {},
        )
        reply = await self._broker.call("BalancerService/CreateRule", request, balancer_pb2.ListenerRule)
        return to_model(balancer_models.ListenerRule, reply)

    async def modify_rule(
        self,
        rule_arn: str,
        *,
        conditions: Sequence[balancer_models.RuleCondition] = (),
        action: balancer_models.BalancerAction | None = None,
    ) -> balancer_models.ListenerRule:
        """What is not given stays. Raises NotFound, OperationNotPermitted (the default rule)."""
        request = balancer_pb2.ModifyRuleRequest(
            rule_arn=rule_arn, conditions=_conditions(conditions), action=_action(action) if action else None
        )
        reply = await self._broker.call("BalancerService/ModifyRule", request, balancer_pb2.ListenerRule)
        return to_model(balancer_models.ListenerRule, reply)

    async def set_rule_priorities(self, priorities: Mapping[str, int]) -> tuple[balancer_models.ListenerRule, ...]:
        """Rule ARN -> priority, all or none: rules may change places. Raises AlreadyExists, NotFound."""
        request = balancer_pb2.SetRulePrioritiesRequest(priorities=priorities)
        reply = await self._broker.call("BalancerService/SetRulePriorities", request, balancer_pb2.ListRulesReply)
        return tuple(to_model(balancer_models.ListenerRule, item) for item in reply.rules)

    async def rules(self, listener_arn: str) -> tuple[balancer_models.ListenerRule, ...]:
        """By priority, the default rule last."""
        request = balancer_pb2.ListRulesRequest(listener_arn=listener_arn)
        reply = await self._broker.call("BalancerService/ListRules", request, balancer_pb2.ListRulesReply)
        return tuple(to_model(balancer_models.ListenerRule, item) for item in reply.rules)

    async def delete_rule(self, rule_arn: str) -> None:
        """Raises NotFound, OperationNotPermitted (the default rule)."""
        request = balancer_pb2.DeleteRuleRequest(rule_arn=rule_arn)
        await self._broker.call("BalancerService/DeleteRule", request, balancer_pb2.DeleteRuleReply)

    # ------------------------------------------------------------ certificates

    async def import_certificate(
        self, certificate: str, private_key: str, chain: str = "", *, tags: Mapping[str, str] | None = None
    ) -> balancer_models.Certificate:
        """PEM texts, the key unencrypted; it never comes back out. Raises InvalidParameterValue."""
        request = balancer_pb2.ImportCertificateRequest(
            certificate=certificate, private_key=private_key, chain=chain, tags=tags or {}
        )
        reply = await self._broker.call("BalancerService/ImportCertificate", request, balancer_pb2.Certificate)
        return to_model(balancer_models.Certificate, reply)

    async def certificates(self, *, page_size: int = 100) -> AsyncIterator[balancer_models.Certificate]:
        """All certificates. Pages are fetched as they are needed."""
        request = balancer_pb2.ListCertificatesRequest(page_size=page_size)
        while True:
            method = "BalancerService/ListCertificates"
            reply = await self._broker.call(method, request, balancer_pb2.ListCertificatesReply)
            for item in reply.certificates:
                yield to_model(balancer_models.Certificate, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete_certificate(self, arn: str) -> None:
        """Raises NotFound, Conflict (a listener uses it)."""
        request = balancer_pb2.DeleteCertificateRequest(arn=arn)
        await self._broker.call("BalancerService/DeleteCertificate", request, balancer_pb2.DeleteCertificateReply)


def _action(one: balancer_models.BalancerAction) -> balancer_pb2.BalancerAction:
    groups = [balancer_pb2.WeightedGroup(target_group=each.target_group, weight=each.weight) for each in one.groups]
    return balancer_pb2.BalancerAction(
        type=one.type,
        groups=groups,
        sticky_s=one.sticky_s,
        status=one.status,
        protocol=one.protocol,
        host=one.host,
        port=one.port,
        path=one.path,
        query=one.query,
        content_type=one.content_type,
        text=one.text,
    )


def _conditions(found: Sequence[balancer_models.RuleCondition]) -> Sequence[balancer_pb2.RuleCondition]:
    return [balancer_pb2.RuleCondition(field=one.field, values=one.values, header=one.header) for one in found]
