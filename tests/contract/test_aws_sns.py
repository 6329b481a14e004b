"""SNS by boto3 against a broker in this process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.contract.aws_world import AsyncBoto, AwsWorld
from tests.contract.topic_world import FakePoster, offline


@contextlib.asynccontextmanager
async def sns_world() -> AsyncIterator[tuple[AwsWorld, AsyncBoto, FakePoster]]:
    async with offline() as (broker, poster, _):
        world = AwsWorld(f"http://127.0.0.1:{broker.broker.http_port}")
        try:
            yield world, world.client("sns"), poster
        finally:
            world.close()


async def code(call: Any) -> str:
    with pytest.raises(ClientError) as failed:
        await call
    found: str = failed.value.response["Error"]["Code"]
    return found


async def made(sns: AsyncBoto, name: str = "news", **attributes: str) -> str:
    arn: str = (await sns.create_topic(Name=name, Attributes=attributes))["TopicArn"]
    return arn


async def test_topics() -> None:
    async with sns_world() as (_, sns, _):
        arn = (await sns.create_topic(Name="news", Tags=[{"Key": "a", "Value": "1"}]))["TopicArn"]
        assert arn == "arn:aws:sns:us-east-1:000000000000:news"
        await sns.set_topic_attributes(TopicArn=arn, AttributeName="DisplayName", AttributeValue="News")
        assert (await sns.get_topic_attributes(TopicArn=arn))["Attributes"]["DisplayName"] == "News"
        await sns.tag_resource(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
        await sns.untag_resource(ResourceArn=arn, TagKeys=["a"])
        assert (await sns.list_tags_for_resource(ResourceArn=arn))["Tags"] == [{"Key": "b", "Value": "2"}]
        assert (await sns.list_topics())["Topics"] == [{"TopicArn": arn}]
        await sns.add_permission(TopicArn=arn, Label="l", AWSAccountId=["111111111111"], ActionName=["Publish"])
        policy = json.loads((await sns.get_topic_attributes(TopicArn=arn))["Attributes"]["Policy"])
        assert [one["Sid"] for one in policy["Statement"]] == ["__default_statement_ID", "l"]
        await sns.remove_permission(TopicArn=arn, Label="l")
        policy = json.loads((await sns.get_topic_attributes(TopicArn=arn))["Attributes"]["Policy"])
        assert [one["Sid"] for one in policy["Statement"]] == ["__default_statement_ID"]
        await sns.delete_topic(TopicArn=arn)
        assert await code(sns.get_topic_attributes(TopicArn=arn)) == "NotFound"
        assert await code(sns.list_tags_for_resource(ResourceArn=arn)) == "ResourceNotFound"


async def test_a_hundred_topics_a_page() -> None:
    async with sns_world() as (world, sns, _):
        for index in range(101):
            await made(sns, f"t{index:03}")
        pages = await world.run(lambda: list(sns.boto.get_paginator("list_topics").paginate()))
        assert [len(page["Topics"]) for page in pages] == [100, 1]
        assert await code(sns.list_topics(NextToken="x")) == "InvalidParameter"


async def test_messages_reach_queues() -> None:
    async with sns_world() as (world, sns, _):
        sqs, arn = world.client("sqs"), await made(sns)
        url = (await sqs.create_queue(QueueName="q"))["QueueUrl"]
        queue = "arn:aws:sqs:us-east-1:000000000000:q"
        given = {"RawMessageDelivery": "true", "FilterPolicy": '{"kind": ["a"]}'}
        one = await sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue, Attributes=given)
        kind = {"kind": {"DataType": "String", "StringValue": "a"}}
        sent = await sns.publish(TopicArn=arn, Message="é", MessageAttributes=kind)
        assert len(sent["MessageId"]) == 36
        await sns.publish(TargetArn=arn, Message="not for it")
        entries = [
            {"Id": "1", "Message": "two", "MessageAttributes": kind},
            {"Id": "2", "Message": " "},
        ]
        batch = await sns.publish_batch(TopicArn=arn, PublishBatchRequestEntries=entries)
        assert [item["Id"] for item in batch["Successful"]] == ["1"]
        assert [(item["Id"], item["Code"]) for item in batch["Failed"]] == [("2", "InvalidParameter")]
        got = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        assert sorted(item["Body"] for item in got["Messages"]) == ["two", "é"]
        assert got["Messages"][0]["MessageAttributes"] == kind
        shown = await sns.get_subscription_attributes(SubscriptionArn=one["SubscriptionArn"])
        assert shown["Attributes"]["RawMessageDelivery"] == "true"
        await sns.set_subscription_attributes(
            SubscriptionArn=one["SubscriptionArn"], AttributeName="RawMessageDelivery", AttributeValue="false"
        )
        (listed,) = (await sns.list_subscriptions_by_topic(TopicArn=arn))["Subscriptions"]
        assert listed == {
            "SubscriptionArn": one["SubscriptionArn"], "Owner": "000000000000", "Protocol": "sqs", "Endpoint": queue,
            "TopicArn": arn,
        }  # fmt: skip
        await sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
        assert (await sns.list_subscriptions())["Subscriptions"] == []


async def test_an_endpoint_confirms() -> None:
    async with sns_world() as (_, sns, poster):
        arn = await made(sns)
        pending = await sns.subscribe(TopicArn=arn, Protocol="http", Endpoint="http://x.test/hook")
        assert pending["SubscriptionArn"] == "pending confirmation"
        token = (await poster.got(1))[0].document["Token"]
        done = await sns.confirm_subscription(TopicArn=arn, Token=token)
        assert done["SubscriptionArn"].startswith(f"{arn}:")
        assert await code(sns.confirm_subscription(TopicArn=arn, Token="x")) == "InvalidParameter"


async def test_fifo() -> None:
    async with sns_world() as (_, sns, _):
        arn = await made(sns, "news.fifo", FifoTopic="true", ContentBasedDeduplication="true")
        first = await sns.publish(TopicArn=arn, Message="x", MessageGroupId="g")
        assert (await sns.publish(TopicArn=arn, Message="x", MessageGroupId="g"))["SequenceNumber"] == (
            first["SequenceNumber"]
        )
        assert await code(sns.publish(TopicArn=arn, Message="x")) == "InvalidParameter"


async def test_refusals() -> None:
    async with sns_world() as (world, sns, _):
        arn = await made(sns)
        assert await code(sns.publish(PhoneNumber="+1", Message="x")) == "InvalidParameter"
        assert await code(sns.publish(Message="x")) == "InvalidParameter"
        assert await code(sns.publish(TopicArn="news", Message="x")) == "InvalidParameter"
        assert await code(sns.subscribe(TopicArn=arn, Protocol="email", Endpoint="a@b")) == "InvalidParameter"
        assert await code(sns.create_topic(Name="a b")) == "InvalidParameter"
        assert await code(sns.publish_batch(TopicArn=arn, PublishBatchRequestEntries=[])) == "EmptyBatchRequest"
        assert (
            await code(sns.put_data_protection_policy(ResourceArn=arn, DataProtectionPolicy="{}")) == "InvalidParameter"
        )
        assert await code(sns.create_platform_application(Name="a", Platform="GCM", Attributes={})) == "InvalidAction"
        other = world.client("sns", account="111111111111")
        assert await code(other.publish(TopicArn=arn, Message="x")) in ("NotFound", "AuthorizationError")
