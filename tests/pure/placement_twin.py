"""Placement, deliberately dumb: plain loops over plain hosts, one instance after the other, no cache, no numpy.

It states the rules of `minicloud.compute.placement` a second time. Slow and obvious; the tests hold the fast one to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from minicloud.base.shape import Shape
from minicloud.compute.fleet import stable_tie
from minicloud.compute.placement import GroupMember, PlacementRequest, Spot

RESOURCES = ("vcpus", "memory", "gpus", "disk")


def amounts(shape: Shape) -> list[int]:
    return [round(shape.vcpus * 10_000), shape.memory_mib, round(shape.gpus * 10_000), shape.disk_gib]


@dataclass
class TwinHost:
    host_id: str
    zone: str
    arch: str
    total: list[int]
    used: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    cordoned: bool = False
    schedulable: bool = True
    gpu_name: str = ""

    def free(self) -> list[int]:
        return [total - used for total, used in zip(self.total, self.used, strict=True)]

    def slack(self) -> int:
        in_use = any(used > 0 for used in self.used)
        parts = zip(self.free(), self.total, strict=True)
        shares = [max(0, min(free, whole)) * 2**15 // whole for free, whole in parts if whole]
        return sum(shares) + (0 if in_use else 2**18) + (2**19 if self.total[2] else 0)

    def room(self, need: list[int]) -> int:
        return min([free // amount for free, amount in zip(self.free(), need, strict=True) if amount] or [10**9])


Verdicts = dict[str, set[str]]


class Twin:
    def __init__(self, tie: Callable[[str], int] = stable_tie) -> None:
        self.tie = tie
        self.hosts: dict[str, TwinHost] = {}

    def use(self, host_id: str, shape: Shape, count: int) -> None:
        used = self.hosts[host_id].used
        used[:] = [have + count * more for have, more in zip(used, amounts(shape), strict=True)]

    def place(self, request: PlacementRequest) -> list[Spot] | Verdicts:
        """The spots, or what failed on every host; the hosts are as before afterwards."""
        members = list(request.members)
        spots: list[Spot] = []
        while len(spots) < request.count_max:
            spot = self.choose(request, members, request.count_max - len(spots))
            if spot is None:
                break
            spots.append(spot)
            members.append(GroupMember(*spot))
            self.use(spot.host_id, request.shape, 1)
        verdicts = {host.host_id: self.failures(host, request, members) for host in self.hosts.values()}
        for spot in spots:
            self.use(spot.host_id, request.shape, -1)
        return spots if len(spots) >= request.count_min else verdicts

    def choose(self, request: PlacementRequest, members: list[GroupMember], left: int) -> Spot | None:
        best: tuple[list[object], Spot] | None = None
        for host in self.hosts.values():
            if self.failures(host, request, members):
                continue
            for partition in self.partitions(host, request, members):
                spot = Spot(host.host_id, host.zone, partition)
                key = self.key(host, spot, request, members, left)
                if best is None or key < best[0]:
                    best = key, spot
        return best[1] if best else None

    def partitions(self, host: TwinHost, request: PlacementRequest, members: list[GroupMember]) -> list[int]:
        if request.group != "partition":
            return [0]
        owners = [member.partition for member in members if member.host_id == host.host_id and member.partition]
        allowed = [request.partition] if request.partition else list(range(1, request.partitions + 1))
        return [partition for partition in allowed if not owners or partition == min(owners)]

    def failures(self, host: TwinHost, request: PlacementRequest, members: list[GroupMember]) -> set[str]:
        failed = set()
        if request.host_id is not None and request.host_id != host.host_id:
            failed.add("affinity")
        if request.zone is not None and request.zone != host.zone:
            failed.add("zone")
        if request.arch != host.arch:
            failed.add("arch")
        if not host.schedulable or (host.cordoned and not request.restart):
            failed.add("state")
        if request.gpu_name and host.gpu_name and request.gpu_name != host.gpu_name:
            failed.add("gpu_model")
        for name, free, amount in zip(RESOURCES, host.free(), amounts(request.shape), strict=True):
            if amount > 0 and free < amount:
                failed.add(name)
        if not self.group_allows(host, request, members):
            failed.add("group")
        return failed

    def group_allows(self, host: TwinHost, request: PlacementRequest, members: list[GroupMember]) -> bool:
        if request.group == "cluster":
            return not members or any(member.zone == host.zone for member in members)
        if request.group == "spread":
            in_zone = sum(member.zone == host.zone for member in members)
            return in_zone < 7 and all(member.host_id != host.host_id for member in members)
        if request.group == "partition":
            return bool(self.partitions(host, request, members))
        return True

    def key(
        self, host: TwinHost, spot: Spot, request: PlacementRequest, members: list[GroupMember], left: int
    ) -> list[object]:
        need, spread = amounts(request.shape), request.strategy == "spread"
        on_host = sum(member.host_id == host.host_id for member in members)
        key: list[object] = []
        if request.group == "cluster" and not members:
            zone = [other for other in self.hosts.values() if other.zone == host.zone]
            takes = sum(other.room(need) for other in zone if not self.failures(other, request, members))
            key.append(-min(left, takes))
        if spread or request.group == "spread":
            key.append(sum(member.zone == host.zone for member in members))
        if spread:
            key.append(sum(other.used[0] for other in self.hosts.values() if other.zone == host.zone))
            key.append((stable_tie(host.zone), host.zone))
        if request.group == "partition":
            key.append(sum((member.zone, member.partition) == (host.zone, spot.partition) for member in members))
            key.append(spot.partition)
        if request.group == "cluster":
            key += [-on_host, -min(host.room(need), left)]
        key += [on_host, host.total[2] > 0, -host.slack()] if spread else [host.slack()]
        return [*key, self.tie(host.host_id), host.host_id]
