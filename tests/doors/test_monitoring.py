"""Metrics of a real cloud: an instance burns CPU, an alarm sees it and tells a topic; what others report."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest

from minicloud.base.errors import CloudError, NotFound
from minicloud.client import Client
from minicloud.client.balancer_models import Balancer, TargetGroup, forward
from minicloud.client.metric_models import Metric, MetricQuery
from tests.real_cloud import BIN, RealCloud, kill, until

pytestmark = [pytest.mark.timeout(480), pytest.mark.ray]

BURN = "#!/bin/sh\nwhile :; do :; done\n"
BUSY = 10  # percent: of an instance that burns what a busy machine leaves it; an idle one is below 1


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.05)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


def _ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Minute:
    """What is reported by the minute, done before all tests of this file.

    Looked at before the autoscaler is killed: what it took last is not on disk yet (decision 008).
    """

    balancer: Balancer
    group: TargetGroup


@pytest.fixture(scope="module", autouse=True)
def minute(client: Client) -> Iterator[Minute]:
    client.queues.create("work")
    client.topics.create("news")
    for number in range(5):
        client.queues.send("work", str(number))
    client.topics.publish("news", "hello")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = client.balancers.create("measured")
    group = client.target_groups.create("measured", server.server_port, target_type="ip")
    client.balancers.listen("measured", 80, forward("measured"))
    client.balancers.set_attributes(made.arn, {"access_logs.s3.enabled": True, "access_logs.s3.bucket": "kept"})
    client.target_groups.register("measured", "127.0.0.1")
    for _ in range(20):
        until(lambda: _ok(f"http://{made.address}/a?b=c"), 20, "an answer")
    yield Minute(made, group)
    client.balancers.delete("measured")
    client.target_groups.delete("measured")
    server.shutdown()
    server.server_close()


def ec2(cloud: RealCloud) -> Any:
    return boto3.client(
        "ec2", endpoint_url=cloud.http, region_name="us-east-1",
        aws_access_key_id="000000000000", aws_secret_access_key="x",
    )  # fmt: skip


def newest(client: Client, metric: Metric, stat: str = "Average", period_s: int = 60) -> float | None:
    values = all_of(client, metric, stat, period_s)
    return values[-1] if values else None


def all_of(client: Client, metric: Metric, stat: str = "Sum", period_s: int = 60) -> tuple[float, ...]:
    (line,) = client.metrics.get([MetricQuery("m", metric, stat, period_s)], start=time.time() - 600)
    return tuple(line.values)


def test_an_instance_burns_cpu_until_an_alarm_tells_a_topic(cloud: RealCloud, client: Client) -> None:
    topic, pages = client.topics.create("pages"), client.queues.create("pages")
    client.topics.subscribe("pages", "sqs", pages.arn)
    began = time.time()
    (burner,) = client.instances.launch("c5.large", user_data=BURN)
    ec2(cloud).monitor_instances(InstanceIds=[burner.id])
    cpu = Metric("AWS/EC2", "CPUUtilization", {"InstanceId": burner.id})
    try:
        made = client.alarms.put(
            "hot", "GreaterThanThreshold", BUSY, metric=cpu, period_s=10, evaluation_periods=2,
            alarm_actions=[topic.arn],
        )  # fmt: skip
        assert made.state == "INSUFFICIENT_DATA"
        (message,) = until(lambda: client.queues.receive("pages", wait_s=5), 60, "the alarm's message")
        told = json.loads(json.loads(message.text)["Message"])
        assert (told["AlarmName"], told["NewStateValue"]) == ("hot", "ALARM")
        assert told["Trigger"]["Dimensions"] == [{"value": burner.id, "name": "InstanceId"}]
        print(f"launch to the alarm's message: {time.time() - began:.1f} s")
        found = client.alarms.get("hot")
        assert found is not None and found.state == "ALARM"
        until(lambda: _kinds(client, "Action"), 20, "the action in the history")
        used = newest(client, cpu, "Maximum", 10)
        assert used is not None and BUSY < used <= 110
        for other in ("NetworkIn", "DiskReadBytes", "StatusCheckFailed"):
            assert newest(client, Metric("AWS/EC2", other, {"InstanceId": burner.id})) is not None
        memory = newest(client, Metric("Minicloud/EC2", "MemoryUtilization", {"InstanceId": burner.id}))
        assert memory is not None and 0 < memory < 100
        by_type = Metric("AWS/EC2", "CPUUtilization", {"InstanceType": "c5.large"})
        assert newest(client, by_type, "SampleCount", 10)
    finally:
        client.instances.terminate(burner.id)
    drawn = cloud.cli("metric", "plot", "AWS/EC2", "CPUUtilization", "-d", f"InstanceId={burner.id}", "--period", "10s")
    assert "┤" in drawn.stdout and "Average" in drawn.stdout


def test_alarms_reboot_stop_recover_and_terminate_an_instance(cloud: RealCloud, client: Client) -> None:
    (guest,) = client.instances.launch("t3.nano", wait=True)
    failed = Metric("AWS/EC2", "StatusCheckFailed_System", {"InstanceId": guest.id})
    ec2(cloud).monitor_instances(InstanceIds=[guest.id])

    def do(verb: str) -> None:
        action = f"arn:aws:automate:us-east-1:ec2:{verb}"
        client.alarms.put(verb, "GreaterThanThreshold", 1e9, metric=failed, alarm_actions=[action])
        client.alarms.set_state(verb, "ALARM", "by hand")
        client.alarms.set_state(verb, "OK", "by hand")

    def is_in(state: str) -> None:
        until(lambda: client.instances.get(guest.id).state == state, 30, f"{guest.id} {state}")

    def kept() -> bool:
        try:
            return client.instances.exec(guest.id, ["test", "-e", "/tmp/kept"]).exit_code == 0
        except CloudError:  # while it reboots
            return True

    assert client.instances.exec(guest.id, ["touch", "/tmp/kept"]).exit_code == 0
    do("reboot")
    until(lambda: not kept(), 30, "a boot that has emptied /tmp")
    credits = Metric("AWS/EC2", "CPUCreditBalance", {"InstanceId": guest.id})
    until(lambda: newest(client, credits, "SampleCount", 10), 30, "its CPU credits")
    do("stop")
    is_in("stopped")
    do("recover")
    told = until(lambda: [one.summary for one in client.alarms.history("recover") if one.kind == "Action"], 20, "a no")
    assert "not by a failure" in told[0] and client.instances.get(guest.id).state == "stopped"
    others = set(cloud.actor_pids("Instance"))
    client.instances.start(guest.id)
    is_in("running")
    for actor in set(cloud.actor_pids("Instance")) - others:
        kill(actor)
    is_in("stopped")
    do("recover")
    is_in("running")
    do("terminate")
    is_in("terminated")


def by_json(cloud: RealCloud, folder: Path) -> Any:
    """CloudWatch's client as boto3 was between query and CBOR: its model says json."""
    model = botocore.session.get_session().get_component("data_loader").load_service_model("cloudwatch", "service-2")
    model["metadata"] |= {"protocol": "json", "protocols": ["json"]}
    path = folder / "cloudwatch" / model["metadata"]["apiVersion"] / "service-2.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(model))
    session = botocore.session.get_session()
    session.set_config_variable("data_path", str(folder))
    return session.create_client(
        "cloudwatch", endpoint_url=cloud.http, region_name="us-east-1",
        aws_access_key_id="000000000000", aws_secret_access_key="x",
    )  # fmt: skip


