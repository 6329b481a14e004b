"""What /_minicloud/metrics says: read from the live objects when a scrape comes, kept nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from minicloud.rpc.broker_counters import Readings
from minicloud.shell.shell import COMMIT_S_BOUNDS, Counters


class Inventory(Protocol):
    """What the cloud holds: instance states, host states, vCPUs and MiB used and sellable by host name."""

    def instance_states(self) -> Iterable[str]: ...

    def host_states(self) -> Iterable[str]: ...

    def usage(self) -> Iterable[tuple[str, dict[str, float]]]:
        """(host name, {vcpus_used, vcpus_sellable, memory_mib_used, memory_mib_sellable, warm_workers})."""
        ...


_FAMILIES = {
    "queue_messages": "Messages by what became of them, all queues of a broker",
    "queue_depth": "Messages in all queues of a broker by state",
    "topic_messages": "Messages published to topics, and their deliveries",
    "log_writes": "What a broker's log wrote",
    "log_size": "A broker's log on disk",
    "balancer_requests": "Requests to all load balancers of a process, and answers by class",
    "balancer_lost": "Measurements, and lines of access logs, that were not delivered; and what HAProxy could not tell",
    "broker_lost": "Measurements that were not delivered",
    "balancer_traffic": "Connections to all load balancers of a process, and bytes",
    "balancer_targets": "Targets of all load balancers by state",
    "balancer_holds": "Load balancers, listeners and target groups",
    "scaling_groups": "Auto scaling groups, and what they want together",
    "scaling_members": "Instances of auto scaling groups by lifecycle state",
    "metric_store": "Metrics in the store, and points that wait for the disk",
    "alarms": "Alarms by state",
    "logs": "Log groups and streams, blocks and bytes on disk",
}
ByNumber = Mapping[int, Readings | None]


class CloudCollector(Collector):
    """`shards`: the last readings, by what a shard is called and its number; None for one that did not answer."""

    def __init__(
        self,
        inventory: Inventory,
        counters: Counters,
        shards: Callable[[], Mapping[str, ByNumber]] = dict,
    ) -> None:
        self._inventory = inventory
        self._counters = counters
        self._shards = shards

    def collect(self) -> Iterable[Metric]:
        yield _by_label("minicloud_instances", "Instances by state", "state", self._inventory.instance_states())
        yield _by_label("minicloud_hosts", "Hosts by state", "state", self._inventory.host_states())
        usage = GaugeMetricFamily("minicloud_host_capacity", "Capacity of a host", labels=["host", "what"])
        for host, amounts in self._inventory.usage():
            for what, amount in amounts.items():
                usage.add_metric([host, what], amount)
        yield usage
        yield from self._journal()
        for noun, readings in self._shards().items():
            yield from _of_shards(noun, readings)

    def _journal(self) -> Iterable[Metric]:
        counters = self._counters
        for name, text, value in (
            ("minicloud_journal_commits", "Transactions on disk", counters.commits),
            ("minicloud_journal_commits_failed", "Transactions that failed and were undone", counters.commits_failed),
            ("minicloud_journal_records", "Records on disk", counters.records),
            ("minicloud_requests", "Commands given to the machines", counters.calls),
        ):
            yield CounterMetricFamily(name, text, value=value)
        seconds = HistogramMetricFamily("minicloud_journal_commit_seconds", "Time of one transaction, fsync included")
        seconds.add_metric([], _cumulative(counters.commit_s_buckets), counters.commit_s_sum)
        yield seconds


def _of_shards(noun: str, shards: ByNumber) -> Iterable[Metric]:
    answers = GaugeMetricFamily(f"minicloud_{noun}_answers", "1: it answered this scrape", labels=[noun])
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for number, readings in sorted(shards.items()):
        answers.add_metric([str(number)], float(readings is not None))
        for kind, name, value in _rows(readings or Readings()):
            family, _, what = name.partition(".")
            if family not in families:
                text = _FAMILIES.get(family, family)
                families[family] = kind(f"minicloud_{family}", text, labels=[noun, "what"])
            families[family].add_metric([str(number), what], value)
    yield answers
    yield from families.values()


def _rows(readings: Readings) -> Iterable[tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, float]]:
    yield from ((CounterMetricFamily, name, value) for name, value in readings.totals.items())
    yield from ((GaugeMetricFamily, name, value) for name, value in readings.gauges.items())


def registry(collector: Collector) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(collector)
    return made


def _by_label(name: str, text: str, label: str, values: Iterable[str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(Counter(values).items()):
        family.add_metric([value], count)
    return family


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    total, rows = 0, []
    for bound, count in zip([*map(str, COMMIT_S_BOUNDS), "+Inf"], buckets, strict=True):
        total += count
        rows.append((bound, float(total)))
    return rows
