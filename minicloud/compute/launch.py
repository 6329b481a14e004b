"""RunInstances as a decision: resolve the request, check it, place it, write it down.

Order of checks: form, client token, names (image, type, key, group, host, zone), quotas, capacity. So a caller learns
of a wrong field before a full cloud, and a repeated client token costs nothing. Source: EC2 API, RunInstances.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import (
    IdempotentParameterMismatch,
    InsufficientCapacity,
    InvalidParameterCombination,
    InvalidParameterValue,
    LimitExceeded,
    NotFound,
)
from minicloud.base.ids import check_id
from minicloud.base.machine import Context, Outcome
from minicloud.base.shape import Shape
from minicloud.base.tags import check_tags
from minicloud.compute import images, security, templates, vpc
from minicloud.compute.catalog import Catalog, InstanceType
from minicloud.compute.checks import check_options, check_token, check_user_data_text, check_vcpus
from minicloud.compute.commands import Launch, LaunchSpec
from minicloud.compute.model import Group, Image, Instance, KeyPair, Token
from minicloud.compute.placement import GroupKind, GroupMember, PlacementRequest, Rejection, Spot, place
from minicloud.compute.ports import UserDataCheck
from minicloud.compute.state import Draft, State


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a launch made."""

    id: str
    instances: list[Instance]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A launch with every name resolved."""

    spec: LaunchSpec
    type: InstanceType
    image: Image
    key: KeyPair | None
    group: Group | None
    host_id: str


def decide(state: State, command: Launch, context: Context, check_user_data: UserDataCheck) -> Outcome:
    """The reply is a Reservation. Raises InvalidRequest, NotFound, LimitExceeded, InsufficientCapacity."""
    low, high = _counts(command)
    token = _token(state, command)
    if isinstance(token, Reservation):
        return Outcome(token)
    wanted = _resolve(state, command, check_user_data)
    _check_quotas(state, command, wanted.type, low)
    room = int(min(high, _room(state, command, wanted.type)))
    placed = place(state.fleet, _request(state, command.scope, wanted, low, room))
    if isinstance(placed, Rejection):
        raise InsufficientCapacity(placed.summary(), field="instance_type", details={"instance_type": wanted.type.name})
    groups = [security.find(state, command.scope, one) for one in wanted.spec.security_groups or _default(command)]
    security.check_enforced(state, groups, {spot.host_id for spot in placed.spots})
    if command.dry_run:
        return Outcome(Reservation("", []))
    return _write(command, wanted, placed.spots, token, context)


def _counts(command: Launch) -> tuple[int, int]:
    high = command.max_count
    low = command.min_count or high
    if high < 1:
        raise InvalidParameterValue(f"max_count must be at least 1, not {high}", field="max_count")
    if high > limits.LAUNCH_COUNT_MAX:
        raise InvalidParameterValue(f"max_count must be at most {limits.LAUNCH_COUNT_MAX}", field="max_count")
    if low < 1:
        raise InvalidParameterValue(f"min_count must be at least 1, not {low}", field="min_count")
    if low > high:
        raise InvalidParameterCombination(f"min_count {low} is more than max_count {high}", field="min_count")
    return low, high


def _token(state: State, command: Launch) -> Reservation | Token | None:
    """What this client token made before, or the token to write down (result still empty), or None without one."""
    if not command.client_token:
        return None
    check_token(command.client_token, limits.CLIENT_TOKEN_CHARS_MAX)
    key = command.scope.key("launch", command.client_token)
    digest = request_hash(command)
    before = state.tokens.get(key)
    if before is None:
        return Token(key, digest, "", 0.0)
    if before.request_hash != digest:
        raise IdempotentParameterMismatch(field="client_token")
    reservation, *ids = before.result.split(",")
    return Reservation(reservation, [state.instances[key] for key in ids if key in state.instances])


def request_hash(command: Launch) -> str:
    """Equal requests have equal hashes; quotas and the token itself are not part of a request."""
    body: dict[str, Any] = asdict(command)
    for name in ("client_token", "quota_instances", "quota_vcpus", "dry_run"):
        del body[name]
    if command.service:
        del body["spec"]["tags"]
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _resolve(state: State, command: Launch, check_user_data: UserDataCheck) -> _Wanted:
    scope, spec, marks = command.scope, command.spec, dict[str, str]()
    if command.template:
        version = templates.find(state, scope, command.template, command.template_version)
        spec, marks = templates.merge(version.data, spec), templates.marks(version)
    if not spec.image_id:
        raise InvalidParameterValue("an image is needed, in the request or its template", field="image_id")
    if not spec.instance_type:
        raise InvalidParameterValue("an instance type is needed, in the request or its template", field="instance_type")
    instance_type = Catalog.load().get(spec.instance_type)
    image = images.find(state, scope, spec.image_id)
    if image.state != "available":
        raise InvalidParameterValue(f"image {image.id} is {image.state}, not available", field="image_id")
    if image.arch and image.arch != instance_type.arch:
        raise InvalidParameterValue(
            f"image {image.id} is for {image.arch}, {instance_type.name} is {instance_type.arch}", field="image_id"
        )
    check_user_data_text(spec.user_data, check_user_data)
    check_tags(spec.tags, service=bool(command.service))
    check_tags(spec.volume_tags)
    security.check_all(state, scope, spec.security_groups)
    check_options(spec, instance_type)
    spec = replace(spec, tags={**spec.tags, **marks})
    return _Wanted(spec, instance_type, image, _key(state, scope, spec), _group(state, scope, spec), _host(state, spec))


def _key(state: State, scope: Scope, spec: LaunchSpec) -> KeyPair | None:
    if not spec.key_name:
        return None
    key = state.named(KeyPair.kind, scope, spec.key_name)
    if not isinstance(key, KeyPair):
        raise NotFound(
            f"The key pair '{spec.key_name[:255]}' does not exist", code="InvalidKeyPair.NotFound", field="key_name"
        )
    return key


def _group(state: State, scope: Scope, spec: LaunchSpec) -> Group | None:
    if not spec.group_name:
        if spec.partition:
            raise InvalidParameterCombination("a partition needs a placement group", field="placement.partition")
        return None
    group = state.named(Group.kind, scope, spec.group_name)
    if not isinstance(group, Group):
        raise NotFound(
            f"The placement group '{spec.group_name[:255]}' does not exist",
            code="InvalidPlacementGroup.Unknown",
            field="placement.group_name",
        )
    if spec.partition and (group.strategy != "partition" or not 1 <= spec.partition <= group.partitions):
        raise InvalidParameterValue(
            f"placement group '{group.name}' has no partition {spec.partition}", field="placement.partition"
        )
    return group


def _host(state: State, spec: LaunchSpec) -> str:
    if spec.zone and spec.zone not in state.zones():
        known = ", ".join(sorted(state.zones())) or "none yet"
        raise InvalidParameterValue(
            f"Invalid availability zone: [{spec.zone[:64]}]; the zones are: {known}", field="placement.zone"
        )
    if not spec.host_id:
        return ""
    host = state.host_named(spec.host_id)
    if host is None:
        if spec.host_id.startswith("h-"):
            check_id("h", spec.host_id, "placement.host_id")
        raise NotFound(
            f"The host '{spec.host_id[:64]}' does not exist", code="InvalidHostID.NotFound", field="placement.host_id"
        )
    return host.id


def _check_quotas(state: State, command: Launch, instance_type: InstanceType, low: int) -> None:
    tally = state.tally(command.scope.account)
    if tally.instances + low > command.quota_instances:
        raise LimitExceeded(
            f"the quota 'instances' of this account is {command.quota_instances:g}; {tally.instances} exist and "
            f"{low} more were asked for",
            code="InstanceLimitExceeded",
            field="max_count",
            details={"quota": "instances", "limit": f"{command.quota_instances:g}", "used": str(tally.instances)},
        )
    check_vcpus(tally.vcpus, low * instance_type.vcpus, command.quota_vcpus)


def _room(state: State, command: Launch, instance_type: InstanceType) -> float:
    """How many the quotas leave room for."""
    tally = state.tally(command.scope.account)
    by_vcpus = (command.quota_vcpus - tally.vcpus) / instance_type.vcpus
    return min(command.quota_instances - tally.instances, by_vcpus)


def _request(state: State, scope: Scope, wanted: _Wanted, low: int, high: int) -> PlacementRequest:
    spec = wanted.spec
    members: tuple[GroupMember, ...] = ()
    kind: GroupKind | None = None
    if wanted.group is not None:
        kind = wanted.group.strategy  # type: ignore[assignment]  # CreateGroup admits these three only
        members = tuple(
            GroupMember(one.host_id, one.zone, one.partition) for one in state.in_group(scope, wanted.group.name)
        )
    return PlacementRequest(
        label=wanted.type.name,
        shape=_shape(wanted),
        arch=wanted.type.arch,
        count_min=low,
        count_max=high,
        zone=spec.zone or None,
        strategy=spec.strategy or "binpack",  # type: ignore[arg-type]  # checked by check_options
        host_id=wanted.host_id or None,
        group=kind,
        members=members,
        partitions=wanted.group.partitions if wanted.group else 0,
        partition=spec.partition,
    )


def _default(command: Launch) -> tuple[str, ...]:
    return (vpc.default_group_id(command.scope),)


def _shape(wanted: _Wanted) -> Shape:
    """The type's, and the room that was asked for the root disk."""
    return wanted.type.shape + Shape(disk_gib=wanted.spec.root_gib)


