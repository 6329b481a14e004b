"""CloudWatch and CloudWatch Logs by boto3: what is put is read, alarms go off, another account gets nowhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from minicloud.aws.call import Door
from minicloud.logs.aws import CloudWatchLogs
from minicloud.metric import limits
from minicloud.metric.aws import CloudWatch
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world, refused
from tests.contract.monitoring_world import World, monitoring_world

OTHER = "111122223333"
TOPIC = "arn:aws:sns:us-east-1:000000000000:pages"
HOST = [{"Name": "Host", "Value": "a"}]
LOAD = {"Namespace": "My/App", "MetricName": "Load", "Dimensions": HOST}
RULE = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 80.0, "EvaluationPeriods": 1}
HOT = {"AlarmName": "hot", **LOAD, "Statistic": "Average", "Period": 60, **RULE}


class Both(NamedTuple):
    world: World
    aws: AwsWorld


@asynccontextmanager
async def monitored() -> AsyncIterator[Both]:
    async with monitoring_world() as world:
        doors = (Door("cloudwatch", CloudWatch(world.service)), Door("logs", CloudWatchLogs(world.logs)))
        async with aws_world(*doors) as aws:
            yield Both(world, aws)


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    async with monitored() as made:
        yield made


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def put(cw: AsyncBoto, *data: dict[str, Any]) -> None:
    await cw.put_metric_data(Namespace="My/App", MetricData=[{"MetricName": "Load", **one} for one in data])


async def test_metrics_are_put_and_read(both: Both) -> None:
    cw, at = both.aws.client("cloudwatch"), both.world.clock.wall() // 60 * 60 - 600
    await put(
        cw,
        {"Value": 7.0, "Timestamp": moment(at), "Unit": "Count", "Dimensions": HOST},
        {"Values": [1.0, 3.0], "Counts": [9.0, 1.0], "Timestamp": moment(at + 60), "Unit": "Count", "Dimensions": HOST},
        {"StatisticValues": {"SampleCount": 4, "Sum": 20, "Minimum": 2, "Maximum": 9}, "StorageResolution": 1},
    )
    span = {"StartTime": moment(at), "EndTime": moment(at + 120)}
    found = await cw.get_metric_statistics(
        **LOAD, **span, Period=60, Statistics=["Average", "Sum"], ExtendedStatistics=["p99"]
    )
    first, second = found["Datapoints"]
    assert (first["Timestamp"], first["Average"], first["Unit"]) == (moment(at), 7.0, "Count") and second["Sum"] == 12
    assert second["ExtendedStatistics"]["p99"] == pytest.approx(3, rel=0.01)
    stat = {"Metric": LOAD, "Period": 60, "Stat": "Sum"}
    queries = [
        {"Id": "a", "MetricStat": stat, "ReturnData": False},
        {"Id": "b", "Expression": "a * 2", "Label": "twice"},
    ]
    (line,) = (await cw.get_metric_data(MetricDataQueries=queries, **span))["MetricDataResults"]
    assert (line["Label"], line["Values"], line["StatusCode"]) == ("twice", [24.0, 14.0], "Complete")
    (line,) = (await cw.get_metric_data(MetricDataQueries=queries, **span, ScanBy="TimestampAscending"))[
        "MetricDataResults"
    ]
    assert line["Values"] == [14.0, 24.0] and line["Timestamps"][0] == moment(at)
    listed = (await cw.list_metrics(Namespace="My/App", Dimensions=[{"Name": "Host"}], RecentlyActive="PT3H"))[
        "Metrics"
    ]
    assert listed == [{"Namespace": "My/App", "MetricName": "Load", "Dimensions": HOST}]
    with refused("InvalidParameterValue", "AWS/"):
        await cw.put_metric_data(Namespace="AWS/EC2", MetricData=[{"MetricName": "x", "Value": 1.0}])
    with refused("InvalidParameterValue", "twice"):
        await put(cw, {"Value": 1.0, "Dimensions": [*HOST, *HOST]})
    with refused("InvalidParameterValue", "MaxDatapoints"):
        await cw.get_metric_data(MetricDataQueries=queries, **span, MaxDatapoints=1)
    with refused("InvalidParameterValue", "EntityMetricData"):
        of_entity = [{"MetricData": [{"MetricName": "Load", "Value": 1.0}]}]
        await cw.put_metric_data(Namespace="My/App", EntityMetricData=of_entity)


async def test_many_metrics_are_listed_by_the_paginator(both: Both) -> None:
    cw = both.aws.client("cloudwatch")
    for start in range(0, 600, 200):
        names = [f"m{number:03}" for number in range(start, start + 200)]
        await cw.put_metric_data(Namespace="Many", MetricData=[{"MetricName": name, "Value": 1.0} for name in names])
    pages = await both.aws.run(lambda: list(cw.boto.get_paginator("list_metrics").paginate(Namespace="Many")))
    assert [len(page["Metrics"]) for page in pages] == [500, 100]
    with refused("InvalidNextToken"):
        await cw.list_metrics(NextToken="x" * 40)


async def test_an_alarm_is_made_goes_off_and_ends(both: Both) -> None:
    cw, world = both.aws.client("cloudwatch"), both.world
    await cw.put_metric_alarm(
        **HOT, AlarmActions=[TOPIC], AlarmDescription="d", Tags=[{"Key": "a", "Value": "b"}], TreatMissingData="ignore"
    )
    (made,) = (await cw.describe_alarms(AlarmNames=["hot"]))["MetricAlarms"]
    arn = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:hot"
    assert (made["AlarmArn"], made["StateValue"], made["Statistic"], made["Period"]) == (
        arn,
        "INSUFFICIENT_DATA",
        "Average",
        60,
    )
    assert made["AlarmActions"] == [TOPIC] and made["Dimensions"] == HOST and made["TreatMissingData"] == "ignore"
    await put(cw, {"Value": 99.0, "Dimensions": HOST, "Timestamp": moment(world.clock.wall())})
    await world.clock.advance(125)
    (found,) = (await cw.describe_alarms_for_metric(**LOAD, Statistic="Average", Period=60))["MetricAlarms"]
    assert found["StateValue"] == "ALARM" and "99.0" in found["StateReason"]
    assert json.loads(found["StateReasonData"])["recentDatapoints"] == [99.0]
    items = (await cw.describe_alarm_history(AlarmName="hot"))["AlarmHistoryItems"]
    assert [item["HistoryItemType"] for item in items] == ["Action", "StateUpdate", "ConfigurationUpdate"]
    await both.aws.run(lambda: cw.boto.get_waiter("alarm_exists").wait(AlarmNames=["hot"]))
    await cw.disable_alarm_actions(AlarmNames=["hot"])
    await cw.set_alarm_state(AlarmName="hot", StateValue="OK", StateReason="try", StateReasonData="{}")
    await cw.enable_alarm_actions(AlarmNames=["hot"])
    assert len(world.doer.acts) == 1
    await cw.tag_resource(ResourceARN=arn, Tags=[{"Key": "c", "Value": "d"}])
    await cw.untag_resource(ResourceARN=arn, TagKeys=["a"])
    assert (await cw.list_tags_for_resource(ResourceARN=arn))["Tags"] == [{"Key": "c", "Value": "d"}]
    await cw.put_composite_alarm(AlarmName="top", AlarmRule="ALARM(hot)")
    assert not (await cw.describe_alarms())["CompositeAlarms"]
    (top,) = (await cw.describe_alarms(AlarmTypes=["CompositeAlarm"]))["CompositeAlarms"]
    assert (top["AlarmRule"], top["StateValue"]) == ("ALARM(hot)", "OK")
    with refused("ValidationError"):
        await cw.delete_alarms(AlarmNames=["hot"])
    await cw.delete_alarms(AlarmNames=["top", "hot"])
    with refused("ResourceNotFound"):
        await cw.set_alarm_state(AlarmName="hot", StateValue="OK", StateReason="x")


async def test_an_alarm_on_an_expression_shows_its_queries(both: Both) -> None:
    cw = both.aws.client("cloudwatch")
    metrics = [
        {"Id": "a", "MetricStat": {"Metric": LOAD, "Period": 60, "Stat": "p90"}, "ReturnData": False},
        {"Id": "e", "Expression": "a / 2", "Label": "half"},
    ]
    await cw.put_metric_alarm(AlarmName="math", Metrics=metrics, **RULE)
    (made,) = (await cw.describe_alarms())["MetricAlarms"]
    assert [one["Id"] for one in made["Metrics"]] == ["a", "e"] and made["Metrics"][1]["Expression"] == "a / 2"
    with refused("InvalidParameterValue", "EvaluationCriteria"):
        await cw.put_metric_alarm(AlarmName="q", EvaluationCriteria={"PromQLCriteria": {"Query": "x"}})
    with refused("ValidationError"):
        await cw.put_metric_alarm(**{**HOT, "Period": 45})


async def test_logs_are_written_read_and_filtered(both: Both) -> None:
    logs, now = both.aws.client("logs"), round(both.world.clock.wall() * 1000)
    await logs.create_log_group(logGroupName="/app", tags={"a": "b"})
    await logs.create_log_stream(logGroupName="/app", logStreamName="one")
    await logs.put_retention_policy(logGroupName="/app", retentionInDays=7)
    where = {"logGroupName": "/app", "logStreamName": "one"}
    events = [{"timestamp": now + at, "message": f"{'ERROR' if at % 2 else 'ok'} {at}"} for at in range(10)]
    assert "rejectedLogEventsInfo" not in await logs.put_log_events(**where, logEvents=events)
    late = await logs.put_log_events(**where, logEvents=[{"timestamp": now + 9 * 3_600_000, "message": "x"}])
    assert late["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 0}
    page = await logs.get_log_events(**where, limit=3)
    assert [one["message"] for one in page["events"]] == ["ERROR 7", "ok 8", "ERROR 9"]
    more = await logs.get_log_events(**where, limit=3, nextToken=page["nextBackwardToken"], startFromHead=True)
    assert [one["message"] for one in more["events"]] == ["ok 4", "ERROR 5", "ok 6"]
    (group,) = (await logs.describe_log_groups(logGroupNamePrefix="/a"))["logGroups"]
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/app"
    assert (group["arn"], group["retentionInDays"], group["storedBytes"] > 0) == (f"{arn}:*", 7, True)
    paginator = logs.boto.get_paginator("filter_log_events")
    pages = await both.aws.run(
        lambda: list(
            paginator.paginate(
                logGroupIdentifier=arn,
                filterPattern="ERROR",
                startTime=now + 2,
                endTime=now + 7,
                PaginationConfig={"PageSize": 2},
            )
        )
    )
    assert [one["message"] for page in pages for one in page["events"]] == ["ERROR 3", "ERROR 5", "ERROR 7"]
    (stream,) = (await logs.describe_log_streams(logGroupName="/app", orderBy="LastEventTime", descending=True))[
        "logStreams"
    ]
    assert (stream["firstEventTimestamp"], stream["lastEventTimestamp"]) == (now, now + 9)
    await logs.tag_resource(resourceArn=arn, tags={"c": "d"})
    await logs.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert (await logs.list_tags_for_resource(resourceArn=arn))["tags"] == {"c": "d"}
    await logs.delete_retention_policy(logGroupName="/app")
    (group,) = (await logs.describe_log_groups(logGroupIdentifiers=["/app"]))["logGroups"]
    assert "retentionInDays" not in group
    matched = await logs.test_metric_filter(filterPattern="[a, b=1]", logEventMessages=["x 1", "x 2"])
    assert [one["eventNumber"] for one in matched["matches"]] == [1]
    await logs.delete_log_stream(**where)
    await logs.delete_log_group(logGroupName="/app")


async def test_what_logs_do_not_take_is_refused_as_aws_does(both: Both) -> None:
    logs = both.aws.client("logs")
    await logs.create_log_group(logGroupName="g")
    with refused("ResourceAlreadyExistsException"):
        await logs.create_log_group(logGroupName="g")
    with refused("ResourceNotFoundException", "log stream"):
        await logs.get_log_events(logGroupName="g", logStreamName="s")
    with refused("ResourceNotFoundException", "log group"):
        await logs.describe_log_streams(logGroupName="h")
    with refused("InvalidParameterException", "filter pattern"):
        await logs.filter_log_events(logGroupName="g", filterPattern="{ $.a")
    with refused("InvalidParameterException", "nextToken"):
        await logs.filter_log_events(logGroupName="g", nextToken="x" * 30)
    with refused("InvalidParameterException"):
        await logs.put_retention_policy(logGroupName="g", retentionInDays=2)
    for given in ({"kmsKeyId": "k"}, {"logGroupClass": "INFREQUENT_ACCESS"}, {"deletionProtectionEnabled": True}):
        with refused("InvalidParameterException", next(iter(given))):
            await logs.create_log_group(logGroupName="k", **given)


async def test_another_account_gets_nowhere(both: Both) -> None:
    mine, other = both.aws.client("cloudwatch"), both.aws.client("cloudwatch", account=OTHER)
    await mine.put_metric_alarm(**HOT)
    (alarm,) = (await mine.describe_alarms())["MetricAlarms"]
    assert (await other.describe_alarms())["MetricAlarms"] == [] == (await other.list_metrics())["Metrics"]
    await other.delete_alarms(AlarmNames=["hot"])
    for call in (
        other.tag_resource(ResourceARN=alarm["AlarmArn"], Tags=[]),
        other.list_tags_for_resource(ResourceARN=alarm["AlarmArn"]),
        other.set_alarm_state(AlarmName="hot", StateValue="OK", StateReason="x"),
    ):
        with refused("ResourceNotFound"):
            await call
    assert (await mine.describe_alarms())["MetricAlarms"]
    logs, others = both.aws.client("logs"), both.aws.client("logs", account=OTHER)
    await logs.create_log_group(logGroupName="/app")
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/app"
    assert (await others.describe_log_groups())["logGroups"] == []
    for call in (
        others.filter_log_events(logGroupIdentifier=arn),
        others.delete_log_group(logGroupName="/app"),
        others.tag_resource(resourceArn=arn, tags={"a": "b"}),
        others.list_tags_for_resource(resourceArn=arn),
    ):
        with refused("ResourceNotFoundException"):
            await call


async def test_dashboards_are_kept_as_they_were_put(both: Both) -> None:
    cw = both.aws.client("cloudwatch")
    body = json.dumps({"widgets": [{"type": "text", "properties": {"markdown": "h\u00e9"}}]})
    assert (await cw.put_dashboard(DashboardName="web", DashboardBody=body))["DashboardValidationMessages"] == []
    await cw.put_dashboard(DashboardName="web-2", DashboardBody='{"widgets": []}')
    found = await both.aws.client("cloudwatch", region="eu-west-1").get_dashboard(DashboardName="web")  # of all regions
    arn = "arn:aws:cloudwatch::000000000000:dashboard/web"
    assert (found["DashboardBody"], found["DashboardArn"]) == (body, arn)
    first, second = (await cw.list_dashboards(DashboardNamePrefix="we"))["DashboardEntries"]
    assert (first["DashboardName"], first["Size"]) == ("web", len(body)) and second["DashboardName"] == "web-2"
    for name, text in (("a b", body), ("a", "[]"), ("a", "{"), ("a", '{"widgets": 1}')):
        with refused("InvalidParameterInput"):
            await cw.put_dashboard(DashboardName=name, DashboardBody=text)
    stranger = both.aws.client("cloudwatch", account=OTHER)
    with refused("ResourceNotFound", "web"):
        await stranger.get_dashboard(DashboardName="web")
    with refused("ResourceNotFound", "none"):
        await cw.delete_dashboards(DashboardNames=["web", "none"])
    await cw.delete_dashboards(DashboardNames=["web", "web-2"])
    assert not (await cw.list_dashboards())["DashboardEntries"]


async def test_many_dashboards_come_in_pages_and_have_a_bound(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DASHBOARDS_PAGE", 2)
    monkeypatch.setattr(limits, "DASHBOARDS_CHARS_MAX", 80)
    cw = both.aws.client("cloudwatch")
    for name in "abcde":
        await cw.put_dashboard(DashboardName=name, DashboardBody='{"widgets": []}')
    await cw.put_dashboard(DashboardName="e", DashboardBody='{"widgets":  []}')  # in its own place
    with refused("LimitExceeded"):
        await cw.put_dashboard(DashboardName="f", DashboardBody='{"widgets": []}')
    paginator = cw.boto.get_paginator("list_dashboards")
    pages = await both.aws.run(lambda: [page["DashboardEntries"] for page in paginator.paginate()])
    assert [[one["DashboardName"] for one in page] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