def test_cloudwatch_speaks_json_1_0_too(cloud: RealCloud, tmp_path: Path) -> None:
    cloudwatch = by_json(cloud, tmp_path)
    spoken: set[tuple[bytes, bytes]] = set()

    def sent(request: Any, **_: Any) -> None:
        spoken.add((request.headers["Content-Type"], request.headers["X-Amz-Target"].split(b".")[0]))

    cloudwatch.meta.events.register("before-send.cloudwatch", sent)
    cloudwatch.put_metric_data(Namespace="json", MetricData=[{"MetricName": "m", "Value": 7.5, "Unit": "Count"}])
    now = datetime.now(UTC)
    span = {"StartTime": now - timedelta(minutes=9), "EndTime": now + timedelta(minutes=1)}
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="json", MetricName="m", **span, Period=3600, Statistics=["Sum"]
    )["Datapoints"]
    assert (point["Sum"], point["Unit"]) == (7.5, "Count") and abs(point["Timestamp"] - now) < timedelta(hours=1)
    rule = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 1.0, "EvaluationPeriods": 1, "Period": 60}
    cloudwatch.put_metric_alarm(AlarmName="json", Namespace="json", MetricName="m", Statistic="Sum", **rule)
    (found,) = cloudwatch.describe_alarms(AlarmNames=["json"])["MetricAlarms"]
    assert (found["Threshold"], found["StateValue"]) == (1.0, "INSUFFICIENT_DATA")
    with pytest.raises(cloudwatch.exceptions.ResourceNotFound) as caught:
        cloudwatch.set_alarm_state(AlarmName="none", StateValue="OK", StateReason="try")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"
    cloudwatch.delete_alarms(AlarmNames=["json"])
    assert spoken == {(b"application/x-amz-json-1.0", b"GraniteServiceVersion20100801")}


