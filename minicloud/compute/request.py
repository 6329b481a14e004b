"""What can be asked of placement, and its good answer. (The other answer is `rejection.py`.)

Strategies: `binpack` takes the fullest host that has room, and starts on an unused host last. `spread` takes the zone
with the fewest members, then the fewest vCPUs in use; in it the host with the fewest members, then the emptiest.
Both take hosts with GPUs last when none is needed.

Placement groups, after AWS ("Placement strategies for your placement groups", EC2 User Guide); what differs is that a
host of ours holds many instances, so AWS's rack is a host here:

- `cluster`: all members in one zone; hosts that already have members first, then those that can take most of the batch.
- `spread`: at most one member per host and seven per zone; zones with fewer members first.
- `partition`: up to seven partitions in each zone; no host has members of two. Without a chosen partition, the one with
  the fewest members in its zone that still has room.

`members` are the instances to place in view of: the group's, or without a group those that `spread` keeps away from
(the others of an auto scaling group). The caller leaves out those that hold no capacity (stopped, terminated).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue
from minicloud.base.limits import PARTITIONS_MAX
from minicloud.base.shape import Shape
from minicloud.compute.columns import Kind

Strategy = Literal["binpack", "spread"]
GroupKind = Literal["cluster", "spread", "partition"]


class GroupMember(NamedTuple):
    """An instance that is already placed. `partition` 0: none."""

    host_id: str
    zone: str
    partition: int = 0


class Spot(NamedTuple):
    """Where one instance goes. `partition` 0: none."""

    host_id: str
    zone: str
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """One spot per instance, between `count_min` and `count_max` of them. Nothing is reserved yet."""

    spots: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """`count_max` instances of one shape, or as many as fit but at least `count_min`.

    `label` is what the user calls the shape ("m5.large"). `zone`, `host_id` None and `gpu_name` empty: any; a host that
    does not name its GPUs serves every `gpu_name`. `partitions` is how many a partition group has, `partition` 0 leaves
    the choice to us. `restart`: the instance is at home on `host_id`, so a cordon does not keep it out.
    """

    shape: Shape
    arch: str
    label: str = ""
    count_min: int = 1
    count_max: int = 1
    zone: str | None = None
    strategy: Strategy = "binpack"
    host_id: str | None = None
    gpu_name: str = ""
    group: GroupKind | None = None
    members: tuple[GroupMember, ...] = ()
    partitions: int = 0
    partition: int = 0
    restart: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidParameterValue, InvalidParameterCombination."""
        if not 1 <= self.count_min <= self.count_max:
            raise InvalidParameterValue(
                f"count must be 1 or more and min at most max, not {self.count_min} to {self.count_max}",
                field="count_min",
            )
        shape = self.shape
        if not (shape.vcpus >= 0 and shape.memory_mib >= 0 and shape.gpus >= 0 and shape.disk_gib >= 0):
            raise InvalidParameterValue(f"a shape has no negative amounts: {shape}", field="shape")
        if self.strategy not in ("binpack", "spread"):
            raise InvalidParameterValue(f"'{self.strategy}' is not binpack or spread", field="strategy")
        if self.restart and self.host_id is None:
            raise InvalidParameterCombination("a restart is on a host of its own", field="host_id")
        if self.group is not None or self.partition or self.members:
            self._check_group()

    def _check_group(self) -> None:
        if self.group not in (None, "cluster", "spread", "partition"):
            raise InvalidParameterValue(f"'{self.group}' is not cluster, spread or partition", field="group")
        if self.group == "partition":
            if not 1 <= self.partitions <= PARTITIONS_MAX:
                raise InvalidParameterValue(
                    f"a partition group has 1 to {PARTITIONS_MAX} partitions, not {self.partitions}", field="partitions"
                )
            if not 0 <= self.partition <= self.partitions:
                raise InvalidParameterValue(
                    f"the group has partitions 1 to {self.partitions}, not {self.partition}", field="partition"
                )
        elif self.partition:
            raise InvalidParameterCombination("a partition needs a partition placement group", field="partition")
        if self.members and self.group is None and self.strategy == "binpack":
            raise InvalidParameterCombination("members need a group or the strategy spread", field="members")


def kind_of(request: PlacementRequest) -> Kind:
    """The kind of host that a request asks for."""
    return Kind(request.zone or "", request.arch, request.gpu_name)
