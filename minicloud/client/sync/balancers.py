"""Made from `minicloud/client/balancers.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from minicloud.client.balancers import AsyncBalancers
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import balancer_models
else:
    balancer_models = lazy("minicloud.client.balancer_models")


class Balancers:
    """Application and network load balancers."""

    _inner: AsyncBalancers

    def __init__(self, inner: AsyncBalancers, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(
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
        return self._loop.run(self._inner.create(name, type=type, scheme=scheme, zones=zones, tags=tags))

    def get(self, balancer: str) -> balancer_models.Balancer:
        """With its attributes and tags. Raises NotFound."""
        return self._loop.run(self._inner.get(balancer))

    def list(self, *, page_size: int = 100) -> Iterator[balancer_models.Balancer]:
        """All balancers. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def delete(self, balancer: str) -> None:
        """With its listeners and rules; one that is not there is not an error. Raises OperationNotPermitted."""
        self._loop.run(self._inner.delete(balancer))

    def set_attributes(self, arn: str, attributes: Mapping[str, object]) -> dict[str, str]:
        """Of a balancer, listener or target group, by its ARN; answers with all that it has then.

        attributes: AWS's names; texts, ints or bools. Raises NotFound, InvalidParameterValue.
        """
        return self._loop.run(self._inner.set_attributes(arn, attributes))

    def tag(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags to anything that has an ARN here, or change their values; answers with all that it has then."""
        return self._loop.run(self._inner.tag(arn, tags))

    def untag(self, arn: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(arn, *keys))

    def listen(
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
        return self._loop.run(
            self._inner.listen(
                balancer, port, action, protocol=protocol, certificates=certificates, ssl_policy=ssl_policy, tags=tags
            )
        )

    def modify_listener(
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
        return self._loop.run(
            self._inner.modify_listener(
                listener_arn,
                protocol=protocol,
                port=port,
                action=action,
                certificate=certificate,
                add_certificates=add_certificates,
                remove_certificates=remove_certificates,
                ssl_policy=ssl_policy,
            )
        )

    def listeners(self, balancer: str) -> tuple[balancer_models.Listener, ...]:
        """By port."""
        return self._loop.run(self._inner.listeners(balancer))

    def delete_listener(self, listener_arn: str) -> None:
        """With its rules. Raises NotFound."""
        self._loop.run(self._inner.delete_listener(listener_arn))

    def create_rule(
        self,
        listener_arn: str,
        priority: int,
        conditions: Sequence[balancer_models.RuleCondition],
        action: balancer_models.BalancerAction,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> balancer_models.ListenerRule:
        """All conditions must hold; the lowest priority (1 to 50,000) is tried first. Raises Conflict, NotFound, ..."""
        return self._loop.run(self._inner.create_rule(listener_arn, priority, conditions, action, tags=tags))

    def modify_rule(
        self,
        rule_arn: str,
        *,
        conditions: Sequence[balancer_models.RuleCondition] = (),
        action: balancer_models.BalancerAction | None = None,
    ) -> balancer_models.ListenerRule:
        """What is not given stays. Raises NotFound, OperationNotPermitted (the default rule)."""
        return self._loop.run(self._inner.modify_rule(rule_arn, conditions=conditions, action=action))

    def set_rule_priorities(self, priorities: Mapping[str, int]) -> tuple[balancer_models.ListenerRule, ...]:
        """Rule ARN -> priority, all or none: rules may change places. Raises AlreadyExists, NotFound."""
        return self._loop.run(self._inner.set_rule_priorities(priorities))

    def rules(self, listener_arn: str) -> tuple[balancer_models.ListenerRule, ...]:
        """By priority, the default rule last."""
        return self._loop.run(self._inner.rules(listener_arn))

    def delete_rule(self, rule_arn: str) -> None:
        """Raises NotFound, OperationNotPermitted (the default rule)."""
        self._loop.run(self._inner.delete_rule(rule_arn))

    def import_certificate(
        self, certificate: str, private_key: str, chain: str = "", *, tags: Mapping[str, str] | None = None
    ) -> balancer_models.Certificate:
        """PEM texts, the key unencrypted; it never comes back out. Raises InvalidParameterValue."""
        return self._loop.run(self._inner.import_certificate(certificate, private_key, chain, tags=tags))

    def certificates(self, *, page_size: int = 100) -> Iterator[balancer_models.Certificate]:
        """All certificates. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.certificates(page_size=page_size))

    def delete_certificate(self, arn: str) -> None:
        """Raises NotFound, Conflict (a listener uses it)."""
        self._loop.run(self._inner.delete_certificate(arn))
