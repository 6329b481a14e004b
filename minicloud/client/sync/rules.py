"""Made from `minicloud/client/rules.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.rules import AsyncRules

if TYPE_CHECKING:
    from minicloud.client import rule_models
else:
    rule_models = lazy("minicloud.client.rule_models")


class Rules:
    """Rules on the default event bus. `rule` is a name or ARN.

    State changes of instances come by themselves: source `aws.ec2`, detail-type `EC2 Instance State-change
    Notification`, detail `{"instance-id": "i-...", "state": "running"}`.
    """

    _inner: AsyncRules

    def __init__(self, inner: AsyncRules, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def put(
        self,
        name: str,
        *,
        pattern: Mapping[str, Any] | str = "",
        expression: str = "",
        disabled: bool = False,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> rule_models.EventRule:
        """Make a rule, or change all of it but its targets and tags: what is not given goes back to its default.

        pattern: an object or its JSON. expression: rate(5 minutes), cron(0 18 ? * MON-FRI *), in UTC. One of both at
        least. tags: of a new rule. Raises InvalidRequest, LimitExceeded.
        """
        return self._loop.run(
            self._inner.put(
                name, pattern=pattern, expression=expression, disabled=disabled, description=description, tags=tags
            )
        )

    def get(self, rule: str) -> rule_models.EventRule:
        """With its targets. Raises NotFound."""
        return self._loop.run(self._inner.get(rule))

    def list(self, *, prefix: str = "", target_arn: str = "", page_size: int = 100) -> Iterator[rule_models.EventRule]:
        """Rules by name: all, those whose names begin so, those with this target. Pages come as they are needed."""
        return self._loop.iterate(self._inner.list(prefix=prefix, target_arn=target_arn, page_size=page_size))

    def enable(self, rule: str) -> rule_models.EventRule:
        """Raises NotFound."""
        return self._loop.run(self._inner.enable(rule))

    def disable(self, rule: str) -> rule_models.EventRule:
        """It takes no events and fires at no time. Raises NotFound."""
        return self._loop.run(self._inner.disable(rule))

    def delete(self, rule: str) -> None:
        """Raises InvalidRequest for one that has targets; one that is not there is deleted already."""
        self._loop.run(self._inner.delete(rule))

    def put_targets(self, rule: str, *targets: rule_models.EventTarget) -> rule_models.EventRule:
        """Five at most; those of the same ids are replaced. A function's policy must let events.amazonaws.com in.

        Raises NotFound, InvalidRequest, LimitExceeded.
        """
        return self._loop.run(self._inner.put_targets(rule, *targets))

    def remove_targets(self, rule: str, *ids: str) -> rule_models.EventRule:
        """Raises NotFound for a rule that is not there."""
        return self._loop.run(self._inner.remove_targets(rule, *ids))

    def tag(self, rule: str, tags: Mapping[str, str]) -> rule_models.EventRule:
        """Raises NotFound, InvalidRequest, LimitExceeded."""
        return self._loop.run(self._inner.tag(rule, tags))

    def untag(self, rule: str, keys: Sequence[str]) -> rule_models.EventRule:
        """Raises NotFound."""
        return self._loop.run(self._inner.untag(rule, keys))

    def send(
        self,
        source: str,
        detail_type: str,
        detail: Mapping[str, Any] | str,
        *,
        resources: Sequence[str] = (),
        time: datetime | None = None,
    ) -> rule_models.EventResult:
        """Put one event of your own: on its way to every target of the rules that match it. Raises InvalidRequest."""
        return self._loop.run(self._inner.send(source, detail_type, detail, resources=resources, time=time))

    def test_pattern(self, pattern: Mapping[str, Any] | str, event: Mapping[str, Any] | str) -> bool:
        """Whether a whole event matches. Raises InvalidRequest."""
        return self._loop.run(self._inner.test_pattern(pattern, event))
