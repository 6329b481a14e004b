"""The life of an instance, as a table.

States and their meaning follow EC2 ("Instance lifecycle", EC2 User Guide). What can never happen: leaving `terminated`,
reaching `running` without a host's report, holding capacity in `stopped` or `terminated`.

Where we differ: a guest that ends by itself (exit, crash, out of memory) leaves its instance `stopped` with the exit
code in the reason, where EC2 would show `running` with a failed status check after a kernel panic. A host that is lost
leaves its instances `stopped` (their disks are on that host), as EC2 stops instances of a failed host whose root volume
survives it.

Events: `started` the host reports that the guest runs; `ended` the host reports that guest and actor are gone; `lost`
the host is gone; `failed` the launch was given up; `recover` the host came back as a new session and the guest is to
run again; the others are requests of the user.
"""

from __future__ import annotations

from typing import Literal

from minicloud.base.table import Table

State = Literal["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]
Event = Literal["started", "ended", "lost", "failed", "abandoned", "recover", "start", "stop", "reboot", "terminate"]

LIFECYCLE: Table[State, Event] = Table(
    "instance",
    {
        ("pending", "started"): "running",
        ("pending", "recover"): "pending",
        ("pending", "start"): "pending",  # so that a start can be repeated
        ("pending", "ended"): "stopped",
        ("pending", "lost"): "stopped",
        ("pending", "failed"): "stopping",  # a later start: the disk is kept
        ("pending", "abandoned"): "shutting-down",  # the first launch: nothing is kept
        ("pending", "stop"): "stopping",
        ("pending", "terminate"): "shutting-down",
        ("running", "started"): "running",
        ("running", "recover"): "pending",
        ("running", "ended"): "stopped",
        ("running", "lost"): "stopped",
        ("running", "start"): "running",
        ("running", "stop"): "stopping",
        ("running", "reboot"): "running",
        ("running", "terminate"): "shutting-down",
        ("stopping", "ended"): "stopped",
        ("stopping", "lost"): "stopped",
        ("stopping", "recover"): "stopped",
        ("stopping", "stop"): "stopping",
        ("stopping", "terminate"): "shutting-down",
        ("stopped", "start"): "pending",
        ("stopped", "stop"): "stopped",
        ("stopped", "terminate"): "shutting-down",
        ("shutting-down", "ended"): "terminated",
        ("shutting-down", "lost"): "terminated",
        ("shutting-down", "recover"): "shutting-down",
        ("shutting-down", "terminate"): "shutting-down",
        ("terminated", "terminate"): "terminated",
    },
)

# Placement counts an instance in these states against its host.
HOLDS_CAPACITY: frozenset[str] = frozenset({"pending", "running", "stopping", "shutting-down"})
# Quotas count these (AWS counts running and pending vCPUs; a stopped instance is free of them).
COUNTS_FOR_VCPUS: frozenset[str] = frozenset({"pending", "running"})
