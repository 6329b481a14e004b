"""Requests about instances that exist: start, stop, reboot, terminate, modify, tag.

Each names its instances; all are checked before any is changed (EC2: one bad id fails the whole request).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import (
    IncorrectState,
    InsufficientCapacity,
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    NotFound,
    OperationNotPermitted,
)
from minicloud.base.ids import check_id
from minicloud.base.machine import Context, Outcome
from minicloud.base.shape import Shape
from minicloud.base.tags import check_tags
from minicloud.compute import security
from minicloud.compute.catalog import Catalog
from minicloud.compute.checks import check_options, check_user_data_text, check_vcpus
from minicloud.compute.commands import (
    GrowRoot,
    LaunchSpec,
    ModifyInstance,
    RebootInstances,
    StartInstances,
    StopInstances,
    TerminateInstances,
)
from minicloud.compute.lifecycle import HOLDS_CAPACITY, LIFECYCLE, Event
from minicloud.compute.lifecycle import State as InstanceState
from minicloud.compute.model import Instance
from minicloud.compute.placement import PlacementRequest, Rejection, place
from minicloud.compute.ports import UserDataCheck
from minicloud.compute.state import Draft, State


@dataclass(frozen=True, slots=True)
class Change:
    id: str
    before: str
    after: str


def find(state: State, scope: Scope, instance_id: str, field: str = "instance_id") -> Instance:
    """An instance of this scope. Another scope's and an unknown id meet the same words at the same cost.

    Raises MalformedId, NotFound (InvalidInstanceID.NotFound).
    """
    check_id("i", instance_id, field)
    instance = state.instances.get(instance_id)
    if instance is None or instance.account != scope.account or instance.region != scope.region:
        raise NotFound(
            f"The instance ID '{instance_id}' does not exist", code="InvalidInstanceID.NotFound", field=field
        )
    return instance


def find_all(state: State, scope: Scope, ids: Iterable[str]) -> list[Instance]:
    """In the order asked, each once. Raises MissingParameter for none."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        raise MissingParameter("at least one instance id is needed", field="instance_ids")
    return [find(state, scope, one, "instance_ids") for one in wanted]


def next_state(instance: Instance, event: Event) -> str:
    """Raises IncorrectState with EC2's words when the event is not for this state."""
    after = LIFECYCLE.get(cast(InstanceState, instance.state), event)
    if after is None:
        raise IncorrectState(
            f"The instance '{instance.id}' is not in a state from which it can be "
            f"{_PAST[event]}; it is '{instance.state}'",
            field="instance_ids",
        )
    return after


_PAST = {"start": "started", "stop": "stopped", "reboot": "rebooted", "terminate": "terminated"}


def start(state: State, command: StartInstances, context: Context) -> Outcome:
    """Starts stopped instances on the hosts that hold their disks. The reply is a list of Change."""
    draft, changes = Draft(), []
    found = find_all(state, command.scope, command.ids)
    cold = [one for one in found if next_state(one, "start") == "pending" and one.state == "stopped"]
    used = state.tally(command.scope.account).vcpus
    check_vcpus(used, sum(one.vcpus for one in cold), command.quota_vcpus)
    _check_room(state, cold)
    for instance in found:
        after = instance
        if instance in cold:
            after = begin(instance, context.now)
            draft.put(after)
        changes.append(Change(instance.id, instance.state, after.state))
    return draft.outcome(changes)


def begin(instance: Instance, now: float) -> Instance:
    """The next generation of an instance, pending."""
    return replace(
        instance,
        state="pending",
        generation=instance.generation + 1,
        launched=now,
        deadline=now + limits.PENDING_S_MAX,
        session="",
        reason_code="",
        reason_message="",
        exit_code=None,
        force_stop=False,
        gpu_ids=[],
    )


def _check_room(state: State, cold: list[Instance]) -> None:
    """Each instance's own host must hold it, all of one host together."""
    taken: dict[str, list[Instance]] = {}
    for instance in cold:
        taken.setdefault(instance.host_id, []).append(instance)
    for host_id, together in taken.items():
        _check_host(state, host_id, together)


def _check_host(state: State, host_id: str, together: list[Instance]) -> None:
    total = together[0].shape
    for instance in together[1:]:
        total = total + instance.shape
    request = PlacementRequest(
        label=", ".join(one.type for one in together), shape=total, arch=together[0].arch, host_id=host_id, restart=True
    )
    placed = place(state.fleet, request)
    if isinstance(placed, Rejection):
        host = state.hosts.get(host_id)
        where = f"{host.name} ({host_id})" if host else host_id
        raise InsufficientCapacity(
            f"the disk of {together[0].id} is on host {where}, which cannot start it now: {placed.summary()}",
            code="InsufficientHostCapacity",
            field="instance_ids",
        )


def stop(state: State, command: StopInstances, context: Context) -> Outcome:
    draft, changes = Draft(), []
    found = find_all(state, command.scope, command.ids)
    for instance in found:
        if instance.stop_protection and instance.state in ("pending", "running"):
            raise OperationNotPermitted(
                f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance attribute and "
                "try again.",
                field="instance_ids",
            )
    for instance in found:
        after = replace(
            instance,
            state=next_state(instance, "stop"),
            deadline=None,
            force_stop=instance.force_stop or command.force,
            reason_code="Client.UserInitiatedShutdown",
            reason_message="Client.UserInitiatedShutdown: User initiated shutdown",
        )
        if instance.state == "stopped":
            after = instance
        elif after != instance:
            draft.put(after)
        changes.append(Change(instance.id, instance.state, after.state))
    return draft.outcome(changes)


