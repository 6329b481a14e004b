"""The machine of functions: requests in, records and effects out. The rules are in its files.

    functions.py aliases.py layers.py      code and what it is called by
    policies.py concurrencies.py urls.py   who may call it, how often, by which address
    mappings.py schedules.py               what calls it by itself

Never: an alias of a version that is not there; a version that changes; a function version whose layer is gone; a
mapping that feeds two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicloud.base.machine import Context, Outcome, RuleMachine, Tick
from minicloud.function import (
    aliases,
    commands,
    concurrencies,
    functions,
    layers,
    mappings,
    policies,
    schedule_groups,
    schedules,
    urls,
)
from minicloud.function.state import State


class Functions(RuleMachine[State]):
    """Never due by itself: schedules are the service's (schedules.py says why)."""

    def __init__(self) -> None:
        rules: dict[type[Any], Callable[[State, Any, Context], Outcome]] = {
            commands.CreateFunction: functions.create,
            commands.UpdateCode: functions.update_code,
            commands.UpdateSettings: functions.update_settings,
            commands.PublishVersion: functions.publish,
            commands.DeleteFunction: functions.delete,
            commands.CreateAlias: aliases.create,
            commands.UpdateAlias: aliases.update,
            commands.DeleteAlias: aliases.delete,
            commands.AddPermission: policies.add,
            commands.RemovePermission: policies.remove,
            commands.SetReserved: concurrencies.set_reserved,
            commands.SetProvisioned: concurrencies.set_provisioned,
            commands.SetEventInvoke: concurrencies.set_event_invoke,
            commands.DeleteEventInvoke: concurrencies.delete_event_invoke,
            commands.CreateUrl: urls.create,
            commands.UpdateUrl: urls.update,
            commands.DeleteUrl: urls.delete,
            commands.CreateMapping: mappings.create,
            commands.UpdateMapping: mappings.update,
            commands.DeleteMapping: mappings.delete,
            commands.PublishLayer: layers.publish,
            commands.DeleteLayer: layers.delete,
            commands.ShareLayer: layers.share,
            commands.UnshareLayer: layers.unshare,
            commands.PutSchedule: schedules.put,
            commands.DeleteSchedule: schedules.delete,
            commands.ScheduleFired: schedules.fired,
            commands.CreateScheduleGroup: schedule_groups.create,
            commands.DeleteScheduleGroup: schedule_groups.delete,
            commands.TagScheduleGroup: schedule_groups.tag,
            commands.SetTags: functions.set_tags,
            Tick: lambda _state, _command, _context: Outcome(),
        }
        super().__init__(State(), rules)
