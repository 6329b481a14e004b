"""SQS by boto3, and by the query protocol of older SDKs, against a broker in this process."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from botocore.exceptions import ClientError

from minicloud.base.digests import md5_of_attributes
from minicloud.queue.message import Attribute
from tests.contract.aws_world import AsyncBoto, AwsWorld
from tests.contract.broker_world import broker_world

NS = "{http://queue.amazonaws.com/doc/2012-11-05/}"


@contextlib.asynccontextmanager
async def sqs_world() -> AsyncIterator[tuple[AwsWorld, AsyncBoto]]:
    async with broker_world() as broker:
        world = AwsWorld(f"http://127.0.0.1:{broker.broker.http_port}")
        try:
            yield world, world.client("sqs")
        finally:
            world.close()


async def made(sqs: AsyncBoto, name: str = "jobs", **attributes: str) -> str:
    url: str = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
    return url


async def code(call: Any) -> str:
    with pytest.raises(ClientError) as failed:
        await call
    found: str = failed.value.response["Error"]["Code"]
    return found


async def test_a_message_goes_round() -> None:
    async with sqs_world() as (world, sqs):
        url = await made(sqs)
        assert url == f"{world.url}/000000000000/jobs"
        attributes = {
            "s": {"DataType": "String", "StringValue": "é"},
            "b": {"DataType": "Binary.png", "BinaryValue": b"\0\xff"},
            "n": {"DataType": "Number", "StringValue": "1.5"},
        }
        trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}
        sent = await sqs.send_message(
            QueueUrl=url, MessageBody="hélló <&>", MessageAttributes=attributes, MessageSystemAttributes=trace
        )
        assert sent["MD5OfMessageBody"] == hashlib.md5("hélló <&>".encode()).hexdigest()
        typed = {"s": Attribute("String", "é".encode()), "b": Attribute("Binary.png", b"\0\xff"),
                 "n": Attribute("Number", b"1.5")}  # fmt: skip
        assert sent["MD5OfMessageAttributes"] == md5_of_attributes(typed)
        assert sent["MD5OfMessageSystemAttributes"]
        got = await sqs.receive_message(
            QueueUrl=url, MessageAttributeNames=["s", "b"], MessageSystemAttributeNames=["All"], AttributeNames=["All"]
        )
        (one,) = got["Messages"]
        assert (one["MessageId"], one["Body"]) == (sent["MessageId"], "hélló <&>")
        assert one["MessageAttributes"] == {"s": attributes["s"], "b": attributes["b"]}
        assert one["MD5OfMessageAttributes"] == md5_of_attributes({"s": typed["s"], "b": typed["b"]})
        assert one["Attributes"]["ApproximateReceiveCount"] == "1"
        assert one["Attributes"]["AWSTraceHeader"] == "Root=1"
        assert "MessageGroupId" not in one["Attributes"]
        handle = one["ReceiptHandle"]
        await sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
        again = (await sqs.receive_message(QueueUrl=url))["Messages"][0]
        await sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
        assert "Messages" not in await sqs.receive_message(QueueUrl=url)


async def test_batches_say_what_became_of_each_entry() -> None:
    async with sqs_world() as (_, sqs):
        url = await made(sqs)
        entries = [{"Id": "a", "MessageBody": "1"}, {"Id": "b", "MessageBody": "2", "DelaySeconds": 901}]
        sent = await sqs.send_message_batch(QueueUrl=url, Entries=entries)
        assert [one["Id"] for one in sent["Successful"]] == ["a"]
        assert [(one["Id"], one["Code"], one["SenderFault"]) for one in sent["Failed"]] == [
            ("b", "InvalidParameterValue", True)
        ]
        handle = (await sqs.receive_message(QueueUrl=url))["Messages"][0]["ReceiptHandle"]
        changed = await sqs.change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {"Id": "x", "ReceiptHandle": handle, "VisibilityTimeout": 60},
                {"Id": "y", "ReceiptHandle": "nonsense", "VisibilityTimeout": 60},
            ],
        )
        assert [one["Id"] for one in changed["Successful"]] == ["x"]
        assert [(one["Id"], one["Code"]) for one in changed["Failed"]] == [("y", "ReceiptHandleIsInvalid")]
        gone = await sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": "x", "ReceiptHandle": handle}])
        assert [one["Id"] for one in gone["Successful"]] == ["x"]
        twice = [{"Id": "a", "MessageBody": "1"}] * 2
        error = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"
        assert await code(sqs.send_message_batch(QueueUrl=url, Entries=twice)) == error
        many = [{"Id": str(index), "MessageBody": "1"} for index in range(11)]
        error = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
        assert await code(sqs.send_message_batch(QueueUrl=url, Entries=many)) == error
        error = "AWS.SimpleQueueService.EmptyBatchRequest"
        assert await code(sqs.delete_message_batch(QueueUrl=url, Entries=[])) == error


async def test_queues_and_their_attributes() -> None:
    async with sqs_world() as (world, sqs):
        url = await made(sqs, VisibilityTimeout="7")
        assert await made(sqs, VisibilityTimeout="7") == url
        assert await code(sqs.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "8"})) == (
            "QueueAlreadyExists"
        )
        assert (await sqs.get_queue_url(QueueName="jobs"))["QueueUrl"] == url
        gone = "AWS.SimpleQueueService.NonExistentQueue"
        assert await code(sqs.get_queue_url(QueueName="none")) == gone
        assert await code(world.client("sqs", account="111111111111").receive_message(QueueUrl=url)) == gone
        shown = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
        assert (shown["VisibilityTimeout"], shown["QueueArn"]) == ("7", "arn:aws:sqs:us-east-1:000000000000:jobs")
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "3"})
        some = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])
        assert some["Attributes"] == {"DelaySeconds": "3"}
        assert await code(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Colour"])) == "InvalidAttributeName"
        await sqs.tag_queue(QueueUrl=url, Tags={"a": "1", "b": "2"})
        await sqs.untag_queue(QueueUrl=url, TagKeys=["a"])
        assert (await sqs.list_queue_tags(QueueUrl=url))["Tags"] == {"b": "2"}
        await sqs.delete_queue(QueueUrl=url)
        assert await code(sqs.purge_queue(QueueUrl=url)) == gone
        assert await code(sqs.create_queue(QueueName="jobs")) == "AWS.SimpleQueueService.QueueDeletedRecently"


async def test_lists_come_in_pages() -> None:
    async with sqs_world() as (world, sqs):
        for name in ("a1", "a2", "a3", "b1"):
            await made(sqs, name)
        pages = await world.run(
            lambda: list(sqs.boto.get_paginator("list_queues").paginate(
                QueueNamePrefix="a", PaginationConfig={"PageSize": 2}))
        )  # fmt: skip
        names = [[url.rpartition("/")[2] for url in page["QueueUrls"]] for page in pages]
        assert names == [["a1", "a2"], ["a3"]]
        assert await code(sqs.list_queues(MaxResults=2, NextToken="x")) == "InvalidParameterValue"


async def test_permissions_are_kept_in_the_policy() -> None:
    async with sqs_world() as (_, sqs):
        url = await made(sqs)
        await sqs.add_permission(QueueUrl=url, Label="l", AWSAccountIds=["111111111111"], Actions=["SendMessage"])
        shown = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]))["Attributes"]
        (statement,) = json.loads(shown["Policy"])["Statement"]
        assert statement["Principal"] == {"AWS": "arn:aws:iam::111111111111:root"}
        assert statement["Action"] == "SQS:SendMessage"
        assert await code(sqs.remove_permission(QueueUrl=url, Label="m")) == "InvalidParameterValue"
        await sqs.remove_permission(QueueUrl=url, Label="l")
        assert "Attributes" not in await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])


async def test_dead_letters_move_back() -> None:
    async with sqs_world() as (_, sqs):
        dead = await made(sqs, "dead")
        arn = "arn:aws:sqs:us-east-1:000000000000:dead"
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        url = await made(sqs, RedrivePolicy=policy, VisibilityTimeout="0")
        assert (await sqs.list_dead_letter_source_queues(QueueUrl=dead))["queueUrls"] == [url]
        await sqs.send_message(QueueUrl=url, MessageBody="x")
        await sqs.receive_message(QueueUrl=url)
        assert "Messages" not in await sqs.receive_message(QueueUrl=url)
        task = await sqs.start_message_move_task(SourceArn=arn, MaxNumberOfMessagesPerSecond=100)
        assert task["TaskHandle"]
        (back,) = (await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5))["Messages"]
        assert back["Body"] == "x"
        (done,) = (await sqs.list_message_move_tasks(SourceArn=arn))["Results"]
        assert (done["Status"], done["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 1)
        assert await code(sqs.cancel_message_move_task(TaskHandle="x")) == "InvalidParameterValue"


async def test_fifo() -> None:
    async with sqs_world() as (_, sqs):
        url = await made(sqs, "jobs.fifo", FifoQueue="true", ContentBasedDeduplication="true")
        first = await sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g")
        again = await sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g")
        assert first["SequenceNumber"] == again["SequenceNumber"]
        (one,) = (await sqs.receive_message(QueueUrl=url, AttributeNames=["MessageGroupId", "SequenceNumber"]))[
            "Messages"
        ]
        assert one["Attributes"] == {"MessageGroupId": "g", "SequenceNumber": first["SequenceNumber"]}
        assert await code(sqs.send_message(QueueUrl=url, MessageBody="x")) == "MissingParameter"


async def test_refusals() -> None:
    async with sqs_world() as (world, sqs):
        url = await made(sqs)
        assert await code(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=11)) == "InvalidParameterValue"
        assert await code(sqs.send_message(QueueUrl=url, MessageBody="\x01")) == "InvalidMessageContents"
        assert await code(sqs.send_message(QueueUrl=url, MessageBody="x" * (1 << 20) + "x")) == "InvalidParameterValue"
        assert await code(sqs.delete_message(QueueUrl=url, ReceiptHandle="x")) == "ReceiptHandleIsInvalid"
        kms = {"KmsMasterKeyId": "alias/aws/sqs"}
        assert (
            await code(sqs.create_queue(QueueName="k", Attributes=kms)) == "AWS.SimpleQueueService.UnsupportedOperation"
        )
        free = world.client("sqs", parameter_validation=False)
        assert await code(free.send_message(QueueUrl=url)) == "MissingParameter"


# --- the query protocol


class Query:
    """Requests as SDKs from before 2024 make them."""

    def __init__(self, world: AwsWorld) -> None:
        self._world = world

    async def __call__(self, path: str = "/", /, **params: str) -> tuple[int, ElementTree.Element]:
        return await self._world.run(lambda: self._ask(path, params))

    def _ask(self, path: str, params: dict[str, str]) -> tuple[int, ElementTree.Element]:
        parts = urlsplit(self._world.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        body = urlencode({**params, "Version": "2012-11-05"})
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.status, ElementTree.fromstring(response.read())
        connection.close()
        return answer


async def test_older_sdks_speak_query() -> None:
    async with sqs_world() as (world, _):
        query = Query(world)
        status, answer = await query(
            Action="CreateQueue",
            QueueName="old",
            **{"Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "5", "Tag.1.Key": "k", "Tag.1.Value": "v"},
        )
        assert (status, answer.tag) == (200, f"{NS}CreateQueueResponse")
        url = answer.findtext(f"{NS}CreateQueueResult/{NS}QueueUrl") or ""
        path = urlsplit(url).path
        assert path == "/000000000000/old"
        given = {
            "MessageBody": "a b&c",
            "MessageAttribute.1.Name": "n",
            "MessageAttribute.1.Value.DataType": "String",
            "MessageAttribute.1.Value.StringValue": "v",
        }
        _, answer = await query(path, Action="SendMessage", **given)  # the queue is the URL itself
        assert answer.findtext(f"{NS}SendMessageResult/{NS}MD5OfMessageBody") == hashlib.md5(b"a b&c").hexdigest()
        _, answer = await query(
            Action="ReceiveMessage", QueueUrl=url, **{"AttributeName.1": "All", "MessageAttributeName.1": "All"}
        )
        message = answer.find(f"{NS}ReceiveMessageResult/{NS}Message")
        assert message is not None
        assert message.findtext(f"{NS}Body") == "a b&c"
        names = {one.findtext(f"{NS}Name") for one in message.findall(f"{NS}Attribute")}
        assert "ApproximateReceiveCount" in names
        assert message.findtext(f"{NS}MessageAttribute/{NS}Value/{NS}StringValue") == "v"
        status, answer = await query(Action="DeleteMessage", QueueUrl=url, ReceiptHandle="x")
        error = answer.find(f"{NS}Error")
        assert error is not None
        assert (status, error.findtext(f"{NS}Code")) == (400, "ReceiptHandleIsInvalid")
        status, answer = await query(Action="GetQueueUrl", QueueName="none")
        assert (status, answer.findtext(f"{NS}Error/{NS}Code")) == (400, "AWS.SimpleQueueService.NonExistentQueue")
        _, answer = await query(Action="GetQueueAttributes", QueueUrl=url, **{"AttributeName.1": "VisibilityTimeout"})
        shown = answer.find(f"{NS}GetQueueAttributesResult/{NS}Attribute")
        assert shown is not None
        assert [one.text for one in shown] == ["VisibilityTimeout", "5"]
        entries = {"SendMessageBatchRequestEntry.1.Id": "a", "SendMessageBatchRequestEntry.1.MessageBody": "1"}
        _, answer = await query(Action="SendMessageBatch", QueueUrl=url, **entries)
        result = f"{NS}SendMessageBatchResult/{NS}SendMessageBatchResultEntry/{NS}Id"
        assert answer.findtext(result) == "a"
        status, answer = await query(Action="Fly", QueueUrl=url)
        assert (status, answer.findtext(f"{NS}Error/{NS}Code")) == (400, "InvalidAction")
