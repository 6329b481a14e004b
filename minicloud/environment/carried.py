"""Environments and invocations as they go between the functions process and a function host: to the wire and back."""

from __future__ import annotations

from collections.abc import Sequence

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.function.ports import EnvironmentSpec, Invocation, LogSettings, Outcome, Package
from minicloud.rpc.errors import from_status, to_status
from minicloud.wire import fleet_pb2 as wire


def spec_out(spec: EnvironmentSpec) -> wire.EnvironmentMadeOf:
    return wire.EnvironmentMadeOf(
        arn=spec.arn,
        name=spec.name,
        version=spec.version,
        revision=spec.revision,
        account=spec.scope.account,
        region=spec.scope.region,
        code_sha256=spec.code.sha256,
        runtime=spec.runtime,
        handler=spec.handler,
        memory_mib=spec.memory_mib,
        timeout_s=spec.timeout_s,
        ephemeral_mib=spec.ephemeral_mib,
        log_group=spec.log.group,
        log_format=spec.log.format,
        application_log_level=spec.log.application_level,
        system_log_level=spec.log.system_level,
        env=dict(spec.env),
        layers_sha256=[layer.sha256 for layer in spec.layers],
    )


def spec_in(made_of: wire.EnvironmentMadeOf) -> EnvironmentSpec:
    """Its packages have no path here: they are fetched."""
    return EnvironmentSpec(
        arn=made_of.arn,
        name=made_of.name,
        version=made_of.version,
        revision=made_of.revision,
        scope=Scope(made_of.account, made_of.region),
        code=Package(made_of.code_sha256, ""),
        runtime=made_of.runtime,
        handler=made_of.handler,
        memory_mib=made_of.memory_mib,
        timeout_s=made_of.timeout_s,
        ephemeral_mib=made_of.ephemeral_mib,
        log=LogSettings(made_of.log_group, made_of.log_format, made_of.application_log_level, made_of.system_log_level),
        env=tuple(sorted(made_of.env.items())),
        layers=tuple(Package(sha256, "") for sha256 in made_of.layers_sha256),
    )


def run_out(number: int, environment: int, invocation: Invocation) -> wire.RunInvocation:
    return wire.RunInvocation(
        invocation=number,
        environment=environment,
        request_id=invocation.request_id,
        payload=invocation.payload,
        arn=invocation.arn,
        client_context=invocation.client_context,
        trace_id=invocation.trace_id,
        tail=invocation.tail,
        streamed=invocation.sink is not None,
    )


def outcome_out(number: int, outcome: Outcome) -> wire.InvocationOutcome:
    return wire.InvocationOutcome(
        invocation=number,
        payload=outcome.payload,
        function_error=outcome.function_error,
        tail=outcome.tail,
        duration_ms=outcome.duration_ms,
        billed_ms=outcome.billed_ms,
        init_ms=outcome.init_ms,
        memory_max_mib=outcome.memory_max_mib,
    )


def outcome_in(said: wire.InvocationOutcome) -> Outcome:
    return Outcome(
        payload=said.payload,
        function_error=said.function_error,
        tail=said.tail,
        duration_ms=said.duration_ms,
        billed_ms=said.billed_ms,
        init_ms=said.init_ms if said.HasField("init_ms") else None,
        memory_max_mib=said.memory_max_mib,
    )


def lines_out(scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> wire.LogReport:
    return wire.LogReport(
        account=scope.account,
        region=scope.region,
        group=group,
        stream=stream,
        times_ms=[round(time * 1000) for time, _ in events],
        messages=[text.encode("utf-8", "replace").decode() for _, text in events],
    )


def lines_in(said: wire.LogReport) -> list[tuple[float, str]]:
    return [(ms / 1000, text) for ms, text in zip(said.times_ms, said.messages, strict=True)]


def error_out(error: CloudError) -> bytes:
    return bytes(to_status(error, "").SerializeToString())


def error_in(raw: bytes) -> CloudError:
    return from_status(raw)
