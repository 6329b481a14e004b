"""Samples of instances -> CloudWatch's metrics of EC2. Pure.

Source: EC2 User Guide, "List the available CloudWatch metrics for your instances" and "Basic and detailed monitoring".

    sample, once a second    summed up for its instance
    report, at full periods  what the period says of each: one value a metric, the mean or what was added

Differs from EC2: basic monitoring is by the minute (AWS: five), detailed by ten seconds (AWS: the minute). Memory is
measured without an agent in the guest, under a namespace of ours. Counters of operations and packets are not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from minicloud.compute.model import Instance
from minicloud.shell.reports import Reading, Report
from minicloud.wire import fleet_pb2 as pb

NAMESPACE, OURS = "AWS/EC2", "Minicloud/EC2"
GROUP_TAG = "aws:autoscaling:groupName"  # EC2 Auto Scaling User Guide, "Tag Auto Scaling groups and instances"
BASIC_S, DETAILED_S = 60, 10
_COUNTERS = {
    "NetworkIn": "network_in_bytes",
    "NetworkOut": "network_out_bytes",
    "DiskReadBytes": "disk_read_bytes",
    "DiskWriteBytes": "disk_write_bytes",
}
_MIB = 1 << 20


@dataclass(slots=True)
class _Sum:
    """Of one generation of one instance, since its last report. `before`: the counters as they were then."""

    generation: int
    before: dict[str, int]
    last: pb.GuestSample
    seconds: int = 0
    cpu_percent: float = 0.0
    memory_bytes: int = 0

    def add(self, sample: pb.GuestSample) -> None:
        self.last = sample
        self.seconds += 1
        self.cpu_percent += sample.cpu_percent
        self.memory_bytes += sample.memory_bytes

    def clear(self) -> None:
        self.before = _counters(self.last)
        self.seconds, self.cpu_percent, self.memory_bytes = 0, 0.0, 0


class InstanceMeter:
    """What instances have used since they were last reported."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, sample: pb.GuestSample) -> None:
        seen = self._sums.get(sample.instance_id)
        if seen is None or seen.generation != sample.generation:
            fresh = dict.fromkeys(_COUNTERS, 0) if seen is not None else _counters(sample)  # restarted: from nothing
            seen = self._sums[sample.instance_id] = _Sum(sample.generation, fresh, sample)
        seen.add(sample)

    def report(self, instances: Mapping[str, Instance], moment: int) -> list[Report]:
        """At a full ten seconds (Unix): the periods that end now. O(instances)."""
        found: list[Report] = []
        for instance_id, seen in list(self._sums.items()):
            instance = instances.get(instance_id)
            if instance is None or instance.generation != seen.generation or not seen.seconds:
                if instance is None or instance.state != "running":
                    del self._sums[instance_id]
                continue
            period = DETAILED_S if instance.monitoring else BASIC_S
            if moment % period == 0:
                found += _reports(instance, seen, moment - period, period)
                seen.clear()
        return found


def _reports(instance: Instance, seen: _Sum, start: int, period: int) -> Iterable[Report]:
    resolution_s = 1 if period < BASIC_S else BASIC_S
    readings, own = _readings(instance, seen), _memory(instance, seen)
    for dimensions in _dimensions(instance):
        yield Report(instance.scope, NAMESPACE, dimensions, start, readings, resolution_s)
    for dimensions in _dimensions(instance):
        yield Report(instance.scope, OURS, dimensions, start, own, resolution_s)


def _dimensions(instance: Instance) -> Iterable[tuple[tuple[str, str], ...]]:
    """By instance and group; the rest is for detailed monitoring (guide, "Available metric dimensions")."""
    yield (("InstanceId", instance.id),)
    if group := instance.tags.get(GROUP_TAG):
        yield (("AutoScalingGroupName", group),)
    if instance.monitoring:
        yield (("InstanceType", instance.type),)
        yield (("ImageId", instance.image_id),)
        yield ()


def _readings(instance: Instance, seen: _Sum) -> list[Reading]:
    mean = seen.cpu_percent / seen.seconds
    failed = float(not seen.last.answers)
    found = [
        Reading("CPUUtilization", "Percent", (mean,)),
        Reading("StatusCheckFailed", "Count", (failed,)),
        Reading("StatusCheckFailed_Instance", "Count", (failed,)),
        Reading("StatusCheckFailed_System", "Count", (0.0,)),
    ]
    now = _counters(seen.last)
    found += [Reading(name, "Bytes", (float(max(0, now[name] - seen.before[name])),)) for name in _COUNTERS]
    if instance.cpu_credits:
        spent = seen.cpu_percent / 100 * instance.vcpus / 60  # a credit is a vCPU for a minute
        found.append(Reading("CPUCreditUsage", "Count", (spent,)))
        found.append(Reading("CPUCreditBalance", "Count", (seen.last.credit_balance,)))
    return found


def _memory(instance: Instance, seen: _Sum) -> list[Reading]:
    used = seen.memory_bytes / seen.seconds
    share = 100 * used / (instance.memory_mib * _MIB) if instance.memory_mib else 0.0
    return [Reading("MemoryUsed", "Bytes", (used,)), Reading("MemoryUtilization", "Percent", (share,))]


def _counters(sample: pb.GuestSample) -> dict[str, int]:
    return {name: getattr(sample, field) for name, field in _COUNTERS.items()}