def _kinds(client: Client, wanted: str) -> list[str]:
    kinds = [item.kind for item in client.alarms.history("hot")]
    return kinds if wanted in kinds else []


def test_the_metrics_page_shows_balancers_metrics_and_logs(cloud: RealCloud, client: Client) -> None:
    client.balancers.create("shown")
    client.logs.create_group("/shown")
    client.logs.create_stream("/shown", "one")
    client.logs.put("/shown", "one", ["hello"])
    with urllib.request.urlopen(f"{cloud.http}/_minicloud/metrics", timeout=30) as answer:
        page = answer.read().decode()
    for line in (
        'minicloud_balancer_answers{balancer="0"} 1.0',
        'minicloud_balancer_requests_total{balancer="0",what="2xx"}',
        'minicloud_balancer_holds{balancer="0",what="balancers"}',
        'minicloud_autoscaler_answers{autoscaler="0"} 1.0',
        'minicloud_scaling_groups{autoscaler="0",what="desired"}',
        'minicloud_logs{autoscaler="0",what="blocks"}',
    ):
        assert line in page, line
    client.balancers.delete("shown")


def logged(client: Client, group: str, pattern: str) -> list[str]:
    """Messages; none while there is no such group yet."""
    try:
        return [event.message for event in client.logs.filter(group, pattern)]
    except NotFound:
        return []


def test_what_a_function_prints_is_in_its_log(client: Client) -> None:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as made:
        made.writestr("app.py", "def handler(event, context):\n    print('heard', event)\n    return 1\n")
    client.functions.create("talks", package.getvalue(), runtime="python3.11", handler="app.handler")
    client.functions.invoke("talks", {"a": 1})
    until(lambda: logged(client, "/aws/lambda/talks", "REPORT"), 20, "the last line in the log")
    events = list(client.logs.filter("/aws/lambda/talks", "heard"))
    assert "{'a': 1}" in events[0].message
    report = list(client.logs.filter("/aws/lambda/talks", "REPORT"))
    assert "Duration" in report[0].message and report[0].stream == events[0].stream


def test_queues_and_topics_report_by_the_minute(client: Client) -> None:
    sent = Metric("AWS/SQS", "NumberOfMessagesSent", {"QueueName": "work"})
    until(lambda: sum(all_of(client, sent)) == 5, 130, "the queue's minute, or two")
    held = Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "work"})
    until(lambda: newest(client, held) == 5, 80, "what it holds")
    published = Metric("AWS/SNS", "NumberOfMessagesPublished", {"TopicName": "news"})
    until(lambda: sum(all_of(client, published)) == 1, 80, "the topic's minute")


