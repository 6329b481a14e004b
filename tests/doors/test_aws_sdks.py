"""Other SDKs than today's boto3: one that is two years old, and the JavaScript SDK v3. Skipped where there are none.

They are installed into a folder that stays between runs (npm and pip are asked once).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.real_cloud import RealCloud

pytestmark = pytest.mark.timeout(480)
OLD_BOTO3 = "boto3==1.35.60"
PACKAGES = tuple(f"@aws-sdk/client-{name}@3" for name in ("sqs", "sns", "ec2", "lambda"))
ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "AWS_ACCESS_KEY_ID": "333333333333",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}

# A function's code as both SDKs upload it: {"n": 20} -> 42.
HANDLER = "def handler(event, context):\n    return 2 * event['n'] + 2\n"

PYTHON = """
import boto3, datetime, io, json, sys, zipfile
assert boto3.__version__.startswith("1.35"), boto3.__version__
assert boto3.client("cloudwatch").meta.service_model.metadata["protocol"] == "query"
sqs, sns, ec2, scaling = (boto3.client(name) for name in ("sqs", "sns", "ec2", "autoscaling"))
url = sqs.create_queue(QueueName="old")["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
topic = sns.create_topic(Name="old")["TopicArn"]
sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
sns.publish(TopicArn=topic, Message="hello")
(message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
try:
    sqs.get_queue_url(QueueName="none")
except sqs.exceptions.QueueDoesNotExist as error:
    code = error.response["Error"]["Code"]
types = ec2.describe_instance_types(InstanceTypes=["t3.micro"])["InstanceTypes"]
groups = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["none"])["AutoScalingGroups"]
metrics, elb, sts, iam, ssm, logs, functions = (
    boto3.client(name) for name in ("cloudwatch", "elbv2", "sts", "iam", "ssm", "logs", "lambda"))
metrics.put_metric_data(Namespace="old", MetricData=[{"MetricName": "m", "Value": 7.5}])
now = datetime.datetime.now(datetime.timezone.utc)
(point,) = metrics.get_metric_statistics(
    Namespace="old", MetricName="m", StartTime=now - datetime.timedelta(minutes=9),
    EndTime=now + datetime.timedelta(minutes=1), Period=3600, Statistics=["Sum"])["Datapoints"]
try:
    elb.describe_load_balancers(Names=["none"])
except elb.exceptions.LoadBalancerNotFoundException as error:
    absent = error.response["Error"]["Code"]
ssm.put_parameter(Name="/old/p", Value="v", Type="SecureString")
secret = ssm.get_parameter(Name="/old/p", WithDecryption=True)["Parameter"]["Value"]
logs.create_log_group(logGroupName="/old")
trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"},
                        "Action": "sts:AssumeRole"}]}
role = iam.create_role(RoleName="old", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
code_zip = io.BytesIO()
with zipfile.ZipFile(code_zip, "w") as files:
    files.writestr("app.py", sys.argv[1])
functions.create_function(FunctionName="old", Runtime="python3.11", Role=role, Handler="app.handler",
                          Code={"ZipFile": code_zip.getvalue()})
functions.get_waiter("function_active_v2").wait(FunctionName="old", WaiterConfig={"Delay": 1})
answer = json.load(functions.invoke(FunctionName="old", Payload=b'{"n": 20}')["Payload"])
print(json.dumps([message["Body"], code, len(types), len(groups), point["Sum"], absent, secret,
                  logs.describe_log_groups(logGroupNamePrefix="/old")["logGroups"][0]["logGroupName"],
                  sts.get_caller_identity()["Account"], answer]))
"""

SCRIPT = """
import { SQSClient, CreateQueueCommand, SendMessageBatchCommand, ReceiveMessageCommand, DeleteMessageCommand,
         GetQueueUrlCommand, GetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import { SNSClient, CreateTopicCommand, SubscribeCommand, PublishCommand } from "@aws-sdk/client-sns";
import { EC2Client, DescribeInstanceTypesCommand } from "@aws-sdk/client-ec2";
import { LambdaClient, CreateFunctionCommand, InvokeCommand, waitUntilFunctionActiveV2, DeleteFunctionCommand,
         GetFunctionCommand } from "@aws-sdk/client-lambda";
import { readFileSync } from "node:fs";
const options = { endpoint: process.env.AWS_ENDPOINT_URL };
const sqs = new SQSClient(options), sns = new SNSClient(options), ec2 = new EC2Client(options);
const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: "js" }));
const names = { QueueUrl, AttributeNames: ["QueueArn"] };
const { QueueArn } = (await sqs.send(new GetQueueAttributesCommand(names))).Attributes;
const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: "js" }));
await sns.send(new SubscribeCommand({ TopicArn, Protocol: "sqs", Endpoint: QueueArn,
                                      Attributes: { RawMessageDelivery: "true" } }));
