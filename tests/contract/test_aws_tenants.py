"""Another account meets everything of SQS and SNS with the first one's URLs, ARNs, handles and tokens: it gets nowhere.

Every operation of both doors is here; one that is added makes the last test fail until it says how it is called.
"""

from __future__ import annotations

from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from minicloud.aws.coverage import operations
from tests.contract.aws_world import AwsWorld
from tests.contract.topic_world import offline

MINE, OTHER = "111111111111", "222222222222"
REGION = "us-east-1"
QUEUE, TOPIC = f"arn:aws:sqs:{REGION}:{MINE}:jobs", f"arn:aws:sns:{REGION}:{MINE}:news"
GONE = {
    "AWS.SimpleQueueService.NonExistentQueue", "ResourceNotFoundException", "InvalidParameterValue", "NotFound",
    "InvalidParameter", "AuthorizationError", "ResourceNotFound", "ReceiptHandleIsInvalid",
}  # fmt: skip
# What another's call may answer without an error: its own, empty.
EMPTY = {
    "ListQueues": {}, "ListTopics": {"Topics": []}, "ListSubscriptions": {"Subscriptions": []},
    "DeleteTopic": {}, "Unsubscribe": {},
}  # fmt: skip
OWN = {"CreateQueue", "CreateTopic", "PutDataProtectionPolicy"}  # name nothing of another's, or are refused anyway


def sqs_calls(url: str, handle: str, token: str) -> dict[str, dict[str, Any]]:
    one = {"QueueUrl": url}
    entry = {"Id": "a", "ReceiptHandle": handle}
    return {
        "AddPermission": {**one, "Label": "l", "AWSAccountIds": [OTHER], "Actions": ["*"]},
        "CancelMessageMoveTask": {"TaskHandle": token},
        "ChangeMessageVisibility": {**one, "ReceiptHandle": handle, "VisibilityTimeout": 0},
        "ChangeMessageVisibilityBatch": {**one, "Entries": [{**entry, "VisibilityTimeout": 0}]},
        "DeleteMessage": {**one, "ReceiptHandle": handle},
        "DeleteMessageBatch": {**one, "Entries": [entry]},
        "DeleteQueue": one,
        "GetQueueAttributes": {**one, "AttributeNames": ["All"]},
        "GetQueueUrl": {"QueueName": "jobs", "QueueOwnerAWSAccountId": MINE},
        "ListDeadLetterSourceQueues": one,
        "ListMessageMoveTasks": {"SourceArn": QUEUE},
        "ListQueueTags": one,
        "ListQueues": {},
        "PurgeQueue": one,
        "ReceiveMessage": one,
        "RemovePermission": {**one, "Label": "l"},
        "SendMessage": {**one, "MessageBody": "x"},
        "SendMessageBatch": {**one, "Entries": [{"Id": "a", "MessageBody": "x"}]},
        "SetQueueAttributes": {**one, "Attributes": {"DelaySeconds": "1"}},
        "StartMessageMoveTask": {"SourceArn": QUEUE},
        "TagQueue": {**one, "Tags": {"a": "b"}},
        "UntagQueue": {**one, "TagKeys": ["a"]},
    }


