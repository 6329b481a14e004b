"""What calls functions, who may, and how often: permissions, concurrency, URLs, queues, schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import function_models
    from minicloud.wire import function_pb2
else:
    function_models = lazy("minicloud.client.function_models")
    function_pb2 = lazy("minicloud.wire.function_pb2")


class AsyncFunctionTriggers:
    """Triggers and rules of functions; `function` is a name or ARN, and may end with `:qualifier`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    # ------------------------------------------------------------ permissions

    async def permit(
        self, function: str, statement: function_models.FunctionStatement
    ) -> function_models.FunctionPolicy:
        """Add a statement to the policy of a function, version or alias. Raises AlreadyExists, InvalidRequest."""
        wire = function_pb2.FunctionStatement(
            sid=statement.sid,
            action=statement.action,
            principal=statement.principal,
            source_arn=statement.source_arn,
            source_account=statement.source_account,
            url_auth=statement.url_auth,
        )
        request = function_pb2.AddFunctionPermissionRequest(function=function, statement=wire)
        method = "FunctionService/AddFunctionPermission"
        reply = await self._broker.call(method, request, function_pb2.FunctionPolicy)
        return to_model(function_models.FunctionPolicy, reply)

    async def forbid(self, function: str, sid: str) -> function_models.FunctionPolicy:
        """Take a statement away. Raises NotFound."""
        request = function_pb2.RemoveFunctionPermissionRequest(function=function, sid=sid)
        method = "FunctionService/RemoveFunctionPermission"
        reply = await self._broker.call(method, request, function_pb2.FunctionPolicy)
        return to_model(function_models.FunctionPolicy, reply)

    async def policy(self, function: str) -> function_models.FunctionPolicy:
        """Without statements where there is none."""
        request = function_pb2.GetFunctionPolicyRequest(function=function)
        reply = await self._broker.call("FunctionService/GetFunctionPolicy", request, function_pb2.FunctionPolicy)
        return to_model(function_models.FunctionPolicy, reply)

    # ------------------------------------------------------------ concurrency, asynchronous invocation

    async def concurrency(self, function: str) -> function_models.FunctionConcurrency:
        """What is reserved and provisioned, and what runs."""
        request = function_pb2.GetFunctionConcurrencyRequest(function=function)
        method = "FunctionService/GetFunctionConcurrency"
        reply = await self._broker.call(method, request, function_pb2.FunctionConcurrency)
        return to_model(function_models.FunctionConcurrency, reply)

    async def reserve(self, function: str, count: int | None) -> function_models.FunctionConcurrency:
        """So many invocations at once are the function's own, and its limit; None takes it away."""
        check_range(count=count)
        request = function_pb2.SetFunctionConcurrencyRequest(function=function, reserved=count)
        method = "FunctionService/SetFunctionConcurrency"
        reply = await self._broker.call(method, request, function_pb2.FunctionConcurrency)
        return to_model(function_models.FunctionConcurrency, reply)

    async def provision(self, function: str, count: int | None) -> function_models.FunctionConcurrency:
        """Keep so many environments of a version or alias warm; None takes it away."""
        check_range(count=count)
        request = function_pb2.SetProvisionedConcurrencyRequest(function=function, count=count)
        method = "FunctionService/SetProvisionedConcurrency"
        reply = await self._broker.call(method, request, function_pb2.FunctionConcurrency)
        return to_model(function_models.FunctionConcurrency, reply)

    async def set_event_invoke(
        self,
        function: str,
        *,
        retries: int | None = None,
        age_s: int | None = None,
        on_success: str | None = None,
        on_failure: str | None = None,
    ) -> function_models.EventInvokeConfig:
        """How asynchronous invocations are tried, and where results go (ARNs); what is None is AWS's default."""
        check_range(retries=retries, age_s=age_s)
        request = function_pb2.SetEventInvokeConfigRequest(
            function=function, retries=retries, age_s=age_s, on_success=on_success, on_failure=on_failure, whole=True
        )
        reply = await self._broker.call("FunctionService/SetEventInvokeConfig", request, function_pb2.EventInvokeConfig)
        return to_model(function_models.EventInvokeConfig, reply)

    async def event_invokes(self, function: str) -> tuple[function_models.EventInvokeConfig, ...]:
        """Of the function, its versions and aliases."""
        request = function_pb2.ListEventInvokeConfigsRequest(function=function)
        method = "FunctionService/ListEventInvokeConfigs"
        reply = await self._broker.call(method, request, function_pb2.ListEventInvokeConfigsReply)
        return tuple(to_model(function_models.EventInvokeConfig, item) for item in reply.configs)

    async def delete_event_invoke(self, function: str) -> None:
        """Raises NotFound."""
        request = function_pb2.DeleteEventInvokeConfigRequest(function=function)
        method = "FunctionService/DeleteEventInvokeConfig"
        await self._broker.call(method, request, function_pb2.DeleteFunctionReply)

    # ------------------------------------------------------------ URLs

    async def create_url(
        self,
        function: str,
        *,
        auth: str = "AWS_IAM",
        invoke_mode: str = "BUFFERED",
        cors: function_models.UrlCors | None = None,
    ) -> function_models.FunctionUrl:
        """An address of a function or alias. auth NONE: for everybody whom a permission lets in."""
        request = function_pb2.CreateFunctionUrlRequest(
            function=function, auth=auth, invoke_mode=invoke_mode, cors=_cors(cors)
        )
        reply = await self._broker.call("FunctionService/CreateFunctionUrl", request, function_pb2.FunctionUrl)
        return to_model(function_models.FunctionUrl, reply)

    async def update_url(
        self,
        function: str,
        *,
        auth: str | None = None,
        invoke_mode: str | None = None,
        cors: function_models.UrlCors | None = None,
    ) -> function_models.FunctionUrl:
        """What is None stays."""
        request = function_pb2.UpdateFunctionUrlRequest(
            function=function, auth=auth, invoke_mode=invoke_mode, cors=_cors(cors)
        )
        reply = await self._broker.call("FunctionService/UpdateFunctionUrl", request, function_pb2.FunctionUrl)
        return to_model(function_models.FunctionUrl, reply)

    async def urls(self, function: str) -> tuple[function_models.FunctionUrl, ...]:
        """Of the function and its aliases."""
        request = function_pb2.ListFunctionUrlsRequest(function=function)
        reply = await self._broker.call("FunctionService/ListFunctionUrls", request, function_pb2.ListFunctionUrlsReply)
        return tuple(to_model(function_models.FunctionUrl, item) for item in reply.urls)

    async def delete_url(self, function: str) -> None:
        """Raises NotFound."""
        request = function_pb2.DeleteFunctionUrlRequest(function=function)
        await self._broker.call("FunctionService/DeleteFunctionUrl", request, function_pb2.DeleteFunctionReply)

    # ------------------------------------------------------------ queues

    async def map(
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
        settings = _mapping(batch_size, window_s, filters, report_failures, concurrency, enabled)
        request = function_pb2.CreateMappingRequest(function=function, source_arn=queue_arn, settings=settings)
        reply = await self._broker.call("FunctionService/CreateMapping", request, function_pb2.FunctionMapping)
        return to_model(function_models.FunctionMapping, reply)

    async def update_mapping(
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
        settings = _mapping(batch_size, window_s, filters, report_failures, concurrency, enabled)
        request = function_pb2.UpdateMappingRequest(uuid=uuid, function=function, settings=settings)
        reply = await self._broker.call("FunctionService/UpdateMapping", request, function_pb2.FunctionMapping)
        return to_model(function_models.FunctionMapping, reply)

    async def mappings(self, function: str = "", queue_arn: str = "") -> tuple[function_models.FunctionMapping, ...]:
        """Of a function, of a queue, or all."""
        request = function_pb2.ListMappingsRequest(function=function, source_arn=queue_arn)
        reply = await self._broker.call("FunctionService/ListMappings", request, function_pb2.ListMappingsReply)
        return tuple(to_model(function_models.FunctionMapping, item) for item in reply.mappings)

    async def unmap(self, uuid: str) -> function_models.FunctionMapping:
        """End it; what is under way is finished. Raises NotFound."""
        request = function_pb2.DeleteMappingRequest(uuid=uuid)
        reply = await self._broker.call("FunctionService/DeleteMapping", request, function_pb2.FunctionMapping)
        return to_model(function_models.FunctionMapping, reply)

    # ------------------------------------------------------------ schedules

    async def schedule(
        self, name: str, expression: str, function: str, *, zone: str = "", input: str = "", disabled: bool = False
    ) -> function_models.FunctionSchedule:
        """Make or replace a schedule: rate(5 minutes), cron(0 18 ? * MON-FRI *), at(2026-11-25T18:00:00).

        zone: an IANA name, '' is UTC. input: JSON. Raises InvalidRequest, NotFound.
        """
        request = function_pb2.PutFunctionScheduleRequest(
            name=name, expression=expression, function=function, zone=zone, input=input, disabled=disabled
        )
        method = "FunctionService/PutFunctionSchedule"
        reply = await self._broker.call(method, request, function_pb2.FunctionSchedule)
        return to_model(function_models.FunctionSchedule, reply)

    async def schedules(self, function: str = "") -> tuple[function_models.FunctionSchedule, ...]:
        """Of a function, or all."""
        request = function_pb2.ListFunctionSchedulesRequest(function=function)
        method = "FunctionService/ListFunctionSchedules"
        reply = await self._broker.call(method, request, function_pb2.ListFunctionSchedulesReply)
        return tuple(to_model(function_models.FunctionSchedule, item) for item in reply.schedules)

    async def unschedule(self, name: str) -> None:
        """Raises NotFound."""
        request = function_pb2.DeleteFunctionScheduleRequest(name=name)
        method = "FunctionService/DeleteFunctionSchedule"
        await self._broker.call(method, request, function_pb2.DeleteFunctionReply)


def _cors(one: function_models.UrlCors | None) -> function_pb2.UrlCors | None:
    if one is None:
        return None
    return function_pb2.UrlCors(
        allow_credentials=one.allow_credentials,
        allow_headers=one.allow_headers,
        allow_methods=one.allow_methods,
        allow_origins=one.allow_origins,
        expose_headers=one.expose_headers,
        max_age_s=one.max_age_s,
    )


def _mapping(
    batch_size: int | None,
    window_s: int | None,
    filters: Sequence[str] | None,
    report_failures: bool | None,
    concurrency: int | None,
    enabled: bool | None,
) -> function_pb2.MappingSettings:
    check_range(batch_size=batch_size, window_s=window_s, concurrency=concurrency)
    return function_pb2.MappingSettings(
        enabled=enabled,
        batch_size=batch_size,
        window_s=window_s,
        filters=None if filters is None else function_pb2.MappingFilters(patterns=filters),
        report_failures=report_failures,
        concurrency=concurrency,
    )
