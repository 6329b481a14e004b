"""Lambda by boto3, over a real journal and environments that tests program: shapes, errors, pages, waiters."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from minicloud.aws.call import Door
from minicloud.function.aws.functions import Lambda
from minicloud.function.ports import Outcome
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world, refused
from tests.contract.function_world import World as Functions
from tests.contract.function_world import failed, function_world, packed

CODE = packed(main="def run(event, context): return event")
ROLE = "arn:aws:iam::000000000000:role/r"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:jobs"


@dataclass
class World:
    functions: Functions
    aws: AwsWorld
    lam: AsyncBoto

    async def make(self, name: str = "f", **more: Any) -> Any:
        given = {"Runtime": "python3.11", "Handler": "main.run", "Role": ROLE, "Code": {"ZipFile": CODE}, **more}
        return await self.lam.create_function(FunctionName=name, **given)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with function_world(tmp_path) as functions:
        api = Lambda(functions.service, b"pages", lambda one: f"http://{one}.test/", "x86_64")
        async with aws_world(Door("lambda", api)) as aws:
            yield World(functions, aws, aws.client("lambda"))


async def test_a_function_is_made_waited_for_changed_and_deleted(world: World) -> None:
    environment = {"Variables": {"AB": "1"}}
    made = await world.make(Environment=environment, Tags={"team": "a"}, Architectures=["x86_64"], Timeout=5)
    assert (made["State"], made["LastUpdateStatus"], made["Version"]) == ("Active", "Successful", "$LATEST")
    assert made["Environment"] == environment and made["CodeSize"] == len(CODE)
    for waiter in ("function_active_v2", "function_updated_v2", "function_exists", "function_active"):
        await world.aws.run(lambda name=waiter: world.lam.boto.get_waiter(name).wait(FunctionName="f"))
    changed = await world.lam.update_function_configuration(FunctionName="f", MemorySize=256, Layers=[])
    assert changed["MemorySize"] == 256 and changed["Timeout"] == 5
    await world.lam.update_function_code(FunctionName="f", ZipFile=packed(main="x = 1"), Publish=True)
    shown = await world.lam.get_function(FunctionName="f", Qualifier="1")
    assert shown["Configuration"]["FunctionArn"].endswith(":function:f:1") and shown["Tags"] == {"team": "a"}
    assert (await world.lam.get_function_code_signing_config(FunctionName="f"))["FunctionName"] == "f"
    await world.lam.delete_function_code_signing_config(FunctionName="f")
    for call, name, value in (
        ("recursion", "RecursiveLoop", "Allow"),
        ("runtime_management", "UpdateRuntimeOn", "Auto"),
    ):
        call = call if call != "recursion" else "function_recursion"
        for got in (
            await getattr(world.lam, f"get_{call}_config")(FunctionName="f"),
            await getattr(world.lam, f"put_{call}_config")(FunctionName="f", **{name: value}),
        ):
            assert got[name] == value
    assert (await world.lam.get_runtime_management_config(FunctionName="f", Qualifier="1"))["FunctionArn"].endswith(
        "f:1"
    )
    with refused("InvalidParameterValueException", "RecursiveLoop"):
        await world.lam.put_function_recursion_config(FunctionName="f", RecursiveLoop="Terminate")
    with refused("InvalidParameterValueException", "UpdateRuntimeOn"):
        await world.lam.put_runtime_management_config(FunctionName="f", UpdateRuntimeOn="FunctionUpdate")
    for call in (
        "get_function_recursion_config",
        "get_runtime_management_config",
        "delete_function_code_signing_config",
    ):
        with refused("ResourceNotFoundException", "Function not found"):
            await getattr(world.lam, call)(FunctionName="none")
    await world.lam.delete_function(FunctionName="f")
    with refused("ResourceNotFoundException", "Function not found"):
        await world.lam.get_function_configuration(FunctionName="f")


async def test_what_a_function_cannot_be_is_refused(world: World) -> None:
    with refused("InvalidParameterValueException", "Code.S3Bucket"):
        await world.make(Code={"S3Bucket": "bucket", "S3Key": "k"})
    with refused("InvalidParameterValueException", "VpcConfig"):
        await world.make(VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]})
    with refused("InvalidParameterValueException", "Architectures"):
        await world.make(Architectures=["arm64"])
    with refused("InvalidParameterValueException", "PackageType"):
        await world.make(PackageType="Image")
    with refused("InvalidParameterValueException", "unzip"):
        await world.make(Code={"ZipFile": b"not a zip"})
    assert (await world.lam.list_functions())["Functions"] == []
    await world.make(VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}, PackageType="Zip")
    with refused("ResourceConflictException", "already exist"):
        await world.make()


async def test_it_is_invoked_in_each_way(world: World) -> None:
    await world.make()
    answer = await world.lam.invoke(FunctionName="f", Payload=b'{"a":1}', LogType="Tail")
    assert answer["StatusCode"] == 200 and json.loads(answer["Payload"].read()) == {"a": 1}
    assert base64.b64decode(answer["LogResult"]) == b"tail" and answer["ExecutedVersion"] == "$LATEST"
    assert (await world.lam.invoke(FunctionName="f", InvocationType="DryRun"))["StatusCode"] == 204
    world.functions.environments.called.clear()
    assert (await world.lam.invoke(FunctionName="f", InvocationType="Event", Payload=b"2"))["StatusCode"] == 202
    await world.functions.environments.called.wait()
    world.functions.runs["f"] = lambda _: failed("Unhandled", "no")
    answer = await world.lam.invoke(FunctionName="f")
    assert answer["FunctionError"] == "Unhandled" and json.loads(answer["Payload"].read())["errorMessage"] == "no"
    context = base64.b64encode(b'{"custom":{}}').decode()
    await world.lam.invoke(FunctionName="f", ClientContext=context)
    assert world.functions.environments.calls[-1][1].client_context == '{"custom":{}}'
    with refused("InvalidRequestContentException"):
        await world.lam.invoke(FunctionName="f", Payload=b"{")
    await world.lam.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as throttled:
        await world.lam.invoke(FunctionName="f")
    said = throttled.value.response
    assert said["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
    assert said["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert said["retryAfterSeconds"] == said["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


async def test_traces_are_begun_and_passed_on(world: World) -> None:
    await world.make()
    calls = world.functions.environments.calls
    await world.lam.invoke(FunctionName="f")
    assert calls[-1][1].trace_id == ""  # PassThrough
    shown = await world.lam.update_function_configuration(FunctionName="f", TracingConfig={"Mode": "Active"})
    assert shown["TracingConfig"] == {"Mode": "Active"}
    for _ in range(2):
        await world.lam.invoke(FunctionName="f")
    one, other = (invocation.trace_id for _, invocation in calls[-2:])
    form = r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=1"
    assert re.fullmatch(form, one) and re.fullmatch(form, other) and one != other
    given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"

    def add(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = given

    world.lam.boto.meta.events.register("before-sign.lambda", add)
    await world.lam.invoke(FunctionName="f")
    assert calls[-1][1].trace_id == given
    world.functions.environments.called.clear()
    await world.lam.invoke(FunctionName="f", InvocationType="Event")
    await world.functions.environments.called.wait()
    assert calls[-1][1].trace_id == given


async def test_a_streamed_answer_comes_in_chunks(world: World) -> None:
    await world.make()

    async def run(invocation: Any) -> Outcome:
        await invocation.sink.open("text/plain")
        for part in (b"one ", b"two"):
            await invocation.sink.write(part)
        return Outcome(b"", tail=b"log")

    world.functions.runs["f"] = run
    answer = await world.lam.invoke_with_response_stream(FunctionName="f", LogType="Tail")
    events = await world.aws.run(lambda: list(answer["EventStream"]))
    assert b"".join(one["PayloadChunk"]["Payload"] for one in events[:-1]) == b"one two"
    assert base64.b64decode(events[-1]["InvokeComplete"]["LogResult"]) == b"log"


async def test_versions_and_aliases(world: World) -> None:
    await world.make()
    published = await world.lam.publish_version(FunctionName="f", Description="first")
    assert published["Version"] == "1" and published["Description"] == "first"
    routing = {"AdditionalVersionWeights": {"1": 0.25}}
    await world.lam.update_function_code(FunctionName="f", ZipFile=packed(main="x = 2"), Publish=True)
    made = await world.lam.create_alias(FunctionName="f", Name="live", FunctionVersion="2", RoutingConfig=routing)
    assert made["RoutingConfig"] == routing
    assert (await world.lam.get_alias(FunctionName="f", Name="live"))["FunctionVersion"] == "2"
    await world.lam.update_alias(FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig={})
    assert [one["Name"] for one in (await world.lam.list_aliases(FunctionName="f"))["Aliases"]] == ["live"]
    versions = (await world.lam.list_versions_by_function(FunctionName="f"))["Versions"]
    assert {one["Version"] for one in versions} == {"$LATEST", "1", "2"}
    await world.lam.delete_alias(FunctionName="f", Name="live")
    with refused("ResourceNotFoundException", "Cannot find alias"):
        await world.lam.get_alias(FunctionName="f", Name="live")


async def test_permissions_concurrency_events_and_urls(world: World) -> None:
    await world.make()
    said = await world.lam.add_permission(
        FunctionName="f", StatementId="s", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com"
    )
    assert json.loads(said["Statement"])["Principal"] == {"Service": "sns.amazonaws.com"}
    policy = json.loads((await world.lam.get_policy(FunctionName="f"))["Policy"])
    assert [one["Sid"] for one in policy["Statement"]] == ["s"]
    await world.lam.remove_permission(FunctionName="f", StatementId="s")
    with refused("ResourceNotFoundException"):
        await world.lam.get_policy(FunctionName="f")
    await world.lam.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=7)
    assert (await world.lam.get_function_concurrency(FunctionName="f"))["ReservedConcurrentExecutions"] == 7
    await world.lam.delete_function_concurrency(FunctionName="f")
    ends = {"OnFailure": {"Destination": QUEUE}}
    await world.lam.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0, DestinationConfig=ends)
    shown = await world.lam.get_function_event_invoke_config(FunctionName="f")
    assert shown["MaximumRetryAttempts"] == 0 and shown["DestinationConfig"]["OnFailure"] == ends["OnFailure"]
    url = await world.lam.create_function_url_config(
        FunctionName="f", AuthType="NONE", Cors={"AllowOrigins": ["*"], "MaxAge": 60}
    )
    assert url["FunctionUrl"].startswith("http://") and url["Cors"] == {"AllowOrigins": ["*"], "MaxAge": 60}
    assert (await world.lam.get_function_url_config(FunctionName="f"))["FunctionUrl"] == url["FunctionUrl"]
    await world.lam.delete_function_url_config(FunctionName="f")
    await world.lam.publish_version(FunctionName="f")
    kept = await world.lam.put_provisioned_concurrency_config(
        FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=2
    )
    assert kept["RequestedProvisionedConcurrentExecutions"] == 2
    found = await world.lam.list_provisioned_concurrency_configs(FunctionName="f")
    assert [one["FunctionArn"][-2:] for one in found["ProvisionedConcurrencyConfigs"]] == [":1"]
    await world.lam.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
    with refused("ProvisionedConcurrencyConfigNotFoundException"):
        await world.lam.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1")


async def test_mappings_and_layers(world: World) -> None:
    await world.make()
    made = await world.lam.create_event_source_mapping(
        FunctionName="f",
        EventSourceArn=QUEUE,
        BatchSize=5,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 3},
        FilterCriteria={"Filters": [{"Pattern": '{"body":["x"]}'}]},
    )
    assert (made["State"], made["BatchSize"], made["ScalingConfig"]) == ("Enabled", 5, {"MaximumConcurrency": 3})
    uuid = made["UUID"]
    changed = await world.lam.update_event_source_mapping(UUID=uuid, Enabled=False, FunctionResponseTypes=[])
    assert (changed["State"], changed["FunctionResponseTypes"]) == ("Disabled", [])
    assert (await world.lam.list_event_source_mappings(FunctionName="f"))["EventSourceMappings"][0]["UUID"] == uuid
    with refused("InvalidParameterValueException", "StartingPosition"):
        await world.lam.create_event_source_mapping(FunctionName="f", EventSourceArn=QUEUE, StartingPosition="LATEST")
    await world.lam.delete_event_source_mapping(UUID=uuid)
    with refused("ResourceNotFoundException"):
        await world.lam.get_event_source_mapping(UUID=uuid)
    layer = await world.lam.publish_layer_version(
        LayerName="lib", Content={"ZipFile": CODE}, CompatibleRuntimes=["python3.11"]
    )
    arn = layer["LayerVersionArn"]
    assert (await world.lam.get_layer_version_by_arn(Arn=arn))["Version"] == 1
    assert (await world.lam.list_layers(CompatibleRuntime="python3.12"))["Layers"] == []
    await world.lam.update_function_configuration(FunctionName="f", Layers=[arn])
    assert (await world.lam.get_function_configuration(FunctionName="f"))["Layers"][0]["Arn"] == arn
    with refused("ResourceConflictException"):
        await world.lam.delete_layer_version(LayerName="lib", VersionNumber=1)


async def test_pages_tags_and_other_accounts(world: World) -> None:
    for name in "abcde":
        made = await world.make(name)
    pages = world.lam.boto.get_paginator("list_functions")
    found = await world.aws.run(
        lambda: [
            one["FunctionName"]
            for page in pages.paginate(PaginationConfig={"PageSize": 2})
            for one in page["Functions"]
        ]
    )
    assert found == list("abcde")
    arn = made["FunctionArn"]
    await world.lam.tag_resource(Resource=arn, Tags={"a": "1", "b": "2"})
    await world.lam.untag_resource(Resource=arn, TagKeys=["a"])
    assert (await world.lam.list_tags(Resource=arn))["Tags"] == {"b": "2"}
    assert (await world.lam.get_account_settings())["AccountUsage"]["FunctionCount"] == 5
    stranger = world.aws.client("lambda", account="111122223333")
    assert (await stranger.list_functions())["Functions"] == []
    for call in (stranger.get_function, stranger.invoke, stranger.delete_function):
        with refused("ResourceNotFoundException"):
            await call(FunctionName=arn)


async def test_a_layer_is_shared_with_accounts_of_its_region(world: World) -> None:
    layer = await world.lam.publish_layer_version(LayerName="lib", Content={"ZipFile": CODE})
    arn, one = layer["LayerVersionArn"], {"LayerName": "lib", "VersionNumber": 1}
    stranger = world.aws.client("lambda", account="111122223333")
    given = {
        "FunctionName": "g",
        "Runtime": "python3.11",
        "Handler": "main.run",
        "Role": ROLE,
        "Code": {"ZipFile": CODE},
    }
    with refused("InvalidParameterValueException", "does not exist"):
        await stranger.create_function(**given, Layers=[arn])
    with refused("ResourceNotFoundException", "No policy"):
        await world.lam.get_layer_version_policy(**one)
    allow = {**one, "Action": "lambda:GetLayerVersion"}
    made = await world.lam.add_layer_version_permission(**allow, StatementId="s", Principal="111122223333")
    assert json.loads(made["Statement"]) == {
        "Sid": "s", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
        "Action": "lambda:GetLayerVersion", "Resource": arn,
    }  # fmt: skip
    shown = await world.lam.get_layer_version_policy(**one)
    assert json.loads(shown["Policy"])["Statement"] == [json.loads(made["Statement"])]
    assert shown["RevisionId"] == made["RevisionId"]
    with refused("ResourceConflictException"):
        await world.lam.add_layer_version_permission(**allow, StatementId="s", Principal="*")
    with refused("InvalidParameterValueException", "OrganizationId"):
        await world.lam.add_layer_version_permission(
            **allow, StatementId="t", Principal="*", OrganizationId="o-1234567890"
        )
    with refused("PreconditionFailedException"):
        await world.lam.remove_layer_version_permission(**one, StatementId="s", RevisionId="another")
    assert (await stranger.get_layer_version_by_arn(Arn=arn))["LayerVersionArn"] == arn
    assert (await stranger.create_function(**given, Layers=[arn]))["Layers"][0]["Arn"] == arn
    for region, account in (("eu-west-1", "111122223333"), ("us-east-1", "444455556666")):
        away = world.aws.client("lambda", account=account, region=region)
        with refused("InvalidParameterValueException", "does not exist"):
            await away.create_function(**given, Layers=[arn])
    await world.lam.remove_layer_version_permission(**one, StatementId="s")
    with refused("ResourceNotFoundException"):
        await stranger.get_layer_version_by_arn(Arn=arn)
    with refused("ResourceConflictException"):  # a stranger's function uses it
        await world.lam.delete_layer_version(**one)


async def test_lists_that_have_an_order_of_their_own_come_whole_in_pages(world: World) -> None:
    await world.make()
    for _ in range(11):
        await world.lam.publish_layer_version(LayerName="lib", Content={"ZipFile": CODE})
        await world.lam.update_function_code(FunctionName="f", ZipFile=packed(main=f"x = {_}"), Publish=True)

    async def numbers(operation: str, member: str, **given: Any) -> list[str]:
        pages = world.lam.boto.get_paginator(operation).paginate(**given, PaginationConfig={"PageSize": 2})
        return await world.aws.run(lambda: [str(one["Version"]) for page in pages for one in page[member]])

    last_first = [str(number) for number in range(11, 0, -1)]
    assert await numbers("list_layer_versions", "LayerVersions", LayerName="lib") == last_first
    versions = ["$LATEST", *reversed(last_first)]
    assert await numbers("list_versions_by_function", "Versions", FunctionName="f") == versions
    assert sorted(await numbers("list_functions", "Functions", FunctionVersion="ALL")) == sorted(versions)
