"""All waiters that botocore has for the services that are served: each ends, and how is said here.

`given` of each test: waiters that succeed, with what they are asked about. ENDLESS: what they wait for does not happen
here, so they end with an error, at once or when they have asked often enough. All others poll an operation that is not
served: they end at once, with its refusal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import WaiterError
from botocore.loaders import Loader
from botocore.waiter import WaiterModel

from minicloud.aws.call import Door
from minicloud.aws.coverage import DOORS, operations
from minicloud.balancer.aws.elbv2 import Elbv2
from minicloud.balancer.commands import ObserveHealth, Verdict
from minicloud.balancer.model import Target
from minicloud.function.aws.functions import Lambda
from minicloud.wire import fleet_pb2
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world
from tests.contract.balancing_world import BareService
from tests.contract.ec2_world import IMAGE, Ec2World, ec2_world
from tests.contract.function_world import function_world, packed
from tests.contract.test_aws_elbv2 import Net
from tests.contract.test_aws_iam import ALL, TRUST
from tests.contract.test_aws_monitoring import HOT, monitored
from tests.contract.test_aws_ssm import DOCUMENT, Guests, guests  # noqa: F401  # a fixture

Given = Mapping[str, Mapping[str, Any]]
NOWHERE = "0123456789abcdef0"
# What they are asked about, and what the error says.
ENDLESS: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "ec2": {
        "NatGatewayAvailable": ({"NatGatewayIds": [f"nat-{NOWHERE}"]}, "Max attempts exceeded"),
        "NetworkInterfaceAvailable": ({"NetworkInterfaceIds": [f"eni-{NOWHERE}"]}, "NotFound"),
        "SnapshotCompleted": ({"SnapshotIds": [f"snap-{NOWHERE}"]}, "InvalidSnapshot.NotFound"),
        "SpotInstanceRequestFulfilled": ({"SpotInstanceRequestIds": ["sir-12345678"]}, "Max attempts exceeded"),
        "VolumeAvailable": ({"VolumeIds": [f"vol-{NOWHERE}"]}, "InvalidVolume.NotFound"),
    },
    "cloudwatch": {"LogAlarmExists": ({"AlarmTypes": ["LogAlarm"]}, "ValidationError")},
}
BY_INSTANCE = {"PasswordDataAvailable"}  # Linux has no password: EC2's own waiter runs out of attempts too


def polled(service: str) -> dict[str, str]:
    """The operation that each waiter polls."""
    loader = Loader()
    if service not in loader.list_available_services("waiters-2"):
        return {}
    model = WaiterModel(loader.load_service_model(service, "waiters-2"))
    return {name: model.get_waiter(name).operation for name in model.waiter_names}


def unserved(service: str) -> set[str]:
    known = operations(service)
    return {name for name, operation in polled(service).items() if operation not in known}


def check_named(service: str, *given: Given | set[str]) -> None:
    """Every waiter of the service is said to end in one way."""
    ways = [*map(set, given), set(ENDLESS.get(service, {})), unserved(service)]
    assert set().union(*ways) == set(polled(service))
    assert sum(map(len, ways)) == len(polled(service)), "a waiter ends in two ways"


async def wait(aws: AwsWorld, client: AsyncBoto, waiter: str, params: Mapping[str, Any], attempts: int = 200) -> None:
    pace = {"Delay": 0.02, "MaxAttempts": attempts}
    await aws.run(lambda: client.boto.get_waiter(xform_name(waiter)).wait(WaiterConfig=pace, **params))


async def all_end(aws: AwsWorld, client: AsyncBoto, given: Given) -> None:
    for waiter, params in given.items():
        await wait(aws, client, waiter, params)


async def all_fail(aws: AwsWorld, client: AsyncBoto, service: str) -> None:
    for waiter, (params, text) in ENDLESS.get(service, {}).items():
        with pytest.raises(WaiterError, match=text):
            await wait(aws, client, waiter, params, attempts=2)
    for waiter in unserved(service):
        needed = {"AlarmMuteRuleName": "x"} if waiter == "AlarmMuteRuleExists" else {}
        with pytest.raises(WaiterError, match="is not served by minicloud"):
            await wait(aws, client, waiter, needed, attempts=2)


async def test_ec2(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (one,) = await world.launch(ec2)
        ids = {"InstanceIds": [one["InstanceId"]]}
        await wait(world.aws, ec2, "InstanceRunning", ids)
        sample = fleet_pb2.GuestSample(instance_id=one["InstanceId"], generation=1, answers=True)
        await world.host.say(fleet_pb2.HostReport(beat=fleet_pb2.HostBeat(samples=[sample])))
        volume = {"VolumeIds": [await volume_of(world, ec2, one["InstanceId"])]}
        await ec2.create_key_pair(KeyName="k")
        group = await ec2.create_security_group(GroupName="g", Description="d")
        (vpc,), (subnet, *_) = (await ec2.describe_vpcs())["Vpcs"], (await ec2.describe_subnets())["Subnets"]
        (gateway,) = (await ec2.describe_internet_gateways())["InternetGateways"]
        running = {
            "InstanceExists": ids, "InstanceRunning": ids, "InstanceStatusOk": ids, "SystemStatusOk": ids,
            "VolumeInUse": volume, "ImageExists": {"ImageIds": [IMAGE]}, "ImageAvailable": {"ImageIds": [IMAGE]},
            "KeyPairExists": {"KeyNames": ["k"]}, "SecurityGroupExists": {"GroupIds": [group["GroupId"]]},
            "VpcExists": {"VpcIds": [vpc["VpcId"]]}, "VpcAvailable": {"VpcIds": [vpc["VpcId"]]},
            "SubnetAvailable": {"SubnetIds": [subnet["SubnetId"]]},
            "InternetGatewayExists": {"InternetGatewayIds": [gateway["InternetGatewayId"]]},
            "NatGatewayDeleted": {"NatGatewayIds": [f"nat-{NOWHERE}"]},
        }  # fmt: skip
        stopped = {"InstanceStopped": ids}
        ended = {"InstanceTerminated": ids, "VolumeDeleted": volume}
        check_named("ec2", running, stopped, ended, BY_INSTANCE)
        await all_end(world.aws, ec2, running)
        with pytest.raises(WaiterError, match="Max attempts exceeded"):
            await wait(world.aws, ec2, "PasswordDataAvailable", {"InstanceId": one["InstanceId"]}, attempts=2)
        await ec2.stop_instances(**ids)
        await all_end(world.aws, ec2, stopped)
        await ec2.terminate_instances(**ids)
        await all_end(world.aws, ec2, ended)
        await all_fail(world.aws, ec2, "ec2")


async def volume_of(world: Ec2World, ec2: AsyncBoto, instance_id: str) -> str:
    only = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    return str((await ec2.describe_volumes(Filters=only))["Volumes"][0]["VolumeId"])


async def test_ssm(tmp_path: Path, guests: Guests) -> None:  # noqa: F811
    async with ec2_world(tmp_path) as world:
        ec2, ssm = world.client("ec2"), world.client("ssm")
        (one,) = await world.launch(ec2)
        await wait(world.aws, ec2, "InstanceRunning", {"InstanceIds": [one["InstanceId"]]})
        sent = await ssm.send_command(
            InstanceIds=[one["InstanceId"]], DocumentName=DOCUMENT, Parameters={"commands": ["exit 0"]}
        )
        given = {"CommandExecuted": {"CommandId": sent["Command"]["CommandId"], "InstanceId": one["InstanceId"]}}
        check_named("ssm", given)
        await all_end(world.aws, ssm, given)


async def test_iam(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        iam = world.client("iam")
        await iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))
        await iam.create_user(UserName="u")
        await iam.create_instance_profile(InstanceProfileName="p")
        policy = (await iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(ALL)))["Policy"]["Arn"]
        given = {
            "RoleExists": {"RoleName": "r"}, "UserExists": {"UserName": "u"}, "PolicyExists": {"PolicyArn": policy},
            "InstanceProfileExists": {"InstanceProfileName": "p"},
        }  # fmt: skip
        check_named("iam", given)
        await all_end(world.aws, iam, given)


async def test_elbv2() -> None:
    service = BareService()
    async with aws_world(Door("elbv2", Elbv2(service, Net(), b"pages"))) as aws:  # type: ignore[arg-type]
        elb = aws.client("elbv2")
        made = await elb.create_load_balancer(Name="b", Subnets=["subnet-a", "subnet-b"])
        balancers = {"LoadBalancerArns": [made["LoadBalancers"][0]["LoadBalancerArn"]]}
        group = {"Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1", "TargetType": "ip"}
        arn = (await elb.create_target_group(Name="g", **group))["TargetGroups"][0]["TargetGroupArn"]
        idle = (await elb.create_target_group(Name="h", **group))["TargetGroups"][0]["TargetGroupArn"]
        forward = {"Type": "forward", "TargetGroupArn": arn}
        listener = {"LoadBalancerArn": balancers["LoadBalancerArns"][0], "Protocol": "HTTP", "Port": 80}
        await elb.create_listener(**listener, DefaultActions=[forward])
        for one in (arn, idle):
            await elb.register_targets(TargetGroupArn=one, Targets=[{"Id": "192.0.2.1"}])
        key = next(one.key for one in service.machine.state.tables[Target.kind].values() if one.group == arn)
        for _ in range(10):
            await service.submit(ObserveHealth((Verdict(key, True),)))
        up = {
            "LoadBalancerExists": balancers, "LoadBalancerAvailable": balancers,
            "TargetInService": {"TargetGroupArn": arn}, "TargetDeregistered": {"TargetGroupArn": idle},
        }  # fmt: skip
        gone = {"LoadBalancersDeleted": balancers}
        check_named("elbv2", up, gone)
        await all_end(aws, elb, up)
        await elb.delete_load_balancer(LoadBalancerArn=balancers["LoadBalancerArns"][0])
        await all_end(aws, elb, gone)


async def test_lambda(tmp_path: Path) -> None:
    async with function_world(tmp_path) as functions:
        api = Lambda(functions.service, b"pages", lambda one: f"http://{one}.test/", "x86_64")
        async with aws_world(Door("lambda", api)) as aws:
            client = aws.client("lambda")
            code = {"ZipFile": packed(main="def run(event, context): return event")}
            role = "arn:aws:iam::000000000000:role/r"
            await client.create_function(
                FunctionName="f", Runtime="python3.11", Handler="main.run", Role=role, Code=code, Publish=True
            )
            names = ("FunctionActive", "FunctionActiveV2", "FunctionExists", "FunctionUpdated", "FunctionUpdatedV2")
            one = {"FunctionName": "f"}
            given = {**dict.fromkeys(names, one), "PublishedVersionActive": {**one, "Qualifier": "1"}}
            check_named("lambda", given)
            await all_end(aws, client, given)


async def test_cloudwatch() -> None:
    async with monitored() as both:
        cw = both.aws.client("cloudwatch")
        await cw.put_metric_alarm(**HOT)
        await cw.put_composite_alarm(AlarmName="top", AlarmRule="ALARM(hot)")
        given = {
            "AlarmExists": {"AlarmNames": ["hot"]},
            "CompositeAlarmExists": {"AlarmNames": ["top"], "AlarmTypes": ["CompositeAlarm"]},
        }
        check_named("cloudwatch", given)
        await all_end(both.aws, cw, given)
        await all_fail(both.aws, cw, "cloudwatch")


def test_the_other_services_have_no_waiters() -> None:
    tried = {"ec2", "ssm", "iam", "elbv2", "lambda", "cloudwatch"}
    assert not [name for name in DOORS if name not in tried and polled(name)]