def _write(command: Launch, wanted: _Wanted, spots: tuple[Spot, ...], token: Token | None, context: Context) -> Outcome:
    draft = Draft()
    reservation = context.new_id("r")
    first = _first(command, wanted, reservation, context)
    made = []
    for index, spot in enumerate(spots):
        instance = replace(
            first,
            id=context.new_id("i"),
            host_id=spot.host_id,
            zone=spot.zone,
            partition=spot.partition,
            launch_index=index,
        )
        made.append(instance)
        draft.put(instance)
    if token is not None:
        result = ",".join([reservation, *[one.id for one in made]])
        draft.put(replace(token, result=result, expires=context.now + limits.CLIENT_TOKEN_KEPT_S))
    return draft.outcome(Reservation(reservation, made))


def _first(command: Launch, wanted: _Wanted, reservation: str, context: Context) -> Instance:
    spec, shape = wanted.spec, _shape(wanted)
    return Instance(
        id="",
        account=command.scope.account,
        region=command.scope.region,
        state="pending",
        type=wanted.type.name,
        image_id=wanted.image.id,
        host_id="",
        zone="",
        created=context.now,
        launched=context.now,
        vcpus=shape.vcpus,
        memory_mib=shape.memory_mib,
        gpus=shape.gpus,
        disk_gib=shape.disk_gib,
        arch=wanted.type.arch,
        deadline=context.now + limits.PENDING_S_MAX,
        key_name=spec.key_name,
        public_key=wanted.key.public_key if wanted.key else "",
        user_data=spec.user_data,
        user_data_status="pending" if spec.user_data else "none",
        tags=dict(spec.tags),
        reservation_id=reservation,
        termination_protection=bool(spec.termination_protection),
        shutdown_behavior=spec.shutdown_behavior or "stop",
        http_tokens=spec.http_tokens or "optional",
        http_endpoint=spec.http_endpoint or "enabled",
        group_name=spec.group_name,
        strategy=spec.strategy or "binpack",
        affinity=bool(spec.host_id),
        cpu_credits=spec.cpu_credits or ("standard" if wanted.type.burstable else ""),
        stop_protection=bool(spec.stop_protection),
        profile=spec.profile,
        security_groups=list(spec.security_groups),
        root_gib=spec.root_gib,
        volume_tags=dict(spec.volume_tags),
        public=spec.public is not False,
        monitoring=bool(spec.monitoring),
        echo=dict(spec.echo),
    )
