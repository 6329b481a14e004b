"""Auto scaling groups of a real cloud: instances that come, serve behind a balancer, die, are replaced, and go."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicloud.client import Client
from minicloud.client.group_models import LifecycleHook
from minicloud.client.metric_models import Metric
from minicloud.client.models import TemplateData
from tests.group_site import GROUP_TAG, PORT, Load, Site, killed
from tests.real_cloud import RealCloud, kill, until

pytestmark = [pytest.mark.timeout(480), pytest.mark.ray]


@pytest.fixture
def site(client: Client) -> Iterator[Site]:
    made = Site.make(client, 2, 4)
    yield made
    if not made.is_gone():
        made.end()


def test_a_group_keeps_its_size_behind_a_balancer(cloud: RealCloud, client: Client, site: Site) -> None:
    began = time.monotonic()
    site.await_whole(2)
    print(f"2 in service and healthy {time.monotonic() - began:.1f} s after the call")
    zones = {one.zone for one in site.members()}
    assert len(zones) == 2  # spread over the two hosts
    one = client.instances.get(min(site.in_service()))
    assert one.tags[GROUP_TAG] == site.name and one.tags["aws:ec2launchtemplate:version"] == "1"
    load = Load(site.url)
    try:
        until(lambda: len(load.served) == 2, 10)
        guests = cloud.guest_pids(one.id)
        death = killed(guests[0], guests)
        until(lambda: one.id not in site.running() and site.whole(2), 90, "it is replaced")
        print(f"replaced and healthy {time.monotonic() - death.killed:.1f} s after the kill; {len(load.failed)} failed")
        client.groups.set_desired(site.name, 3)
        site.await_whole(3)
        client.groups.set_desired(site.name, 1)
        site.await_whole(1)
    finally:
        load.stop()
    assert not load.unexcused(death), death
    causes = [one.cause for one in client.groups.activities(site.name)]
    assert any("health" in cause for cause in causes) and any("user request" in cause for cause in causes)
    site.end()
    assert site.is_gone()


def test_a_group_hears_that_its_target_group_was_deleted(client: Client) -> None:
    name = f"g{time.time_ns() % 10**10}"
    target_group = client.target_groups.create(name, PORT)
    client.templates.create(name, TemplateData("base", "t3.nano"))
    client.groups.create(name, name, min_size=0, max_size=1, target_groups=[target_group.arn])
    client.target_groups.delete(name)
    until(lambda: not client.groups.get(name).target_groups, 10, "it was told")
    assert [one.status for one in client.groups.activities(name)] == ["Successful"]
    client.groups.delete(name)
    client.templates.delete(name)


def test_instances_attach_detach_and_stand_by(client: Client, site: Site) -> None:
    site.await_whole(2)
    one, two = sorted(site.in_service())
    client.groups.enter_standby(site.name, one, decrement=True)
    until(lambda: site.targets() == {two: "healthy"} and site.state(one) == "Standby", 30, "it is no target in standby")
    client.groups.exit_standby(site.name, one)
    site.await_whole(2)
    client.groups.detach(site.name, two, decrement=True)
    until(lambda: site.running() == {one} == set(site.targets()), 30, "the group has let go of it")
    assert client.instances.get(two).state == "running"
    client.groups.attach(site.name, two)
    site.await_whole(2)
    assert site.in_service() == {one, two}


def test_who_is_attached_and_was_found_unhealthy_before_is_replaced(client: Client) -> None:
    site = Site.make(client, 1, 3, grace_s=5)
    try:
        site.await_whole(1)
        (silent,) = client.instances.launch("t3.nano", wait=True)
        client.target_groups.register(site.target_group, silent.id)
        until(lambda: site.targets().get(silent.id) == "unhealthy", 30, "nobody serves there")
        client.groups.attach(site.name, silent.id)
        until(lambda: silent.id not in site.running() and site.whole(2), 60, site.story)
    finally:
        site.end()


def test_hooks_tell_a_queue_and_wait(client: Client) -> None:
    queue = client.queues.create(f"hooks{time.time_ns() % 10**10}")
    hook = LifecycleHook("warm-up", "autoscaling:EC2_INSTANCE_LAUNCHING", 120, "ABANDON", queue.arn, "note")
    site = Site.make(client, 0, 2)
    site.end()
    site = Site.make(client, 1, 2, hooks=(hook,))
    try:
        (message,) = until(lambda: client.queues.receive(queue.name, wait_s=5), 60)
        told = json.loads(message.body)
        (member,) = site.members()
        assert member.lifecycle_state == "Pending:Wait" and told["EC2InstanceId"] == member.instance_id
        assert told["NotificationMetadata"] == "note" and not site.targets()
        client.groups.complete_action(site.name, "warm-up", "CONTINUE", token=told["LifecycleActionToken"])
        site.await_whole(1)
    finally:
        site.end()
        client.queues.delete(queue.name)


def test_an_instance_that_serves_nothing_is_replaced(cloud: RealCloud, client: Client) -> None:
    """It accepts and never answers: the balancer ejects it, the group ends it."""
    site = Site.make(client, 2, 3, grace_s=5)
    try:
        site.await_whole(2)
        victim = min(site.in_service())
        for pid in cloud.guest_pids(victim):
            if b"http_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                kill(pid, signal.SIGSTOP)  # the kernel accepts, nobody answers
        until(lambda: victim not in site.running() and site.whole(2), 120, "it is replaced")
        reasons = [one.cause for one in client.groups.activities(site.name)]
        assert any("ELB" in cause for cause in reasons), reasons
    finally:
        site.end()


def test_a_busy_group_grows_by_what_its_instances_really_use(client: Client) -> None:
    """Detailed monitoring reports every ten seconds; three of them above the target make the group grow."""
    name = f"busy{time.time_ns() % 10**10}"
    burn = "#!/bin/sh\nsetsid python3 -c 'while True: pass' </dev/null &\n"
    client.templates.create(name, TemplateData("base", "t3.nano", user_data=burn, monitoring=True))
    client.groups.create(name, name, min_size=1, max_size=2, warmup_s=0)
    try:
        client.groups.wait_stable(name)
        (one,) = client.groups.members(name)
        assert client.instances.get(one.instance_id).monitoring
        client.policies.put_target_tracking(name, "cpu", 1.0, metric="ASGAverageCPUUtilizationHighResolution")
        until(lambda: client.groups.get(name).desired == 2, 90, "it grows")
        assert client.groups.wait_stable(name).desired == 2
        assert any("against a target of 1" in one.cause for one in client.groups.activities(name))
    finally:
        client.groups.delete(name, force=True)
        client.groups.wait_gone(name)
        client.templates.delete(name)


def test_a_topic_is_told_what_became_of_instances(client: Client) -> None:
    name = f"told{time.time_ns() % 10**10}"
    topic, queue = client.topics.create(name), client.queues.create(name)
    client.topics.subscribe(topic.arn, "sqs", queue.arn, attributes={"RawMessageDelivery": "true"})
    client.templates.create(name, TemplateData("base", "t3.nano"))
    client.groups.create(name, name, min_size=0, max_size=1)
    try:
        client.groups.set_notifications(name, topic.arn, "launch", "terminate")
        client.groups.set_desired(name, 1)
        client.groups.wait_stable(name)
        client.groups.delete(name, force=True)
        client.groups.wait_gone(name)
        told: list[str] = []
        while len(told) < 3:
            messages = client.queues.receive(name, max_messages=10, wait_s=10)
            assert messages, told
            told += [json.loads(one.body)["Event"].rpartition(":")[2] for one in messages]
        assert told == ["TEST_NOTIFICATION", "EC2_INSTANCE_LAUNCH", "EC2_INSTANCE_TERMINATE"]
    finally:
        client.templates.delete(name)
        client.topics.delete(topic.arn)
        client.queues.delete(name)


def test_an_alarm_rolls_a_refresh_back(client: Client) -> None:
    name = f"back{time.time_ns() % 10**10}"
    client.templates.create(name, TemplateData("base", "t3.nano"))
    client.templates.create_version(name, TemplateData("base", "t3.micro"))
    client.groups.create(name, name, version="1", min_size=0, max_size=3, desired=2, warmup_s=0)
    client.alarms.put(name, "GreaterThanThreshold", 1, metric=Metric("My/App", "Errors"), missing_data="ignore")
    try:
        client.groups.wait_stable(name)
        begun = client.groups.start_refresh(
            name, template=name, version="2", min_healthy=50, auto_rollback=True, alarms=[name], bake_s=120
        )
        until(lambda: next(client.groups.refreshes(name)).status == "Baking", 60, "all are replaced")
        client.alarms.set_state(name, "ALARM", "by hand")
        ended = client.groups.wait_refresh(name, begun.id, 240)
        assert ended.status == "RollbackSuccessful" and name in ended.reason
        assert {client.instances.get(one.instance_id).type for one in client.groups.members(name)} == {"t3.nano"}
        group = client.groups.get(name)
        assert group.template is not None and group.template.version == "1"
    finally:
        client.groups.delete(name, force=True)
        client.groups.wait_gone(name)
        client.alarms.delete(name)
        client.templates.delete(name)


def test_a_warm_pool_is_stopped_and_started(client: Client) -> None:
    site = Site.make(client, 1, 3)
    try:
        site.await_whole(1)
        client.groups.put_warm_pool(site.name, min_size=1, max_prepared=2)
        pooled = lambda: [one for one in site.members() if one.lifecycle_state == "Warmed:Stopped"]  # noqa: E731
        (warm,) = until(pooled, 60, "one has booted and is stopped")
        assert client.instances.get(warm.instance_id).state == "stopped"
        client.groups.set_desired(site.name, 2)
        until(lambda: warm.instance_id in site.in_service(), 60, "it comes out of the pool")
        assert client.instances.get(warm.instance_id).generation == 2
        until(lambda: warm.instance_id in site.targets(), 10, "it is registered")
    finally:
        site.end()


def test_a_mixed_group_takes_the_type_that_can_be_had(client: Client) -> None:
    """The one that is wanted most has no host, or more CPUs than the account may have."""
    name = f"mixed{time.time_ns() % 10**10}"
    client.templates.create(name, TemplateData("base", "t3.nano"))
    client.groups.create(name, name, min_size=0, max_size=4, desired=2, types=["m5.24xlarge", "t3.micro"])
    try:
        client.groups.wait_stable(name)
        assert {client.instances.get(one.instance_id).type for one in client.groups.members(name)} == {"t3.micro"}
        failed = [one for one in client.groups.activities(name) if one.status == "Failed"]
        assert failed and all("m5.24xlarge" in one.description or "vcpus" in one.description for one in failed), failed
    finally:
        client.groups.delete(name, force=True)
        client.groups.wait_gone(name)
        client.templates.delete(name)


def test_a_target_group_that_was_deleted_keeps_no_instance_from_the_others(client: Client, site: Site) -> None:
    site.await_whole(2)
    gone = client.target_groups.create(f"{site.name}-gone", PORT)
    client.groups.attach_target_groups(site.name, gone.arn)
    until(lambda: len(list(client.target_groups.health(gone.arn))) == 2, 30, "both are its targets")
    client.target_groups.delete(gone.name)
    client.groups.set_desired(site.name, 3)
    site.await_whole(3)
    until(lambda: client.groups.get(site.name).target_groups == (site.target_group,), 10, "it is dropped")
    assert any(gone.arn in one.description for one in client.groups.activities(site.name))
