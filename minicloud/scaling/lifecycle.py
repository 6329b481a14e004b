"""The life of an instance in a group, as a table.

States are AWS's ("Amazon EC2 Auto Scaling instance lifecycle"). Events:

    started, started_hooked   the instance runs (and a launching hook waits for it)
    stopped                   an instance of the warm pool has been stopped
    proceed                   every hook it waited for has ended
    terminate, detach         it is to leave
    standby, resume           it steps aside, it comes back
    enter                     it leaves the warm pool for service
    reuse                     it goes back there at a scale-in: drained first, then hooks of an end are waited for
    drained, drained_hooked   no balancer sends it anything any more (and a terminating hook waits)
    ended                     the instance is gone

What can never happen: an instance that leaves comes back into service; an instance in service that a launching hook
still waits for; an instance terminated while a terminating hook waits.
"""

from __future__ import annotations

from typing import Literal, cast

from minicloud.base.table import Table

State = Literal[
    "Pending", "Pending:Wait", "Pending:Proceed", "InService", "EnteringStandby", "Standby", "Detaching", "Detached",
    "Terminating", "Terminating:Wait", "Terminating:Proceed", "Terminated",
    "Warmed:Pending", "Warmed:Pending:Wait", "Warmed:Pending:Proceed", "Warmed:Running", "Warmed:Stopped",
    "Warmed:Terminating", "Warmed:Terminating:Wait", "Warmed:Terminating:Proceed",
]  # fmt: skip
Event = Literal[
    "started", "started_hooked", "stopped", "proceed", "terminate", "detach", "standby", "resume", "enter", "reuse",
    "drained", "drained_hooked", "ended",
]  # fmt: skip

LIFECYCLE: Table[State, Event] = Table(
    "group member",
    {
        ("Pending", "started"): "InService",
        ("Pending", "started_hooked"): "Pending:Wait",
        ("Pending", "terminate"): "Terminating",
        ("Pending:Wait", "proceed"): "Pending:Proceed",
        ("Pending:Wait", "terminate"): "Terminating",
        ("Pending:Proceed", "started"): "InService",
        ("Pending:Proceed", "terminate"): "Terminating",
        ("InService", "terminate"): "Terminating",
        ("InService", "detach"): "Detaching",
        ("InService", "standby"): "EnteringStandby",
        ("InService", "reuse"): "Warmed:Pending",
        ("EnteringStandby", "drained"): "Standby",
        ("EnteringStandby", "terminate"): "Terminating",
        ("Standby", "resume"): "Pending",
        ("Standby", "detach"): "Detaching",
        ("Standby", "terminate"): "Terminating",
        ("Detaching", "drained"): "Detached",
        ("Terminating", "drained"): "Terminating:Proceed",
        ("Terminating", "drained_hooked"): "Terminating:Wait",
        ("Terminating:Wait", "proceed"): "Terminating:Proceed",
        ("Terminating:Proceed", "ended"): "Terminated",
        ("Warmed:Pending", "started"): "Warmed:Running",
        ("Warmed:Pending", "started_hooked"): "Warmed:Pending:Wait",
        ("Warmed:Pending", "stopped"): "Warmed:Stopped",
        ("Warmed:Pending", "terminate"): "Warmed:Terminating",
        ("Warmed:Pending:Wait", "proceed"): "Warmed:Pending:Proceed",
        ("Warmed:Pending:Wait", "terminate"): "Warmed:Terminating",
        ("Warmed:Pending:Proceed", "started"): "Warmed:Running",
        ("Warmed:Pending:Proceed", "stopped"): "Warmed:Stopped",
        ("Warmed:Pending:Proceed", "terminate"): "Warmed:Terminating",
        ("Warmed:Running", "enter"): "Pending",
        ("Warmed:Running", "terminate"): "Warmed:Terminating",
        ("Warmed:Stopped", "enter"): "Pending",
        ("Warmed:Stopped", "terminate"): "Warmed:Terminating",
        ("Warmed:Terminating", "drained"): "Warmed:Terminating:Proceed",
        ("Warmed:Terminating", "drained_hooked"): "Warmed:Terminating:Wait",
        ("Warmed:Terminating:Wait", "proceed"): "Warmed:Terminating:Proceed",
        ("Warmed:Terminating:Proceed", "ended"): "Terminated",
    },
)

ACTIVE = frozenset({"Pending", "Pending:Wait", "Pending:Proceed", "InService"})  # these count for desired
ASIDE = frozenset({"EnteringStandby", "Standby"})
WARM = frozenset(
    {"Warmed:Pending", "Warmed:Pending:Wait", "Warmed:Pending:Proceed", "Warmed:Running", "Warmed:Stopped"}
)
COMING = frozenset({"Warmed:Pending", "Warmed:Pending:Wait"})  # into the warm pool: booting, and not stopped yet
READY = frozenset({"Warmed:Running", "Warmed:Stopped"})  # of the warm pool: to be taken into service
DRAINING = frozenset({"Terminating", "Warmed:Terminating", "Detaching", "EnteringStandby"})
ENDING = frozenset({"Terminating:Proceed", "Warmed:Terminating:Proceed"})
LEAVING = frozenset(
    {
        "Terminating", "Terminating:Wait", "Terminating:Proceed", "Detaching",
        "Warmed:Terminating", "Warmed:Terminating:Wait", "Warmed:Terminating:Proceed",
    }
)  # fmt: skip


def step(state: str, event: Event) -> str:
    """The next state. Raises KeyError naming state and event where there is none."""
    return LIFECYCLE.step(cast(State, state), event)


def may(state: str, event: Event) -> bool:
    return LIFECYCLE.get(cast(State, state), event) is not None
