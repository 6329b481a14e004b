"""What a group says of itself: AWS's group metrics. Source: EC2 Auto Scaling User Guide, "CloudWatch metrics"."""

from __future__ import annotations

from minicloud.scaling.lifecycle import ACTIVE, ASIDE, DRAINING, ENDING, READY, WARM
from minicloud.scaling.model import Group
from minicloud.scaling.state import Roster


def values(group: Group, roster: Roster | None) -> dict[str, float]:
    """By the name of the metric; those of the warm pool are 0 without one."""
    states = [member.state for member in roster.members.values()] if roster is not None else []
    leaving = [state for state in states if state in DRAINING | ENDING or state.endswith("Terminating:Wait")]
    cold = [state for state in leaving if state.startswith("Warmed")]
    in_service = states.count("InService")
    pending = sum(state in ACTIVE for state in states) - in_service
    standby = sum(state in ASIDE for state in states)
    warmed = [state for state in states if state in WARM]
    ready = sum(state in READY for state in warmed)
    ending = len([state for state in leaving if state.startswith("Terminating")])
    total, pool = in_service + pending + standby + ending, len(warmed) + len(cold)
    wanted = _pool_size(group, in_service + pending + standby)
    found = {
        "GroupMinSize": group.min_size,
        "GroupMaxSize": group.max_size,
        "GroupDesiredCapacity": group.desired,
        "GroupInServiceInstances": in_service,
        "GroupPendingInstances": pending,
        "GroupStandbyInstances": standby,
        "GroupTerminatingInstances": ending,
        "GroupTotalInstances": total,
        "WarmPoolDesiredCapacity": wanted,
        "WarmPoolWarmedCapacity": ready,
        "WarmPoolPendingCapacity": len(warmed) - ready,
        "WarmPoolTerminatingCapacity": len(cold),
        "WarmPoolTotalCapacity": pool,
        "GroupAndWarmPoolDesiredCapacity": group.desired + wanted,
        "GroupAndWarmPoolTotalCapacity": total + pool,
    }
    return {name: float(value) for name, value in found.items()}


def _pool_size(group: Group, held: int) -> int:
    """What a warm pool should hold, beside `held` instances that are in service, on their way there or in standby."""
    if group.warm is None:
        return 0
    most = group.max_size if group.warm.get("max_prepared") is None else int(group.warm["max_prepared"])
    return max(int(group.warm.get("min_size", 0)), most - held, 0)