def test_a_balancer_reports_percentiles_and_keeps_an_access_log(client: Client, minute: Minute) -> None:
    target = {"TargetGroup": minute.group.arn.split(":", 5)[5]}
    of_both = {"LoadBalancer": minute.balancer.arn.split(":loadbalancer/")[1], **target}
    times = Metric("AWS/ApplicationELB", "TargetResponseTime", of_both)
    p50 = until(lambda: newest(client, times, "p50"), 80, "the balancer's minute")
    assert p50 is not None and 0.04 < p50 < 5
    lines = until(lambda: list(client.logs.filter("/aws/elasticloadbalancing/kept", "a?b=c")), 20, "access log")
    assert f'"GET http://{minute.balancer.address}:80/a?b=c HTTP/1.1"' in lines[0].message
    asked = Metric("AWS/ApplicationELB", "RequestCountPerTarget", target)
    assert 1 <= sum(all_of(client, asked)) <= 20


def following(cloud: RealCloud, *args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "MINICLOUD_ENDPOINT": cloud.endpoint}
    return subprocess.Popen([BIN, *args], env=env, stdout=subprocess.PIPE, text=True)


def test_logs_are_followed_by_the_command_line_over_a_killed_autoscaler(cloud: RealCloud, client: Client) -> None:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as made:
        made.writestr("app.py", "def handler(event, context):\n    print('heard', event)\n")
    client.functions.create("followed", package.getvalue(), runtime="python3.11", handler="app.handler")
    functions = following(cloud, "function", "logs", "-f", "followed")  # before it has a log
    client.functions.invoke("followed", 1)
    until(lambda: logged(client, "/aws/lambda/followed", "heard"), 20, "the function's log")
    group = following(cloud, "log", "tail", "-f", "/aws/lambda/followed", "heard")
    killer = threading.Timer(1.0, lambda: kill(cloud.actor_pids("Autoscaler")[0]))
    try:
        for follower in (functions, group):
            assert follower.stdout is not None
            lines = (line.split("heard ")[1].strip() for line in follower.stdout if "heard" in line)
            assert next(lines) == "1"
            follower.lines = lines  # type: ignore[attr-defined]
        killer.start()
        for number in range(2, 40):
            client.functions.invoke("followed", number)
            time.sleep(0.1)
        killer.join()
        for follower in (functions, group):
            assert list(islice(follower.lines, 38)) == [str(number) for number in range(2, 40)]  # type: ignore[attr-defined]
        runs = Metric("AWS/Lambda", "Invocations", {"FunctionName": "followed"})
        assert until(lambda: newest(client, runs, "Sum"), 80, "the function's minute")
    finally:
        for follower in (functions, group):
            follower.terminate()
            follower.communicate()


def test_what_a_guest_prints_is_in_its_log_over_a_killed_agent(cloud: RealCloud, client: Client) -> None:
    talks = "#!/bin/sh\ni=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done &\n"
    (guest,) = client.instances.launch("t3.nano", user_data=talks, wait=True)

    def numbers() -> list[int]:
        try:
            events = client.logs.filter("/minicloud/instances", "line", streams=[guest.id])
            return [int(one.message.split()[1]) for one in events]
        except NotFound:
            return []

    try:
        until(lambda: len(numbers()) > 5, 20, "the first lines")
        for agent in cloud.actor_pids("HostAgent"):
            kill(agent)
        before = len(numbers())
        until(lambda: len(numbers()) > before + 15, 30, "lines after the kill")
        found = numbers()
        assert sorted(set(found)) == list(range(1, max(found) + 1)), "none is missing"
        assert len(found) - len(set(found)) < 20, "few come twice"
    finally:
        client.instances.terminate(guest.id)
