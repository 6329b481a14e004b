"""Target groups and their health checks. Source: elbv2 API, CreateTargetGroup, ModifyTargetGroup.

A group of type lambda has one function, no port and no protocol, and makes health checks where it is told to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from minicloud.balancer import errors, limits
from minicloud.balancer.association import placed
from minicloud.balancer.balancers import check_name
from minicloud.balancer.commands import CreateGroup, DeleteGroup, HealthSpec, ModifyGroup
from minicloud.balancer.digits import is_number
from minicloud.balancer.model import ADDRESS, FUNCTION, INSTANCE, SERVICE, WEB_PROTOCOLS, Group, HealthCheck, short
from minicloud.balancer.state import State
from minicloud.balancer.tagging import checked_tags
from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome

PROTOCOLS = ("HTTP", "HTTPS", "TCP")
_NOT_DONE = ("TLS", "UDP", "TCP_UDP", "GENEVE", "QUIC", "TCP_QUIC")
VERSIONS = ("HTTP1", "HTTP2", "GRPC")
TRAFFIC_PORT = "traffic-port"
TYPES = (INSTANCE, ADDRESS, FUNCTION)
GRPC_PATH = "/AWS.ALB/healthcheck"
GRPC_CODES = "12"
_CODES = re.compile(r"[0-9]{1,3}(?:-[0-9]{1,3})?(?:,[0-9]{1,3}(?:-[0-9]{1,3})?)*\Z")
_PATH = re.compile(r"/[!-~]*\Z")


def find(state: State, scope: Scope, arn: str) -> Group:
    group = state.groups.get(arn)
    if group is None or group.scope != scope:
        raise errors.no_group()
    return group


def create(state: State, command: CreateGroup, context: Context) -> Outcome:
    """The reply is the Group; the same request again gets the one that is there."""
    _check(command)
    health = _health(command)
    taken: Group | None = state.named(Group.kind, command.scope, command.name)
    wanted = (command.target_type, command.protocol, _version(command), command.port, health, dict(command.tags))
    if taken is not None:
        if wanted == (taken.target_type, taken.protocol, taken.version, taken.port, taken.health, taken.tags):
            return Outcome(taken)
        raise errors.name_taken("target group", command.name)
    if len(state.page(Group.kind, command.scope)) >= limits.GROUPS_MAX:
        text = f"The maximum number of target groups, {limits.GROUPS_MAX}, is reached"
        raise errors.too_many("TooManyTargetGroups", text, "name")
    group = Group(
        arn=command.scope.arn(SERVICE, f"targetgroup/{command.name}/{context.hex(16)}"),
        account=command.scope.account,
        region=command.scope.region,
        name=command.name,
        target_type=command.target_type,
        protocol=command.protocol,
        version=_version(command),
        port=command.port,
        health=health,
        created=context.now,
        tags=checked_tags(command.tags),
    )
    draft = Draft(state)
    draft.put(group)
    return draft.outcome(group)


def _version(command: CreateGroup) -> str:
    return (command.version or "HTTP1") if command.protocol in WEB_PROTOCOLS else ""


def _check(command: CreateGroup) -> None:
    check_name("Target group", command.name)
    if command.target_type == "alb":
        raise errors.not_supported(f"Target type '{command.target_type}'", "target_type")
    if command.target_type not in TYPES:
        text = f"Target type '{command.target_type[:32]}' must be one of {', '.join(TYPES)}"
        raise errors.invalid(text, "target_type")
    if command.target_type == FUNCTION:
        _check_portless(
            {"Port": command.port, "Protocol": command.protocol, "Protocol version": command.version}, command.health
        )
        return
    if command.protocol in _NOT_DONE:
        raise errors.bad_protocol(f"Target group protocol '{command.protocol}' is not supported here", "protocol")
    if command.protocol not in PROTOCOLS:
        raise errors.invalid(f"Target group protocol '{command.protocol[:32]}' is not valid", "protocol")
    if not 1 <= command.port <= 65535:
        raise errors.invalid(f"Target group port '{command.port}' must be between 1 and 65535", "port")
    if command.version and command.protocol not in WEB_PROTOCOLS:
        text = f"A protocol version cannot be specified for a {command.protocol} target group"
        raise errors.invalid(text, "protocol_version")
    if command.version not in ("", *VERSIONS):
        raise errors.invalid(f"Protocol version '{command.version[:32]}' must be HTTP1, HTTP2 or GRPC", "version")


def _check_portless(given: Mapping[str, object], health: HealthSpec) -> None:
    """A function is not reached by a port. Raises ValidationError."""
    checks = {"Health check protocol": health.protocol, "Health check port": health.port}
    for name, value in {**given, **checks}.items():
        if value:
            field = name.lower().replace(" ", "_")
            raise errors.invalid(f"{name} cannot be specified for target groups with target type '{FUNCTION}'", field)


def _defaults(target_type: str, protocol: str, version: str) -> HealthCheck:
    """Source: CreateTargetGroup, the text of each field."""
    if target_type == FUNCTION:
        return HealthCheck("", "/", "200", interval_s=35, timeout_s=30, unhealthy=5, port="", enabled=False)
    if protocol == "TCP":
        return HealthCheck("TCP", "", "", timeout_s=10)
    if version == "GRPC":
        return HealthCheck(protocol, GRPC_PATH, GRPC_CODES)
    return HealthCheck(protocol, "/", "200")


def _health(command: CreateGroup) -> HealthCheck:
    defaults = _defaults(command.target_type, command.protocol, command.version)
    if command.protocol == "TCP" and command.health.protocol in WEB_PROTOCOLS:
        defaults = replace(defaults, protocol=command.health.protocol, path="/", codes="200-399", timeout_s=6)
    return checked(command.target_type, (command.protocol, command.version), _given(defaults, command.health))


def _given(before: HealthCheck, spec: HealthSpec) -> HealthCheck:
    names = ("protocol", "path", "codes", "interval_s", "timeout_s", "healthy", "unhealthy", "port", "enabled")
    return replace(before, **{name: getattr(spec, name) for name in names if getattr(spec, name) is not None})


def checked(target_type: str, spoken: tuple[str, str], health: HealthCheck) -> HealthCheck:
    """`spoken`: protocol and version. Raises ValidationError, InvalidConfigurationRequest."""
    if target_type == FUNCTION:
        _check_path(health.path)
        _check_codes(health.codes, 200, 499)
        _check_counts(health)
        return health
    if not health.enabled:
        text = f"HealthCheckEnabled must be true for target groups with target type '{target_type}'"
        raise errors.invalid(text, "health.enabled")
    protocol, version = spoken
    web = health.protocol in WEB_PROTOCOLS
    if not web and health.protocol != "TCP":
        raise errors.invalid(
            f"Health check protocol '{health.protocol[:32]}' must be HTTP, HTTPS or TCP", "health.protocol"
        )
    if protocol in WEB_PROTOCOLS and not web:
        raise errors.bad_configuration("Health check protocol must be HTTP or HTTPS", "health.protocol")
    if not web and (health.path or health.codes):
        raise errors.invalid("Health check path and matcher belong to HTTP and HTTPS health checks", "health.path")
    if web:
        _check_path(health.path)
        low, high = (0, 99) if version == "GRPC" else (200, 499 if protocol in WEB_PROTOCOLS else 599)
        _check_codes(health.codes, low, high)
    _check_counts(health)
    port = health.port
    if port != TRAFFIC_PORT and not is_number(port, 1, 65535):
        raise errors.invalid(f"Health check port '{port[:32]}' must be 1 to 65535 or {TRAFFIC_PORT}", "health.port")
    return health


def _check_path(path: str) -> None:
    if len(path) > limits.PATH_CHARS_MAX or not _PATH.match(path):
        raise errors.invalid(f"Health check path '{path[:128]}' must begin with '/'", "health.path")


def _check_counts(health: HealthCheck) -> None:
    _within("interval", health.interval_s, limits.HEALTH_INTERVAL_S)
    _within("timeout", health.timeout_s, limits.HEALTH_TIMEOUT_S)
    _within("healthy threshold count", health.healthy, limits.HEALTH_THRESHOLD)
    _within("unhealthy threshold count", health.unhealthy, limits.HEALTH_THRESHOLD)
    if health.timeout_s >= health.interval_s:
        text = f"Health check timeout '{health.timeout_s}' must be smaller than the interval '{health.interval_s}'"
        raise errors.invalid(text, "health.timeout_s")


def _within(what: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise errors.invalid(f"Health check {what} '{value}' must be between {low} and {high}", f"health.{what}")


def _check_codes(codes: str, low: int, high: int) -> None:
    if len(codes) > limits.PATH_CHARS_MAX or not _CODES.match(codes):
        raise errors.invalid(f"Health check matcher '{codes[:64]}' is not valid", "health.codes")
    for span in codes.split(","):
        first, _, last = span.partition("-")
        if not low <= int(first) <= int(last or first) <= high:
            text = f"Health check matcher code '{span}' must be within '{low}-{high}' inclusive"
            raise errors.invalid(text, "health.codes")


def modify(state: State, command: ModifyGroup, context: Context) -> Outcome:
    """The reply is the Group."""
    group = find(state, command.scope, command.arn)
    if group.has_function:
        _check_portless({}, command.health)
    health = checked(group.target_type, (group.protocol, group.version), _given(group.health, command.health))
    after = replace(group, health=health)
    draft = Draft(state)
    draft.put(after)
    if after.health.enabled != group.health.enabled:
        for target in state.targets_of(group.arn):
            draft.put(placed(target, after, context.now))
    return draft.outcome(after)


def delete(state: State, command: DeleteGroup, _context: Context) -> Outcome:
    """With its targets. Deleting what is not there succeeds, as in AWS."""
    draft = Draft(state)
    group = state.groups.get(command.arn)
    if group is None or group.scope != command.scope:
        return draft.outcome()
    if group.balancer:
        raise errors.in_use("Target group", group.arn, "a listener or a rule")
    for target in state.targets_of(group.arn):
        draft.drop(target)
    draft.drop(group)
    return draft.outcome()


def may_succeed(codes: str) -> bool:
    """Whether a call by gRPC that succeeds (code 0) is among these answers."""
    return any(int(span.partition("-")[0]) == 0 for span in codes.split(","))


def section(group: Group) -> str:
    """What the group's part of HAProxy's configuration is named."""
    return f"tg-{short(group.arn)}"
