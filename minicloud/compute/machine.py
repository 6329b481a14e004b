"""The compute machine: requests and reports in, records and effects out. The rules are in the files it names.

    launch.py     RunInstances: resolve, check, place, write
    instances.py  start, stop, reboot, terminate, modify
    observe.py    what hosts and guests report, and deadlines
    images.py templates.py keys.py security.py tagging.py     what launches refer to
    transitions.py                                            what rules are told of instances

Never: two records of one instance that disagree on its host; capacity held by an instance that is stopped or
terminated; a reply about something that is not in the records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minicloud.base.machine import Context, Outcome, Record, Tick
from minicloud.compute import (
    commands,
    images,
    instances,
    keys,
    launch,
    observe,
    security,
    tagging,
    templates,
    transitions,
)
from minicloud.compute.model import KINDS
from minicloud.compute.ports import UserDataCheck
from minicloud.compute.state import State


@dataclass(frozen=True, slots=True)
class DiskDeleted:
    """A host says that nothing of this terminated instance is left on it."""

    instance_id: str


class Compute:
    """Implements base.machine.Machine. `check_user_data` raises InvalidParameterValue for what no guest could run."""

    def __init__(self, check_user_data: UserDataCheck) -> None:
        self.state = State()
        self._check = check_user_data
        self._rules: dict[type[Any], Callable[[State, Any, Context], Outcome]] = {
            commands.Launch: self._launch,
            commands.StartInstances: instances.start,
            commands.StopInstances: instances.stop,
            commands.RebootInstances: instances.reboot,
            commands.TerminateInstances: instances.terminate,
            commands.ModifyInstance: self._modify,
            commands.GrowRoot: instances.grow_root,
            commands.SetTags: tagging.decide,
            commands.CreateImage: images.create,
            commands.RegisterImage: images.register,
            commands.DeregisterImage: images.deregister,
            commands.ImageDone: self._image_done,
            commands.PutKeyPair: keys.put_key,
            commands.DeleteKeyPair: keys.delete_key,
            commands.CreateTemplate: self._create_template,
            commands.CreateTemplateVersion: self._create_version,
            commands.SetDefaultVersion: templates.set_default,
            commands.DeleteTemplate: templates.delete,
            commands.DeleteTemplateVersion: templates.delete_version,
            security.CreateSecurityGroup: security.create,
            security.DeleteSecurityGroup: security.delete,
            security.ChangeRules: security.change,
            security.ReplaceRules: security.modify,
            commands.CreateGroup: keys.create_group,
            commands.DeleteGroup: keys.delete_group,
            commands.CordonHost: observe.cordon,
            commands.HostSeen: observe.host_seen,
            commands.HostLost: observe.host_lost,
            commands.GuestSeen: observe.guest_seen,
            commands.LaunchFailed: observe.launch_failed,
            DiskDeleted: self._disk_deleted,
            transitions.Listen: transitions.listen,
            transitions.Told: transitions.told,
            Tick: lambda state, _, context: observe.tick(state, context),
        }

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(KINDS)

    def decide(self, command: Any, context: Context) -> Outcome:
        outcome = self._rules[type(command)](self.state, command, context)
        return transitions.noted(self.state, outcome, context.now) if self.state.listeners else outcome

    def apply(self, record: Record) -> None:
        self.state.apply(record)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self.state.lookup(kind, key)

    def due(self) -> float | None:
        return self.state.due()

    # --- rules that need the check of user data, or have another form

    def _launch(self, state: State, command: commands.Launch, context: Context) -> Outcome:
        return launch.decide(state, command, context, self._check)

    def _modify(self, state: State, command: commands.ModifyInstance, context: Context) -> Outcome:
        return instances.modify(state, command, context, self._check)

    def _create_template(self, state: State, command: commands.CreateTemplate, context: Context) -> Outcome:
        return templates.create(state, command, context, self._check)

    def _create_version(self, state: State, command: commands.CreateTemplateVersion, context: Context) -> Outcome:
        return templates.create_version(state, command, context, self._check)

    def _image_done(self, state: State, command: commands.ImageDone, context: Context) -> Outcome:
        return observe.image_done(state, command.image_id, command.size_bytes, command.error)

    def _disk_deleted(self, state: State, command: DiskDeleted, context: Context) -> Outcome:
        instance = state.instances.get(command.instance_id)
        if instance is None or instance.state != "terminated" or not instance.disk_left:
            return Outcome(None)
        return observe.disk_deleted(state, instance, context.now)