def reboot(state: State, command: RebootInstances, context: Context) -> Outcome:
    """The reply is the instances to reboot; nothing about them changes."""
    found = find_all(state, command.scope, command.ids)
    for instance in found:
        next_state(instance, "reboot")
    return Outcome(found)


def terminate(state: State, command: TerminateInstances, context: Context) -> Outcome:
    """Idempotent. Raises OperationNotPermitted when any of them is protected; then none is ended."""
    found = find_all(state, command.scope, command.ids)
    for instance in found:
        if instance.termination_protection and instance.state != "terminated":
            raise OperationNotPermitted(
                f"The instance '{instance.id}' may not be terminated. Modify its 'termination_protection' "
                "attribute and try again.",
                field="instance_ids",
            )
    draft, changes = Draft(), []
    for instance in found:
        after = instance
        if instance.state not in ("shutting-down", "terminated"):
            after = replace(
                instance,
                state=next_state(instance, "terminate"),
                deadline=None,
                reason_code="Client.UserInitiatedShutdown",
                reason_message="Client.UserInitiatedShutdown: User initiated shutdown",
            )
            after = _end_now(state, after, context.now)
            draft.put(after)
        changes.append(Change(instance.id, instance.state, after.state))
    return draft.outcome(changes)


def _end_now(state: State, instance: Instance, now: float) -> Instance:
    """An instance on a host that is down has nothing left to wait for; its disk is deleted when the host comes back."""
    host = state.hosts.get(instance.host_id)
    if host is not None and host.state == "up":
        return instance
    return ended(replace(instance, state="terminated"), now)


def ended(instance: Instance, now: float) -> Instance:
    """A terminated instance stays visible for a while."""
    return replace(
        instance,
        terminated=now,
        deadline=now + limits.TERMINATED_KEPT_S,
        disk_left=True,
        gpu_ids=[],
        private_ip="",
    )


def modify(state: State, command: ModifyInstance, context: Context, check_user_data: UserDataCheck) -> Outcome:
    """The reply is the instance as it is now."""
    instance = find(state, command.scope, command.id)
    if instance.state in ("shutting-down", "terminated"):
        raise IncorrectState(f"The instance '{instance.id}' is '{instance.state}'", field="instance_id")
    _check_stopped(instance, command)
    after = instance if command.instance_type is None else _retyped(instance, command.instance_type)
    if command.user_data is not None:
        check_user_data_text(command.user_data, check_user_data)
    options = LaunchSpec(
        http_tokens=command.http_tokens or "",
        http_endpoint=command.http_endpoint or "",
        shutdown_behavior=command.shutdown_behavior or "",
        cpu_credits=command.cpu_credits or "",
    )
    check_options(options, Catalog.load().get(after.type))
    given = {
        name: value
        for name in (
            "termination_protection",
            "user_data",
            "shutdown_behavior",
            "cpu_credits",
            "http_tokens",
            "http_endpoint",
            "stop_protection",
            "monitoring",
        )
        if (value := getattr(command, name)) not in (None, "")
    }
    if command.user_data == "":
        given["user_data"] = ""
    if command.profile is not None:
        given["profile"] = command.profile
    if command.security_groups is not None:
        groups = [security.find(state, command.scope, one) for one in command.security_groups]
        security.check_enforced(state, groups, [instance.host_id])
        given["security_groups"] = list(command.security_groups)
    if command.echo is not None:
        given["echo"] = {**instance.echo, **command.echo}
    draft = Draft()
    after = replace(after, **given)
    if after != instance:
        draft.put(after)
    return draft.outcome(after)


def grow_root(state: State, command: GrowRoot, context: Context) -> Outcome:
    """The reply is the instance. What is asked for beyond what it has is reserved on its host.

    Raises InvalidParameterValue (smaller than it is), InsufficientCapacity.
    """
    instance = find(state, command.scope, command.id)
    if command.root_gib < instance.root_gib:
        raise InvalidParameterValue("New size cannot be smaller than existing size", field="Size")
    more = command.root_gib - instance.root_gib
    request = PlacementRequest(
        label="more disk", shape=Shape(disk_gib=more), arch=instance.arch, host_id=instance.host_id, restart=True
    )
    placed = place(state.fleet, request) if more and instance.state in HOLDS_CAPACITY else None
    if isinstance(placed, Rejection):
        raise InsufficientCapacity(placed.summary(), field="Size")
    after = replace(
        instance,
        root_gib=command.root_gib,
        disk_gib=instance.disk_gib + more,
        echo={**instance.echo, **command.echo},
    )
    draft = Draft()
    draft.put(after)
    return draft.outcome(after)


def _check_stopped(instance: Instance, command: ModifyInstance) -> None:
    for name in ("instance_type", "user_data"):
        if getattr(command, name) is not None and instance.state != "stopped":
            raise IncorrectState(
                f"The instance '{instance.id}' must be stopped to change its {name}; it is '{instance.state}'",
                field=name,
            )


def _retyped(instance: Instance, name: str) -> Instance:
    instance_type = Catalog.load().get(name)
    if instance_type.arch != instance.arch:
        raise InvalidParameterCombination(
            f"{name} is {instance_type.arch}; the instance was made for {instance.arch}", field="instance_type"
        )
    shape = instance_type.shape
    credits = (instance.cpu_credits or "standard") if instance_type.burstable else ""
    return replace(
        instance,
        type=name,
        vcpus=shape.vcpus,
        memory_mib=shape.memory_mib,
        gpus=shape.gpus,
        disk_gib=shape.disk_gib + instance.root_gib,
        cpu_credits=credits,
    )


def retag(instance: Instance, tags: dict[str, str]) -> Instance:
    return replace(instance, tags=check_tags(tags))
