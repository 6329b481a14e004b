"""EC2 through boto3: instances from launch to end, as people and Terraform ask for them."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

from minicloud.wire import fleet_pb2
from tests.contract.aws_world import refused
from tests.contract.ec2_world import IMAGE, ec2_world

AL2023 = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


async def test_the_life_of_an_instance_and_its_waiters(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (one,) = await world.launch(
            ec2,
            UserData="#!/bin/sh\necho hello",
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}],
        )
        assert one["State"] == {"Code": 0, "Name": "pending"}
        ids = [one["InstanceId"]]
        await world.wait(ec2, "instance_exists", InstanceIds=ids)
        await world.wait(ec2, "instance_running", InstanceIds=ids)
        shown = (await ec2.describe_instances(InstanceIds=ids))["Reservations"][0]["Instances"][0]
        assert shown["PrivateIpAddress"] == "10.64.0.9" and shown["Tags"] == [{"Key": "Name", "Value": "web"}]
        assert shown["Placement"]["AvailabilityZone"] == "us-east-1a" and shown["SubnetId"].startswith("subnet-")
        assert shown["SecurityGroups"][0]["GroupName"] == "default"
        stopped = (await ec2.stop_instances(InstanceIds=ids))["StoppingInstances"][0]
        assert (stopped["PreviousState"]["Name"], stopped["CurrentState"]["Name"]) == ("running", "stopping")
        await world.wait(ec2, "instance_stopped", InstanceIds=ids)
        await ec2.start_instances(InstanceIds=ids)
        await world.wait(ec2, "instance_running", InstanceIds=ids)
        await ec2.reboot_instances(InstanceIds=ids)
        await ec2.terminate_instances(InstanceIds=ids)
        await world.wait(ec2, "instance_terminated", InstanceIds=ids)
        gone = (await ec2.describe_instances(InstanceIds=ids))["Reservations"][0]["Instances"][0]
        assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert gone["StateTransitionReason"].startswith("User initiated (")


async def test_what_terraform_reads_of_an_instance(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (one,) = await world.launch(ec2, UserData="#!/bin/sh\ntrue", DisableApiTermination=True)
        instance_id = one["InstanceId"]
        attribute = ec2.describe_instance_attribute
        read = {
            name: await attribute(InstanceId=instance_id, Attribute=name)
            for name in ("disableApiStop", "disableApiTermination", "userData", "instanceInitiatedShutdownBehavior")
        }
        assert read["disableApiStop"]["DisableApiStop"] == {"Value": False}
        assert read["disableApiTermination"]["DisableApiTermination"] == {"Value": True}
        assert base64.b64decode(read["userData"]["UserData"]["Value"]) == b"#!/bin/sh\ntrue"
        assert read["instanceInitiatedShutdownBehavior"]["InstanceInitiatedShutdownBehavior"] == {"Value": "stop"}
        (kind,) = (await ec2.describe_instance_types(InstanceTypes=["t3.micro"]))["InstanceTypes"]
        assert kind["VCpuInfo"]["DefaultVCpus"] == 2 and kind["MemoryInfo"] == {"SizeInMiB": 1024}
        only = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
        (volume,) = (await ec2.describe_volumes(Filters=only))["Volumes"]
        assert volume["Attachments"][0]["Device"] == one["RootDeviceName"]
        credit = await ec2.describe_instance_credit_specifications(InstanceIds=[instance_id])
        assert credit["InstanceCreditSpecifications"] == [{"InstanceId": instance_id, "CpuCredits": "standard"}]
        with refused("OperationNotPermitted"):
            await ec2.terminate_instances(InstanceIds=[instance_id])
        await ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": False})
        await ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiStop={"Value": True})
        await world.wait(ec2, "instance_running", InstanceIds=[instance_id])
        with refused("OperationNotPermitted", "may not be stopped"):
            await ec2.stop_instances(InstanceIds=[instance_id])
        await ec2.modify_instance_attribute(InstanceId=instance_id, Attribute="disableApiStop", Value="false")
        await ec2.stop_instances(InstanceIds=[instance_id])
        await world.wait(ec2, "instance_stopped", InstanceIds=[instance_id])
        await ec2.modify_instance_attribute(InstanceId=instance_id, InstanceType={"Value": "t3.small"})
        await ec2.modify_instance_attribute(InstanceId=instance_id, UserData={"Value": b"#!/bin/sh\nfalse"})
        again = await attribute(InstanceId=instance_id, Attribute="userData")
        assert base64.b64decode(again["UserData"]["Value"]) == b"#!/bin/sh\nfalse"


async def test_images_by_alias_public_id_and_parameter(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (one,) = await world.launch(ec2, ImageId="ami-0abcdef1234567890")
        assert one["ImageId"] == "ami-0abcdef1234567890"
        (start,) = await world.host.ordered("start")
        assert start.start.spec.image_builtin
        (two,) = await world.launch(ec2, ImageId=f"resolve:ssm:{AL2023}")
        newest = await ec2.describe_images(
            Owners=["amazon"], Filters=[{"Name": "name", "Values": ["al2023-ami-2023.*-x86_64"]}]
        )
        assert [image["ImageId"] for image in newest["Images"]] == [two["ImageId"]]
        ubuntu = await ec2.describe_images(
            Owners=["099720109477"], Filters=[{"Name": "name", "Values": ["ubuntu/images/hvm-ssd/ubuntu-jammy*amd64*"]}]
        )
        assert ubuntu["Images"][0]["Architecture"] == "x86_64"
        with refused("InvalidAMIID.NotFound", "The image id '[ami-0123456789abcdef0]' does not exist"):
            await world.launch(ec2, ImageId="ami-0123456789abcdef0")
        with refused("InvalidAMIID.Malformed"):
            await ec2.describe_images(ImageIds=["ami-nonsense"])
        await world.wait(ec2, "image_available", ImageIds=[IMAGE])


async def test_missing_ids_are_told_in_ec2s_words(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        missing = "i-0123456789abcdef0"
        text = f"The instance ID '{missing}' does not exist"
        for call in (ec2.describe_instances, ec2.stop_instances, ec2.terminate_instances, ec2.describe_instance_status):
            with refused("InvalidInstanceID.NotFound", text):
                await call(InstanceIds=[missing])
        with refused("InvalidInstanceID.Malformed", 'Invalid id: "i-x"'):
            await ec2.describe_instances(InstanceIds=["i-x"])
        with refused("InvalidKeyPair.NotFound"):
            await ec2.describe_key_pairs(KeyNames=["nobody"])
        with refused("InvalidKeyPair.NotFound"):
            await world.launch(ec2, KeyName="nobody")
        with refused("InvalidVolume.NotFound"):
            await ec2.describe_volumes(VolumeIds=["vol-0123456789abcdef0"])
        with refused("InvalidSubnetID.NotFound"):
            await world.launch(ec2, SubnetId="subnet-0123456789abcdef0")
        with refused("InvalidInstanceType"):
            await ec2.describe_instance_types(InstanceTypes=["x9.huge"])
        with refused("InvalidParameterValue", "x9.huge"):
            await world.launch(ec2, InstanceType="x9.huge")
        other = world.client("ec2", account="111122223333")
        (mine,) = await world.launch(ec2)
        with refused("InvalidInstanceID.NotFound"):
            await other.describe_instances(InstanceIds=[mine["InstanceId"]])


async def test_filters_and_pages(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        tag = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": "web"}]}]
        web = {one["InstanceId"] for one in await world.launch(ec2, 3, TagSpecifications=tag)}
        rest = {one["InstanceId"] for one in await world.launch(ec2, 2, InstanceType="t3.nano")}

        async def found(*filters: tuple[str, str]) -> set[str]:
            given = [{"Name": name, "Values": value.split(",")} for name, value in filters]
            answer = await ec2.describe_instances(Filters=given)
            return {one["InstanceId"] for group in answer["Reservations"] for one in group["Instances"]}

        assert await found(("tag:role", "w*")) == web
        assert await found(("tag:role", "web"), ("instance-type", "t3.nano")) == set()
        assert await found(("instance-type", "t3.n?no,m5.large")) == rest
        assert await found(("tag-key", "role"), ("availability-zone", "us-east-1a")) == web
        with refused("InvalidParameterValue", "The filter 'color' is invalid"):
            await found(("color", "red"))
        pages = await world.pages(ec2, "describe_instances", "Reservations", 2)
        got = [one["InstanceId"] for page in pages for group in page for one in group["Instances"]]
        assert len(pages) == 3 and sorted(got) == sorted(web | rest)
        with refused("InvalidNextToken"):
            await ec2.describe_instances(MaxResults=5, NextToken="made-up")
        types = await world.pages(ec2, "describe_instance_types", "InstanceTypes", 100)
        assert len(types) > 10 and {len(page) for page in types[:-1]} == {100}


async def test_dry_runs_and_client_tokens(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        with refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412):
            await world.launch(ec2, DryRun=True)
        with refused("InvalidAMIID.NotFound"):
            await world.launch(ec2, DryRun=True, ImageId="ami-0123456789abcdef0")
        assert not (await ec2.describe_instances())["Reservations"]
        (one,) = await world.launch(ec2, ClientToken="once")
        (two,) = await world.launch(ec2, ClientToken="once")
        assert one["InstanceId"] == two["InstanceId"]
        with refused("IdempotentParameterMismatch"):
            await world.launch(ec2, ClientToken="once", InstanceType="t3.nano")
        with refused("DryRunOperation"):
            await ec2.terminate_instances(InstanceIds=[one["InstanceId"]], DryRun=True)
        with refused("DryRunOperation"):
            await ec2.create_key_pair(KeyName="k", DryRun=True)
        assert not (await ec2.describe_key_pairs())["KeyPairs"]


async def test_status_console_and_places(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (one,) = await world.launch(ec2)
        ids = [one["InstanceId"]]
        await world.wait(ec2, "instance_running", InstanceIds=ids)
        (status,) = (await ec2.describe_instance_status(InstanceIds=ids))["InstanceStatuses"]
        assert status["InstanceStatus"]["Status"] == "initializing"
        sample = fleet_pb2.GuestSample(instance_id=ids[0], generation=1, answers=True)
        await world.host.say(fleet_pb2.HostReport(beat=fleet_pb2.HostBeat(samples=[sample])))
        await world.wait(ec2, "instance_status_ok", InstanceIds=ids)
        await world.wait(ec2, "system_status_ok", InstanceIds=ids)
        with refused("ServiceUnavailable"):  # this host's agent is no agent
            await ec2.get_console_output(InstanceId=ids[0])
        zones = (await ec2.describe_availability_zones())["AvailabilityZones"]
        assert [(zone["ZoneName"], zone["ZoneId"]) for zone in zones] == [("us-east-1a", "use1-az1")]
        elsewhere = world.client("ec2", region="eu-west-1")
        assert (await elsewhere.describe_availability_zones())["AvailabilityZones"][0]["ZoneName"] == "eu-west-1a"
        (there,) = await world.launch(elsewhere, Placement={"AvailabilityZone": "eu-west-1a"})
        assert there["Placement"]["AvailabilityZone"] == "eu-west-1a"
        assert not (await ec2.describe_instances(InstanceIds=ids))["Reservations"][0]["Instances"][0].get("Platform")
        names = [one["RegionName"] for one in (await ec2.describe_regions())["Regions"]]
        assert "eu-west-1" in names and len(names) == 17
        attributes = (await ec2.describe_account_attributes())["AccountAttributes"]
        assert {"AttributeName", "AttributeValues"} == set(attributes[0])


async def test_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        for given, name in (
            ({"InstanceMarketOptions": {"MarketType": "spot"}}, "InstanceMarketOptions"),
            ({"HibernationOptions": {"Configured": True}}, "HibernationOptions.Configured"),
            ({"PrivateIpAddress": "10.64.0.77"}, "PrivateIpAddress"),
            ({"Placement": {"Tenancy": "dedicated"}}, "Placement.Tenancy"),
            ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]}, "BlockDeviceMappings"),
            ({"CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 1}}, "CpuOptions"),
        ):
            with refused("UnsupportedOperation", name):
                await world.launch(ec2, **given)
        with refused("InvalidAction", "CreateVpc"):
            await ec2.create_vpc(CidrBlock="10.0.0.0/16")
        with refused("MissingParameter", "ImageId"):
            await ec2.run_instances(MinCount=1, MaxCount=1, InstanceType="t3.micro")
        assert not (await ec2.describe_instances())["Reservations"]


async def test_many_at_once(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2", max_pool_connections=8)
        made = await asyncio.gather(*[world.launch(ec2, 2, InstanceType="t3.nano") for _ in range(4)])
        ids = {one["InstanceId"] for group in made for one in group}
        assert len(ids) == 8
        await world.wait(ec2, "instance_running", InstanceIds=sorted(ids))


async def test_an_answer_is_kept_until_something_is_recorded(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2, stranger = world.client("ec2"), world.client("ec2", account="111122223333")
        (one, two) = await world.launch(ec2, 2)
        await world.wait(ec2, "instance_running", InstanceIds=[one["InstanceId"], two["InstanceId"]])
        first = await ec2.describe_instances()
        assert (await ec2.describe_instances())["Reservations"] == first["Reservations"]
        assert not (await stranger.describe_instances())["Reservations"]
        await ec2.create_tags(Resources=[one["InstanceId"]], Tags=[{"Key": "a", "Value": "b"}])
        after = (await ec2.describe_instances())["Reservations"][0]["Instances"]
        assert {item["InstanceId"]: item.get("Tags") for item in after} == {
            one["InstanceId"]: [{"Key": "a", "Value": "b"}],
            two["InstanceId"]: None,
        }