const kind = { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) };
await sns.send(new PublishCommand({ TopicArn, Message: "h\\u00e9llo", MessageAttributes: { kind } }));
const ask = { QueueUrl, WaitTimeSeconds: 10, MessageAttributeNames: ["All"] };
const [first] = (await sqs.send(new ReceiveMessageCommand(ask))).Messages;
await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: first.ReceiptHandle }));
const sent = await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: [
  { Id: "a", MessageBody: "1" }, { Id: "b", MessageBody: "2", DelaySeconds: 901 } ] }));
let name = "";
try { await sqs.send(new GetQueueUrlCommand({ QueueName: "none" })); } catch (error) { name = error.name; }
const types = (await ec2.send(new DescribeInstanceTypesCommand({ InstanceTypes: ["t3.micro"] }))).InstanceTypes;
const client = new LambdaClient(options), FunctionName = "js";
await client.send(new CreateFunctionCommand({
  FunctionName, Runtime: "python3.11", Handler: "app.handler", Role: "arn:aws:iam::333333333333:role/js",
  Code: { ZipFile: readFileSync(process.argv[2]) } }));
await waitUntilFunctionActiveV2({ client, maxWaitTime: 60, minDelay: 1 }, { FunctionName });
const invoked = await client.send(new InvokeCommand({ FunctionName, Payload: '{"n": 20}' }));
const broken = await client.send(new InvokeCommand({ FunctionName, Payload: "{}" }));
await client.send(new DeleteFunctionCommand({ FunctionName }));
let gone = "";
try { await client.send(new GetFunctionCommand({ FunctionName })); } catch (error) { gone = error.name; }
console.log(JSON.stringify([first.Body, [...first.MessageAttributes.kind.BinaryValue], sent.Successful.length,
                            sent.Failed[0].Code, name, types.length,
                            JSON.parse(Buffer.from(invoked.Payload)), broken.FunctionError, gone]));
"""


def folder(name: str) -> Path:
    """Kept between runs, of this user alone."""
    return Path(tempfile.gettempdir()) / f"minicloud-test-{name}-{Path.home().stat().st_uid}"


def run(command: list[str], cloud: RealCloud, **env: str) -> object:
    given = {**ENV, "AWS_ENDPOINT_URL": cloud.http, **env}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found: object = json.loads(done.stdout)
    return found


def installed(command: list[str], where: Path, marker: str) -> None:
    """`marker`: a file that is there once all of it is."""
    if not (where / marker).exists():
        where.mkdir(mode=0o700, exist_ok=True)
        try:
            done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=240, check=False)
        except subprocess.TimeoutExpired:
            shutil.rmtree(where)  # half of it
            pytest.skip("cannot be installed here in time")
        if done.returncode:
            pytest.skip(f"cannot be installed here: {done.stderr[-300:]}")


def test_a_boto3_of_two_years_ago(cloud: RealCloud) -> None:
    where = folder("boto3")
    installed([sys.executable, "-m", "pip", "install", "-q", "--target", str(where), OLD_BOTO3], where, "boto3")
    found = run([sys.executable, "-c", PYTHON, HANDLER], cloud, PYTHONPATH=str(where))
    assert found == [
        *("hello", "AWS.SimpleQueueService.NonExistentQueue", 1, 0),
        *(7.5, "LoadBalancerNotFound", "v", "/old", "333333333333", 42),
    ]


def test_the_javascript_sdk(cloud: RealCloud, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("there is no node here")
    where = folder("js")
    installed(
        [npm, "install", "--silent", "--no-audit", "--no-fund", *PACKAGES], where, "node_modules/@aws-sdk/client-lambda"
    )
    (where / "all.mjs").write_text(SCRIPT)
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as files:
        files.writestr("app.py", HANDLER)
    found = run([node, str(where / "all.mjs"), str(tmp_path / "code.zip")], cloud)
    assert found == [
        *("héllo", [0, 255], 1, "InvalidParameterValue", "QueueDoesNotExist", 1),
        *(42, "Unhandled", "ResourceNotFoundException"),
    ]
