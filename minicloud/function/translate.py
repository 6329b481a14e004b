"""Between function_pb2 and what the slice has: fields, one by one. No decisions."""

from __future__ import annotations

import json
from typing import Any

from minicloud.function import commands, policies
from minicloud.function.functions import shown_sha256
from minicloud.function.invoking import Answer
from minicloud.function.model import (
    ACTIVE,
    DISABLED,
    ENABLED,
    SUCCESSFUL,
    Alias,
    Cors,
    EventInvoke,
    Function,
    LayerVersion,
    Mapping,
    Policy,
    Schedule,
    Statement,
    Url,
    Version,
)
from minicloud.function.schedule_groups import DEFAULT
from minicloud.wire import function_pb2 as wire

BUFFERED, STREAMED = "BUFFERED", "RESPONSE_STREAM"
_SETTINGS = (
    "runtime",
    "handler",
    "role",
    "description",
    "memory_mib",
    "timeout_s",
    "ephemeral_mib",
    "tracing",
    "log_format",
    "log_group",
)


def given(settings: wire.FunctionSettings) -> commands.Given:
    fields: dict[str, Any] = {name: getattr(settings, name) for name in _SETTINGS if settings.HasField(name)}  # type: ignore[arg-type]
    for name, ours in (
        ("dead_letter_arn", "dead_letter"),
        ("application_log_level", "log_application"),
        ("system_log_level", "log_system"),
    ):
        if settings.HasField(name):  # type: ignore[arg-type]
            fields[ours] = getattr(settings, name)
    if settings.HasField("environment"):
        fields["env"] = dict(settings.environment.variables)
    if settings.HasField("layers"):
        fields["layers"] = tuple(settings.layers.arns)
    return commands.Given(**fields)


def function(version: Version, owner: Function, arn: str = "") -> wire.Function:
    """`arn`: as it was asked for, '' for the function's own."""
    settings = version.settings
    return wire.Function(
        arn=arn or owner.arn,
        name=version.name,
        version=version.version,
        runtime=settings.runtime,
        handler=settings.handler,
        role=settings.role,
        description=settings.description,
        memory_mib=settings.memory_mib,
        timeout_s=settings.timeout_s,
        ephemeral_mib=settings.ephemeral_mib,
        environment=settings.env,
        layers=settings.layers,
        dead_letter_arn=settings.dead_letter,
        tracing=settings.tracing,
        log_format=settings.log_format,
        application_log_level=settings.log_application,
        system_log_level=settings.log_system,
        log_group=version.log_group,
        code_sha256=shown_sha256(version.code),
        code_bytes=version.code.bytes,
        state=ACTIVE,
        last_update_status=SUCCESSFUL,
        revision_id=version.revision,
        modified_time=version.modified,
        tags=owner.tags,
    )


def alias(one: Alias) -> wire.FunctionAlias:
    return wire.FunctionAlias(
        arn=one.arn,
        name=one.name,
        version=one.version,
        description=one.description,
        weights=one.weights,
        revision_id=one.revision,
    )


def invoked(answer: Answer, *, with_payload: bool = True) -> wire.InvokeReply:
    outcome = answer.outcome
    return wire.InvokeReply(
        payload=outcome.payload if with_payload else b"",
        function_error=outcome.function_error,
        version=answer.version,
        tail=outcome.tail,
        request_id=answer.request_id,
        status=200,
        duration_ms=outcome.duration_ms,
        billed_ms=outcome.billed_ms,
        init_ms=outcome.init_ms,
        memory_max_mib=outcome.memory_max_mib,
    )


def to_statement(one: wire.FunctionStatement) -> Statement:
    return Statement(one.sid, one.action, one.principal, one.source_arn, one.source_account, one.url_auth)


def policy(one: Policy | None) -> wire.FunctionPolicy:
    if one is None:
        return wire.FunctionPolicy()
    statements = [
        wire.FunctionStatement(
            sid=each.sid,
            action=each.action,
            principal=each.principal,
            source_arn=each.source_arn,
            source_account=each.source_account,
            url_auth=each.url_auth,
        )
        for each in one.statements.values()
    ]
    document = json.dumps(policies.document(one), separators=(",", ":"))
    return wire.FunctionPolicy(statements=statements, revision_id=one.revision, document=document)


def event_invoke(one: EventInvoke) -> wire.EventInvokeConfig:
    return wire.EventInvokeConfig(
        arn=one.arn,
        retries=one.retries,
        age_s=one.age_s,
        on_success=one.on_success,
        on_failure=one.on_failure,
        modified_time=one.modified,
    )


def to_cors(one: wire.UrlCors) -> Cors:
    return Cors(
        one.allow_credentials,
        tuple(one.allow_headers),
        tuple(one.allow_methods),
        tuple(one.allow_origins),
        tuple(one.expose_headers),
        one.max_age_s,
    )


def url(one: Url, address: str) -> wire.FunctionUrl:
    found = wire.FunctionUrl(
        arn=one.arn,
        url=address,
        auth=one.auth,
        invoke_mode=STREAMED if one.streams else BUFFERED,
        created_time=one.created,
        modified_time=one.modified,
    )
    if one.cors is not None:
        cors = one.cors
        found.cors.CopyFrom(
            wire.UrlCors(
                allow_credentials=cors.credentials,
                allow_headers=cors.headers,
                allow_methods=cors.methods,
                allow_origins=cors.origins,
                expose_headers=cors.expose,
                max_age_s=cors.max_age_s,
            )
        )
    return found


def to_mapping(one: wire.MappingSettings) -> commands.MappingSpec:
    return commands.MappingSpec(
        enabled=one.enabled if one.HasField("enabled") else None,
        batch=one.batch_size if one.HasField("batch_size") else None,
        window_s=one.window_s if one.HasField("window_s") else None,
        filters=tuple(one.filters.patterns) if one.HasField("filters") else None,
        partial=one.report_failures if one.HasField("report_failures") else None,
        concurrency=one.concurrency if one.HasField("concurrency") else None,
    )


def mapping(one: Mapping, last_result: str) -> wire.FunctionMapping:
    return wire.FunctionMapping(
        uuid=one.uuid,
        arn=one.arn,
        source_arn=one.source,
        function_arn=one.target,
        state=ENABLED if one.enabled else DISABLED,
        batch_size=one.batch,
        window_s=one.window_s,
        filters=one.filters,
        report_failures=one.partial,
        concurrency=one.concurrency or 0,
        modified_time=one.modified,
        last_result=last_result,
        tags=one.tags,
    )


def schedule(one: Schedule) -> wire.FunctionSchedule:
    return wire.FunctionSchedule(
        arn=one.arn,
        name=one.name if one.group == DEFAULT else f"{one.group}/{one.name}",
        expression=one.expression,
        zone=one.zone,
        function_arn=one.target,
        input=one.input,
        disabled=not one.enabled,
        created_time=one.created,
        next_time=one.next or 0.0,
    )


def layer(one: LayerVersion) -> wire.LayerVersion:
    return wire.LayerVersion(
        arn=one.arn,
        name=one.name,
        number=one.number,
        description=one.description,
        license=one.license,
        runtimes=one.runtimes,
        architectures=one.architectures,
        code_sha256=shown_sha256(one.code),
        code_bytes=one.code.bytes,
        created_time=one.created,
    )
