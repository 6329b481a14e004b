"""Made from `minicloud/client/function_triggers.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minicloud.client.function_triggers import AsyncFunctionTriggers
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import function_models
else:
    function_models = lazy("minicloud.client.function_models")


class FunctionTriggers:
    """Triggers and rules of functions; `function` is a name or ARN, and may end with `:qualifier`."""

    _inner: AsyncFunctionTriggers

    def __init__(self, inner: AsyncFunctionTriggers, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def permit(self, function: str, statement: function_models.FunctionStatement) -> function_models.FunctionPolicy:
        """Add a statement to the policy of a function, version or alias. Raises AlreadyExists, InvalidRequest."""
        return self._loop.run(self._inner.permit(function, statement))

    def forbid(self, function: str, sid: str) -> function_models.FunctionPolicy:
        """Take a statement away. Raises NotFound."""
        return self._loop.run(self._inner.forbid(function, sid))

    def policy(self, function: str) -> function_models.FunctionPolicy:
        """Without statements where there is none."""
        return self._loop.run(self._inner.policy(function))

    def concurrency(self, function: str) -> function_models.FunctionConcurrency:
        """What is reserved and provisioned, and what runs."""
        return self._loop.run(self._inner.concurrency(function))

    def reserve(self, function: str, count: int | None) -> function_models.FunctionConcurrency:
        """So many invocations at once are the function's own, and its limit; None takes it away."""
        return self._loop.run(self._inner.reserve(function, count))

    def provision(self, function: str, count: int | None) -> function_models.FunctionConcurrency:
        """Keep so many environments of a version or alias warm; None takes it away."""
        return self._loop.run(self._inner.provision(function, count))

    def set_event_invoke(
        self,
        function: str,
        *,
        retries: int | None = None,
        age_s: int | None = None,
        on_success: str | None = None,
        on_failure: str | None = None,
    ) -> function_models.EventInvokeConfig:
        """How asynchronous invocations are tried, and where results go (ARNs); what is None is AWS's default."""
        return self._loop.run(
            self._inner.set_event_invoke(
                function, retries=retries, age_s=age_s, on_success=on_success, on_failure=on_failure
            )
        )

    def event_invokes(self, function: str) -> tuple[function_models.EventInvokeConfig, ...]:
        """Of the function, its versions and aliases."""
        return self._loop.run(self._inner.event_invokes(function))

    def delete_event_invoke(self, function: str) -> None:
        """Raises NotFound."""
        self._loop.run(self._inner.delete_event_invoke(function))

    def create_url(
        self,
        function: str,
        *,
        auth: str = "AWS_IAM",
        invoke_mode: str = "BUFFERED",
        cors: function_models.UrlCors | None = None,
    ) -> function_models.FunctionUrl:
        """An address of a function or alias. auth NONE: for everybody whom a permission lets in."""
        return self._loop.run(self._inner.create_url(function, auth=auth, invoke_mode=invoke_mode, cors=cors))

    def update_url(
        self,
        function: str,
        *,
        auth: str | None = None,
        invoke_mode: str | None = None,
        cors: function_models.UrlCors | None = None,
    ) -> function_models.FunctionUrl:
        """What is None stays."""
        return self._loop.run(self._inner.update_url(function, auth=auth, invoke_mode=invoke_mode, cors=cors))

    def urls(self, function: str) -> tuple[function_models.FunctionUrl, ...]:
        """Of the function and its aliases."""
        return self._loop.run(self._inner.urls(function))

    def delete_url(self, function: str) -> None:
        """Raises NotFound."""
        self._loop.run(self._inner.delete_url(function))

    def map(
        self,
        function: str,
        queue_arn: str,
        *,
        batch_size: int | None = None,
        window_s: int | None = None,
        filters: Sequence[str] | None = None,
        report_failures: bool | None = None,
        concurrency: int | None = None,
        enabled: bool | None = None,
    ) -> function_models.FunctionMapping:
        """Let a queue feed a function (an event source mapping); what is None is AWS's default."""
        return self._loop.run(
            self._inner.map(
                function,
                queue_arn,
                batch_size=batch_size,
                window_s=window_s,
                filters=filters,
                report_failures=report_failures,
                concurrency=concurrency,
                enabled=enabled,
            )
        )

    def update_mapping(
        self,
        uuid: str,
        *,
        function: str = "",
        batch_size: int | None = None,
        window_s: int | None = None,
        filters: Sequence[str] | None = None,
        report_failures: bool | None = None,
        concurrency: int | None = None,
        enabled: bool | None = None,
    ) -> function_models.FunctionMapping:
        """What is None stays; concurrency 0 takes the limit away. Raises NotFound, InvalidRequest."""
        return self._loop.run(
            self._inner.update_mapping(
                uuid,
                function=function,
                batch_size=batch_size,
                window_s=window_s,
                filters=filters,
                report_failures=report_failures,
                concurrency=concurrency,
                enabled=enabled,
            )
        )

    def mappings(self, function: str = "", queue_arn: str = "") -> tuple[function_models.FunctionMapping, ...]:
        """Of a function, of a queue, or all."""
        return self._loop.run(self._inner.mappings(function, queue_arn))

    def unmap(self, uuid: str) -> function_models.FunctionMapping:
        """End it; what is under way is finished. Raises NotFound."""
        return self._loop.run(self._inner.unmap(uuid))

    def schedule(
        self, name: str, expression: str, function: str, *, zone: str = "", input: str = "", disabled: bool = False
    ) -> function_models.FunctionSchedule:
        """Make or replace a schedule: rate(5 minutes), cron(0 18 ? * MON-FRI *), at(2026-11-25T18:00:00).

        zone: an IANA name, '' is UTC. input: JSON. Raises InvalidRequest, NotFound.
        """
        return self._loop.run(
            self._inner.schedule(name, expression, function, zone=zone, input=input, disabled=disabled)
        )

    def schedules(self, function: str = "") -> tuple[function_models.FunctionSchedule, ...]:
        """Of a function, or all."""
        return self._loop.run(self._inner.schedules(function))

    def unschedule(self, name: str) -> None:
        """Raises NotFound."""
        self._loop.run(self._inner.unschedule(name))
