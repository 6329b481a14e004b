"""Reports of the fleet: what a host says of itself and of its guests, and what its silence means.

What the API accepted is desired, what hosts report is observed; these decisions bring the first to agree with the
second. Every report carries generation and session, so a late or repeated one changes nothing:

- a report of a guest that is not the present generation of its instance, or not on its host, is not recorded; the
  service answers it with an order to end that guest (that is the fence for what wakes up again);
- a hello with a new session (another Ray node id) means that the host was restarted: what was to run there runs again
  under the next generation, its disk is where it was;
- a host that is lost takes its instances to `stopped`.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from minicloud.base import limits
from minicloud.base.machine import Context, Outcome
from minicloud.compute.commands import CordonHost, GuestSeen, HostLost, HostSeen, LaunchFailed
from minicloud.compute.errors import host_not_found
from minicloud.compute.instances import begin, ended
from minicloud.compute.lifecycle import LIFECYCLE, Event
from minicloud.compute.model import Host, Image, Instance
from minicloud.compute.state import Draft, State

USER_STOP = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")


def host_seen(state: State, command: HostSeen, context: Context) -> Outcome:
    """The reply is the Host."""
    known = state.hosts.get(command.id)
    fields = {name: value for name, value in asdict(command).items() if name != "guests"}
    asked = (known.cordoned, known.drained) if known else (False, False)  # by operators
    host = Host(**fields, state="up", cordoned=asked[0], drained=asked[1])
    draft = Draft()
    if host != known:
        draft.put(host)
    here = {guest.instance_id: guest for guest in command.guests}
    for instance in state.on_host(host.id):
        after = _after_hello(instance, here.get(instance.id), host, context)
        if after != instance:
            draft.put(after)
    return draft.outcome(host)


# Ends that came over a guest from outside: with its cloud or its host, not by its own doing or a user's.
_TAKEN_DOWN = frozenset({"", "Stopped", "Server.ActorDied", "Server.GuestLost"})


def _after_hello(instance: Instance, guest: GuestSeen | None, host: Host, context: Context) -> Instance:
    restarted = instance.session not in ("", host.session)
    known = guest is not None and guest.generation == instance.generation
    taken_down = restarted and known and guest is not None and guest.reason_code in _TAKEN_DOWN
    if guest is not None and known and not taken_down:
        return _after_report(instance, guest, host, context)
    if not restarted:
        if instance.state == "running":  # the agent knows nothing of it: it ended while nobody looked
            gone = GuestSeen(instance.id, instance.generation, "ended", reason_code="Server.GuestLost")
            return _after_report(instance, gone, host, context)
        return instance
    if instance.state in ("pending", "running"):
        return begin(instance, context.now)
    if instance.state == "stopping":
        return replace(instance, state="stopped", deadline=None)
    return instance


def guest_seen(state: State, command: GuestSeen, context: Context) -> Outcome:
    """The reply is the Instance as it is now, or None when the report is of a guest that should not be."""
    instance = state.instances.get(command.instance_id)
    if instance is None or instance.generation != command.generation or instance.state in ("stopped", "terminated"):
        return Outcome(None)
    host = state.hosts[instance.host_id]
    after = _after_report(instance, command, host, context)
    draft = Draft()
    if after != instance:
        draft.put(after)
    return draft.outcome(after)


def _after_report(instance: Instance, guest: GuestSeen, host: Host, context: Context) -> Instance:
    if guest.state == "running":
        return _running(instance, guest, host)
    if guest.state == "ended":
        return _gone(instance, guest, context)
    return instance


def _running(instance: Instance, guest: GuestSeen, host: Host) -> Instance:
    after = LIFECYCLE.get(instance.state, "started")  # type: ignore[arg-type]
    if after is None:  # stopping or shutting-down: it came up while its end was ordered
        return instance
    return replace(
        instance,
        state=after,
        deadline=None,
        session=host.session,
        private_ip=guest.private_ip or instance.private_ip,
        isolation=guest.isolation or instance.isolation,
        gpu_ids=list(guest.gpu_ids) or instance.gpu_ids,
        user_data_status=guest.user_data_status or instance.user_data_status,
        user_data_exit=guest.user_data_exit,
        exit_code=None,
    )


def _gone(instance: Instance, guest: GuestSeen, context: Context) -> Instance:
    state = LIFECYCLE.get(instance.state, "ended")  # type: ignore[arg-type]
    if state is None:
        return instance
    asked = instance.state in ("stopping", "shutting-down")
    if state == "stopped" and not asked and instance.shutdown_behavior == "terminate":
        state = "shutting-down"
    if instance.state == "pending" and instance.generation == 1 and not asked:
        state = "shutting-down"
    code, message = (guest.reason_code, guest.reason_message) if not asked else ("", "")
    after = replace(
        instance,
        state=state,
        deadline=None,
        reason_code=code or instance.reason_code,
        reason_message=_message(code, message, guest.exit_code) or instance.reason_message,
        exit_code=guest.exit_code if not asked else instance.exit_code,
        gpu_ids=[],
        force_stop=False,
        ended=context.now,
    )
    return ended(after, context.now) if state == "terminated" else after


def _message(code: str, message: str, exit_code: int | None) -> str:
    if not code:
        return ""
    text = message or code
    return text if exit_code is None or str(exit_code) in text else f"{text} (exit code {exit_code})"


def host_lost(state: State, command: HostLost, context: Context) -> Outcome:
    """The host is down; so are its instances. Images in the making from it have failed. The reply is the Host."""
    host = state.hosts.get(command.host_id)
    if host is None:
        raise host_not_found(command.host_id)
    if host.session != command.session:
        return Outcome(host)
    draft = Draft()
    lost = replace(host, state="down", reason_code=command.code, reason_message=command.message)
    if lost == host:
        return Outcome(host)
    draft.put(lost)
    here = state.on_host(host.id)
    for instance in here:
        after = _after_loss(instance, host, command, context.now)
        if after != instance:
            draft.put(after)
    ids = {instance.id for instance in here}
    for image in state.pending_images():
        if image.source_instance_id in ids:
            draft.put(replace(image, state="failed", reason=f"host {host.name} was lost"))
    return draft.outcome(lost)


# A host that dies takes its actors along, and its agent may live long enough to say so: then this was the cause.
_SAME_DEATH_S = 15.0


def _after_loss(instance: Instance, host: Host, command: HostLost, now: float) -> Instance:
    state = LIFECYCLE.get(instance.state, "lost")  # type: ignore[arg-type]
    if state is None:
        if instance.reason_code == "Server.ActorDied" and now - instance.ended <= _SAME_DEATH_S:
            message = f"host {host.name} was lost: {command.message}"
            return replace(instance, reason_code=command.code, reason_message=message)
        return instance
    if state == "terminated":
        return ended(replace(instance, state=state), now)
    asked = instance.state == "stopping"
    return replace(
        instance,
        state=state,
        deadline=None,
        gpu_ids=[],
        reason_code=instance.reason_code if asked else command.code,
        reason_message=instance.reason_message if asked else f"host {host.name} was lost: {command.message}",
    )


def launch_failed(state: State, command: LaunchFailed, context: Context) -> Outcome:
    """The launch of this generation is given up; the first one leaves nothing, a later one keeps its disk."""
    instance = state.instances.get(command.instance_id)
    if instance is None or instance.generation != command.generation or instance.state != "pending":
        return Outcome(None)
    draft = Draft()
    after = given_up(instance, command.code, command.message)
    draft.put(after)
    return draft.outcome(after)


def given_up(instance: Instance, code: str, message: str) -> Instance:
    event: Event = "abandoned" if instance.generation == 1 else "failed"
    state = LIFECYCLE.step(instance.state, event)  # type: ignore[arg-type]
    return replace(instance, state=state, deadline=None, reason_code=code, reason_message=message, force_stop=True)


def cordon(state: State, command: CordonHost, context: Context) -> Outcome:
    """The reply is the Host. Draining stops what runs there too, whoever owns it, and lasts until it is uncordoned."""
    host = state.host_named(command.host)
    if host is None:
        raise host_not_found(command.host)
    draft = Draft()
    drained = command.cordoned and (command.drain or host.drained)
    after = replace(host, cordoned=command.cordoned, drained=drained)
    if after != host:
        draft.put(after)
    for instance in state.on_host(host.id) if command.drain else ():
        if instance.state in ("pending", "running"):
            message = f"Server.HostDrain: host {host.name} was drained"
            draft.put(
                replace(
                    instance, state="stopping", deadline=None, reason_code="Server.HostDrain", reason_message=message
                )
            )
    return draft.outcome(after)


def tick(state: State, context: Context) -> Outcome:
    """Deadlines: a launch without a guest is given up; old terminated instances and client tokens are forgotten."""
    draft = Draft()
    for entity in state.overdue(context.now):
        if not isinstance(entity, Instance):
            draft.drop(entity)
        elif entity.state == "pending":
            draft.put(given_up(entity, "Server.LaunchTimeout", "no guest came up in time on its host"))
        elif entity.disk_left and state.hosts.get(entity.host_id) is not None:
            draft.put(replace(entity, deadline=None))  # kept until its host is back and has deleted the disk
        else:
            draft.drop(entity)
    return draft.outcome()


def disk_deleted(state: State, instance: Instance, now: float) -> Outcome:
    """A terminated instance's disk is gone from its host; until that was said, its host is told to delete it."""
    draft = Draft()
    shown_until = (instance.terminated or now) + limits.TERMINATED_KEPT_S
    draft.put(replace(instance, disk_left=False, deadline=max(now, shown_until)))
    return draft.outcome(instance)


def image_done(state: State, image_id: str, size_bytes: int, error: str) -> Outcome:
    image = state.images.get(image_id)
    if image is None or image.state != "pending":
        return Outcome(None)
    after: Image = (
        replace(image, state="failed", reason=error)
        if error
        else replace(image, state="available", size_bytes=size_bytes)
    )
    draft = Draft()
    draft.put(after)
    return draft.outcome(after)
