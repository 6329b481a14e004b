"""The machine of load balancers: requests and observations in, records and effects out. The rules are in its files.

    balancers.py listeners.py rules.py     what clients meet
    groups.py targets.py health.py         what requests go to
    actions.py conditions.py attributes.py certificates.py tagging.py association.py

Never: a rule that names a group which is not there; a group that two balancers use; a target that HAProxy should know
in a group that no balancer uses; two rules of one listener with one priority.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from minicloud.balancer import (
    attributes,
    balancers,
    certificates,
    commands,
    errors,
    groups,
    listeners,
    rules,
    tagging,
    targets,
)
from minicloud.balancer.model import SHARD, Balancer, Group, Listener, Shard
from minicloud.balancer.ports import NoSeal, Seal
from minicloud.balancer.state import State
from minicloud.base.machine import Context, Draft, Outcome, RuleMachine, Tick


class Balancers(RuleMachine[State]):
    """Implements base.machine.Machine. `loopback`: addresses of this machine itself may be targets, which is for clouds
    of one user: whatever listens there would be everybody's.
    """

    def __init__(self, seal: Seal | None = None, *, loopback: bool = True) -> None:
        rules_of: dict[type[Any], Callable[[State, Any, Context], Outcome]] = {
            commands.CreateBalancer: balancers.create,
            commands.DeleteBalancer: balancers.delete,
            commands.SetAttributes: _set_attributes,
            commands.CreateListener: listeners.create,
            commands.ModifyListener: listeners.modify,
            commands.DeleteListener: listeners.delete,
            commands.CreateRule: rules.create,
            commands.ModifyRule: rules.modify,
            commands.SetPriorities: rules.set_priorities,
            commands.DeleteRule: rules.delete,
            commands.CreateGroup: groups.create,
            commands.ModifyGroup: groups.modify,
            commands.DeleteGroup: groups.delete,
            commands.RegisterTargets: partial(targets.register, loopback),
            commands.DeregisterTargets: targets.deregister,
            commands.ObserveHealth: targets.observe,
            commands.TargetIdle: targets.idle,
            commands.InstanceSeen: targets.instance_seen,
            commands.ImportCertificate: partial(certificates.create, seal or NoSeal()),
            commands.DeleteCertificate: certificates.delete,
            commands.SetTags: tagging.decide,
            commands.ProxyStarts: _proxy_starts,
            Tick: lambda state, _, context: targets.tick(state, context),
        }
        super().__init__(State(), rules_of)

    def due(self) -> float | None:
        return self.state.due()


def _proxy_starts(state: State, _command: commands.ProxyStarts, _context: Context) -> Outcome:
    draft = Draft(state)
    before = state.shards.get(SHARD, Shard())
    draft.put(replace(before, starts=before.starts + 1))
    return draft.outcome()


def _set_attributes(state: State, command: commands.SetAttributes, _context: Context) -> Outcome:
    """The reply is all attributes of the resource, defaults included."""
    entity = tagging.find_any(state, command.scope, command.arn)
    if not isinstance(entity, Balancer | Listener | Group):
        raise errors.invalid(f"'{command.arn[:256]}' has no attributes", "arn")
    after = replace(entity, attributes=attributes.merged(entity, command.attributes))
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(attributes.all_of(after))