def sns_calls(subscription: str) -> dict[str, dict[str, Any]]:
    topic, resource, one = {"TopicArn": TOPIC}, {"ResourceArn": TOPIC}, {"SubscriptionArn": subscription}
    return {
        "AddPermission": {**topic, "Label": "l", "AWSAccountId": [OTHER], "ActionName": ["Publish"]},
        "ConfirmSubscription": {**topic, "Token": "x"},
        "DeleteTopic": topic,
        "GetDataProtectionPolicy": resource,
        "GetSubscriptionAttributes": one,
        "GetTopicAttributes": topic,
        "ListSubscriptions": {},
        "ListSubscriptionsByTopic": topic,
        "ListTagsForResource": resource,
        "ListTopics": {},
        "Publish": {**topic, "Message": "x"},
        "PublishBatch": {**topic, "PublishBatchRequestEntries": [{"Id": "a", "Message": "x"}]},
        "RemovePermission": {**topic, "Label": "l"},
        "SetSubscriptionAttributes": {**one, "AttributeName": "RawMessageDelivery", "AttributeValue": "false"},
        "SetTopicAttributes": {**topic, "AttributeName": "DisplayName", "AttributeValue": "x"},
        "Subscribe": {**topic, "Protocol": "sqs", "Endpoint": f"arn:aws:sqs:{REGION}:{OTHER}:theirs"},
        "TagResource": {**resource, "Tags": [{"Key": "a", "Value": "b"}]},
        "Unsubscribe": one,
        "UntagResource": {**resource, "TagKeys": ["a"]},
    }


async def meets_nothing(client: Any, calls: dict[str, dict[str, Any]]) -> None:
    for operation, params in calls.items():
        method = getattr(client, xform_name(operation))
        try:
            answer = await method(**params)
        except ClientError as error:
            assert error.response["Error"]["Code"] in GONE, f"{operation}: {error}"
            continue
        answer.pop("ResponseMetadata")
        assert operation in EMPTY, f"{operation} answers {answer}"
        assert answer == EMPTY[operation], operation


async def everything(sqs: Any, sns: Any, url: str, subscription: str) -> tuple[Any, ...]:
    shown = [
        await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]),
        await sqs.list_queue_tags(QueueUrl=url),
        await sns.get_topic_attributes(TopicArn=TOPIC),
        await sns.list_tags_for_resource(ResourceArn=TOPIC),
        await sns.get_subscription_attributes(SubscriptionArn=subscription),
    ]
    for one in shown:
        del one["ResponseMetadata"]
    return tuple(shown)


async def test_another_account_gets_nowhere() -> None:
    async with offline() as (broker, _, _):
        world = AwsWorld(f"http://127.0.0.1:{broker.broker.http_port}")
        try:
            sqs, sns = world.client("sqs", account=MINE), world.client("sns", account=MINE)
            url = (await sqs.create_queue(QueueName="jobs", tags={"a": "1"}))["QueueUrl"]
            await sqs.create_queue(QueueName="jobs2")
            await sns.create_topic(Name="news")
            made = await sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=QUEUE)
            await sqs.send_message(QueueUrl=url, MessageBody="secret")
            handle = (await sqs.receive_message(QueueUrl=url))["Messages"][0]["ReceiptHandle"]
            token = (await sqs.list_queues(MaxResults=1))["NextToken"]
            before = await everything(sqs, sns, url, made["SubscriptionArn"])
            for account, region in ((OTHER, REGION), (MINE, "eu-west-1")):
                theirs = world.client("sqs", account=account, region=region)
                await meets_nothing(theirs, sqs_calls(url, handle, token))
                with pytest.raises(ClientError):
                    await theirs.list_queues(MaxResults=1, NextToken=token)
                mine = (await theirs.create_queue(QueueName="theirs"))["QueueUrl"]
                failed = await theirs.delete_message_batch(
                    QueueUrl=mine, Entries=[{"Id": "a", "ReceiptHandle": handle}]
                )
                assert [one["Code"] for one in failed["Failed"]] == ["ReceiptHandleIsInvalid"]
                await theirs.delete_queue(QueueUrl=mine)
                topics = world.client("sns", account=account, region=region)
                await meets_nothing(topics, sns_calls(made["SubscriptionArn"]))
            assert await everything(sqs, sns, url, made["SubscriptionArn"]) == before
        finally:
            world.close()


def test_every_operation_is_met() -> None:
    assert operations("sqs").keys() == sqs_calls("", "", "").keys() | (OWN & operations("sqs").keys())
    assert operations("sns").keys() == sns_calls("").keys() | (OWN & operations("sns").keys())
