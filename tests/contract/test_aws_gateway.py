"""The AWS face end to end: boto3 -> HTTP -> a door, in every protocol; refusals in the words of each service."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from botocore.exceptions import ClientError

from minicloud.aws.call import Call, Door
from minicloud.aws.credentials import open_admit
from minicloud.aws.gateway import Gateway, Way, inflated, served
from minicloud.aws.wire import Request
from minicloud.base import errors
from tests.contract.aws_world import aws_world


class Ec2:
    async def DescribeInstances(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        if params.get("InstanceIds") == ["i-none"]:
            raise errors.NotFound("The instance ID 'i-none' does not exist", code="InvalidInstanceID.NotFound")
        names = [one["Name"] for one in params.get("Filters", [])]
        instance = {
            "InstanceId": "i-1",
            "LaunchTime": 1764044522.0,
            "Tags": [{"Key": "a&b", "Value": names and names[0]}],
        }
        reservation = {"OwnerId": call.caller.scope.account, "Instances": [instance]}
        return {"Reservations": [reservation], "NextToken": None}

    async def StopInstances(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        raise RuntimeError("a secret")

    async def DeleteKeyPair(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        return {"Return": True}


class Sqs:
    error_codes = {"QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue"}

    async def GetQueueUrl(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        if params["QueueName"] == "none":
            raise errors.NotFound("The specified queue does not exist.", code="QueueDoesNotExist")
        return {"QueueUrl": f"{call.base_url}/{call.caller.scope.account}/{params['QueueName']}"}


class Sns:
    async def ListTopics(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        return {"Topics": [{"TopicArn": call.caller.scope.arn("sns", "a")}]}

    async def Publish(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        assert params["MessageAttributes"] == {"n": {"DataType": "Binary", "BinaryValue": b"\0\xff"}}
        return {"MessageId": params["Message"]}


class Cloudwatch:
    async def PutMetricData(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        datum = params["MetricData"][0]
        assert (datum["Value"], datum["Timestamp"]) == (1.5, 1764044522.5)
        return {}

    async def ListMetrics(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        raise errors.InvalidRequest("no", code="InvalidParameterValue")


class Lambda:
    async def Invoke(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        return {"StatusCode": 200, "Payload": params["FunctionName"].encode() + params.get("Payload", b"")}

    async def GetFunction(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        raise errors.NotFound("Function not found", code="ResourceNotFoundException")

    async def InvokeWithResponseStream(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        async def events() -> Any:
            yield {"PayloadChunk": {"Payload": b"one"}}
            yield {"InvokeComplete": {"ErrorCode": "none"}}

        return {"StatusCode": 200, "EventStream": events()}


class Logs:
    async def CreateLogGroup(self, params: dict[str, Any], call: Call) -> dict[str, Any]:
        return {}


DOORS = (
    Door("ec2", Ec2()),
    Door("sqs", Sqs()),
    Door("sns", Sns()),
    Door("cloudwatch", Cloudwatch()),
    Door("lambda", Lambda()),
    Door("logs", Logs()),
)


async def test_ec2() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        ec2 = world.client("ec2", account="123456789012")
        found = await ec2.describe_instances(Filters=[{"Name": "tag:x", "Values": ["1", "2"]}])
        reservation = found["Reservations"][0]
        assert reservation["OwnerId"] == "123456789012"
        assert reservation["Instances"][0]["Tags"] == [{"Key": "a&b", "Value": "tag:x"}]
        assert reservation["Instances"][0]["LaunchTime"].timestamp() == 1764044522.0
        assert (await ec2.delete_key_pair(KeyName="k"))["Return"] is True
        assert await code(ec2.describe_instances(InstanceIds=["i-none"])) == ("InvalidInstanceID.NotFound", 400)
        assert await code(ec2.stop_instances(InstanceIds=["i-1"])) == ("InternalFailure", 500)
        assert await code(ec2.describe_vpcs()) == ("InvalidAction", 400)


async def test_sqs_in_json_has_query_codes_too() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        sqs = world.client("sqs")
        assert (await sqs.get_queue_url(QueueName="jobs"))["QueueUrl"] == f"{world.url}/000000000000/jobs"
        with pytest.raises(sqs.boto.exceptions.QueueDoesNotExist) as failed:
            await sqs.get_queue_url(QueueName="none")
        assert failed.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
        assert failed.value.response["ResponseMetadata"]["RequestId"].startswith("request-")


async def test_sns() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        sns = world.client("sns", region="eu-west-1")
        assert (await sns.list_topics())["Topics"][0]["TopicArn"] == "arn:aws:sns:eu-west-1:000000000000:a"
        attributes = {"n": {"DataType": "Binary", "BinaryValue": b"\0\xff"}}
        assert (await sns.publish(Message="é<&", MessageAttributes=attributes))["MessageId"] == "é<&"


async def test_cloudwatch_speaks_cbor() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        cloudwatch = world.client("cloudwatch")
        datum = {"MetricName": "m", "Value": 1.5, "Timestamp": 1764044522.5}
        await cloudwatch.put_metric_data(Namespace="n", MetricData=[datum])
        assert await code(cloudwatch.list_metrics()) == ("InvalidParameterValue", 400)


async def test_what_boto3_compresses_is_read() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        cloudwatch = world.client("cloudwatch", request_min_compression_size_bytes=1)
        datum = {"MetricName": "m", "Value": 1.5, "Timestamp": 1764044522.5}
        await cloudwatch.put_metric_data(Namespace="n", MetricData=[datum] * 100)


def test_what_is_compressed_is_bounded() -> None:
    def request(body: bytes, kind: str = "gzip") -> Request:
        return Request("POST", "/", "", {"content-encoding": kind}, body)

    assert inflated(request(gzip.compress(b"x" * 1000)), 1000) == b"x" * 1000
    with pytest.raises(errors.MessageTooLarge):
        inflated(request(gzip.compress(bytes(100_000_000))), 1000)
    for wrong in (b"", b"x", gzip.compress(b"x" * 1000)[:-9]):
        with pytest.raises(errors.InvalidRequest):
            inflated(request(wrong), 1000)
    with pytest.raises(errors.InvalidRequest):
        inflated(request(b"", "br"), 1000)


async def test_lambda() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        functions = world.client("lambda")
        answer = await functions.invoke(FunctionName="arn:aws:lambda:us-east-1:000000000000:function:f", Payload=b"{}")
        assert answer["Payload"].read() == b"arn:aws:lambda:us-east-1:000000000000:function:f{}"
        assert await code(functions.get_function(FunctionName="f")) == ("ResourceNotFoundException", 404)
        assert await code(functions.list_functions()) == ("UnknownOperationException", 404)
        stream = await functions.invoke_with_response_stream(FunctionName="f")
        events = await world.run(lambda: list(stream["EventStream"]))
        assert events == [{"PayloadChunk": {"Payload": b"one"}}, {"InvokeComplete": {"ErrorCode": "none"}}]


async def test_what_the_model_forbids_is_refused_in_the_words_of_the_service() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        logs = world.client("logs", parameter_validation=False)
        with pytest.raises(ClientError) as failed:
            await logs.create_log_group(tags={"a": "b" * 300})
        error = failed.value.response["Error"]
        assert error["Code"] == "InvalidParameterException"
        assert error["Message"].startswith("2 validation errors detected: Value null at 'logGroupName' failed to")
        ec2 = world.client("ec2", parameter_validation=False)
        assert await code(ec2.stop_instances()) == ("MissingParameter", 400)
        sns = world.client("sns", parameter_validation=False)
        assert await code(sns.publish()) == ("ValidationError", 400)


async def test_a_service_that_nobody_serves_is_refused_as_its_client_understands() -> None:
    async with aws_world(*DOORS, watch=False) as world:
        for service, call, found in (
            ("dynamodb", "list_tables", ("UnknownOperationException", 400)),
            ("ssm", "list_commands", ("UnknownOperationException", 400)),
            ("iam", "list_users", ("InvalidAction", 400)),
            ("scheduler", "list_schedules", ("UnknownOperationException", 400)),
            ("kms", "list_keys", ("UnknownOperationException", 400)),
        ):
            assert await code(getattr(world.client(service), call)()) == found


def test_a_door_has_only_operations_of_its_service() -> None:
    with pytest.raises(AttributeError, match="sqs has no ListTopics"):
        served(Door("sqs", Sns()))


async def code(call: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as failed:
        await call
    response = failed.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


async def test_what_nobody_knows_in_a_path_or_a_query_is_refused_by_name() -> None:
    gateway = Gateway(DOORS, Way(open_admit(), lambda: "request"))
    get = Request("GET", "/2015-03-31/functions/f", "Nonsense=1", {}, b"")
    for query, code in (("Nonsense=1", b"UnknownParameter"), ("Qualifier=1&x-id=GetFunction", b"ResourceNotFound")):
        get.query = query
        answer = await gateway.handle(get)
        assert answer.status in (400, 404) and code in dict(answer.headers)["x-amzn-ErrorType"].encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    odd = Request("POST", "/", "", form, b"Version=2016-11-15&Action=Describe%FF")
    answer = await gateway.handle(odd)
    assert isinstance(answer.body, bytes) and answer.status == 400 and b"MalformedQueryString" in answer.body
