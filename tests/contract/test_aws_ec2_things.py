"""EC2 through boto3: what launches refer to (keys, templates, groups, images), tags, and the default network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from minicloud.wire import fleet_pb2
from tests.contract.aws_world import refused
from tests.contract.ec2_world import IMAGE, ec2_world

PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDwCd1jPnM4lmSmB5zsBPhyRYzNrXNjrCgHAmpbeAxXJ me@here"


def of(kind: str, **tags: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


async def test_key_pairs(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        made = await ec2.create_key_pair(KeyName="k1", TagSpecifications=of("key-pair", team="a"))
        load_pem_private_key(made["KeyMaterial"].encode(), None)
        assert len(made["KeyFingerprint"].split(":")) == 20
        await ec2.create_key_pair(KeyName="k2", KeyType="ed25519")
        await ec2.import_key_pair(KeyName="k3", PublicKeyMaterial=PUBLIC_KEY)
        with refused("InvalidKeyPair.Duplicate", "The keypair 'k1' already exists."):
            await ec2.create_key_pair(KeyName="k1")
        with refused("InvalidKey.Format"):
            await ec2.import_key_pair(KeyName="k4", PublicKeyMaterial=b"nonsense")
        await world.wait(ec2, "key_pair_exists", KeyNames=["k3"])
        (k3,) = (await ec2.describe_key_pairs(KeyNames=["k3"], IncludePublicKey=True))["KeyPairs"]
        assert k3["PublicKey"].encode() == PUBLIC_KEY and k3["KeyType"] == "ed25519"
        mine = [{"Name": "tag:team", "Values": ["a"]}]
        assert [one["KeyName"] for one in (await ec2.describe_key_pairs(Filters=mine))["KeyPairs"]] == ["k1"]
        (one,) = await world.launch(ec2, KeyName="k3")
        assert one["KeyName"] == "k3"
        await ec2.delete_key_pair(KeyPairId=k3["KeyPairId"])
        await ec2.delete_key_pair(KeyName="k3")
        assert len((await ec2.describe_key_pairs())["KeyPairs"]) == 2


async def test_a_launch_template_says_back_what_it_was_given(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        data = {
            "ImageId": IMAGE,
            "InstanceType": "t3.nano",
            "UserData": base64.b64encode(b"#!/bin/sh\ntrue").decode(),
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "VolumeType": "gp3"}}],
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
            "Monitoring": {"Enabled": True},
            "TagSpecifications": of("instance", role="web", stage="test"),
        }
        made = await ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
        template = made["LaunchTemplate"]["LaunchTemplateId"]
        (version,) = (await ec2.describe_launch_template_versions(LaunchTemplateId=template))["LaunchTemplateVersions"]
        assert version["LaunchTemplateData"] == data and version["DefaultVersion"]
        second = await ec2.create_launch_template_version(
            LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"InstanceType": "t3.micro"}
        )
        assert second["LaunchTemplateVersion"]["LaunchTemplateData"] == {**data, "InstanceType": "t3.micro"}
        await ec2.modify_launch_template(LaunchTemplateName="web", DefaultVersion="2")
        made = await ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "web"},
            MinCount=1,
            MaxCount=1,
            TagSpecifications=of("instance", stage="prod"),
        )
        one = made["Instances"][0]
        assert one["InstanceType"] == "t3.micro" and one["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
        tags = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        assert tags.pop("aws:ec2launchtemplate:id") == template and tags.pop("aws:ec2launchtemplate:version") == "2"
        assert tags == {"role": "web", "stage": "prod"}
        assert one["MetadataOptions"]["HttpTokens"] == "required" and one["Monitoring"]["State"] == "enabled"
        (volume,) = (await ec2.describe_volumes())["Volumes"]
        assert volume["Size"] == 12
        with refused("InvalidLaunchTemplateId.VersionNotFound"):
            await ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["7"])
        gone = await ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1", "2", "9"])
        assert [one["VersionNumber"] for one in gone["SuccessfullyDeletedLaunchTemplateVersions"]] == [1]
        codes = [one["ResponseError"]["Code"] for one in gone["UnsuccessfullyDeletedLaunchTemplateVersions"]]
        assert codes == ["unexpectedError", "launchTemplateVersionDoesNotExist"]
        latest = await ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Latest"])
        assert [one["VersionNumber"] for one in latest["LaunchTemplateVersions"]] == [2]
        with refused("InvalidLaunchTemplateName.AlreadyExistsException"):
            await ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
        with refused("UnsupportedOperation", "InstanceMarketOptions"):
            spot = {**data, "InstanceMarketOptions": {"MarketType": "spot"}}
            await ec2.create_launch_template(LaunchTemplateName="spot", LaunchTemplateData=spot)
        await ec2.delete_launch_template(LaunchTemplateId=template)
        with refused("InvalidLaunchTemplateId.NotFound"):
            await ec2.describe_launch_templates(LaunchTemplateIds=[template])
        with refused("InvalidLaunchTemplateName.NotFoundException"):
            await ec2.describe_launch_templates(LaunchTemplateNames=["web"])


async def test_a_template_is_made_once_under_its_client_token(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        given = {"LaunchTemplateName": "web", "LaunchTemplateData": {"InstanceType": "t3.nano"}}
        first = await ec2.create_launch_template(**given, ClientToken="once")
        again = await ec2.create_launch_template(**given, ClientToken="once")
        assert first["LaunchTemplate"] == again["LaunchTemplate"]
        with refused("InvalidLaunchTemplateName.AlreadyExistsException"):
            await ec2.create_launch_template(**given)  # boto3 makes a token of its own
        for _ in range(2):
            made = await ec2.create_launch_template_version(**given, ClientToken="more", SourceVersion="$Latest")
            assert made["LaunchTemplateVersion"]["VersionNumber"] == 2
        with refused("IdempotentParameterMismatch"):
            await ec2.create_launch_template_version(**given, ClientToken="more", VersionDescription="another")
        assert (await ec2.create_launch_template_version(**given))["LaunchTemplateVersion"]["VersionNumber"] == 3


async def test_an_alias_of_an_image_is_shown_as_given_or_resolved(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2, alias = world.client("ec2"), "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
        data = {"ImageId": f"resolve:ssm:{alias}", "InstanceType": "t3.nano"}
        await ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
        await ec2.create_launch_template_version(
            LaunchTemplateName="web", LaunchTemplateData={"InstanceType": "t3.nano"}
        )
        named = (await world.client("ssm").get_parameter(Name=alias))["Parameter"]["Value"]

        async def images(**given: bool) -> list[str | None]:
            found = await ec2.describe_launch_template_versions(LaunchTemplateName="web", **given)
            return [one["LaunchTemplateData"].get("ImageId") for one in found["LaunchTemplateVersions"]]

        assert await images() == [None, data["ImageId"]]
        assert await images(ResolveAlias=True) == [None, named]
        assert await images() == [None, data["ImageId"]]


async def test_tags_of_instances_volumes_and_others(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        both = of("instance", Name="a") + of("volume", Name="disk")
        (one,) = await world.launch(ec2, TagSpecifications=both)
        (volume,) = (await ec2.describe_volumes())["Volumes"]
        assert volume["Tags"] == [{"Key": "Name", "Value": "disk"}]
        names = [one["InstanceId"], volume["VolumeId"]]
        await ec2.create_tags(Resources=names, Tags=[{"Key": "env", "Value": "dev"}, {"Key": "x", "Value": ""}])
        found = await ec2.describe_tags(Filters=[{"Name": "key", "Values": ["env"]}])
        assert {(tag["ResourceType"], tag["ResourceId"]) for tag in found["Tags"]} == {
            ("instance", names[0]),
            ("volume", names[1]),
        }
        await ec2.delete_tags(Resources=names, Tags=[{"Key": "env", "Value": "other"}])
        assert len((await ec2.describe_tags(Filters=[{"Name": "key", "Values": ["env"]}]))["Tags"]) == 2
        await ec2.delete_tags(Resources=names, Tags=[{"Key": "env"}, {"Key": "x", "Value": ""}])
        assert [tag["Key"] for tag in (await ec2.describe_tags())["Tags"]] == ["Name", "Name"]
        with refused("InvalidInstanceID.NotFound"):
            await ec2.create_tags(Resources=[names[0], "i-0123456789abcdef0"], Tags=[{"Key": "k", "Value": "v"}])
        assert [tag["Key"] for tag in (await ec2.describe_tags())["Tags"]] == ["Name", "Name"]
        with refused("InvalidParameterValue", "reserved"):
            await ec2.create_tags(Resources=names, Tags=[{"Key": "aws:x", "Value": "v"}])


async def test_whatever_is_made_can_be_tagged_as_it_is_made(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (one,) = await world.launch(ec2, TagSpecifications=[*of("instance", a="1"), *of("volume", a="1")])
        group = await ec2.create_security_group(
            GroupName="g", Description="d", TagSpecifications=of("security-group", a="1")
        )
        web = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
        rules = of("security-group-rule", a="1")
        for way in (ec2.authorize_security_group_ingress, ec2.authorize_security_group_egress):
            await way(GroupId=group["GroupId"], IpPermissions=web, TagSpecifications=rules)
        await ec2.create_key_pair(KeyName="k1", TagSpecifications=of("key-pair", a="1"))
        await ec2.import_key_pair(KeyName="k2", PublicKeyMaterial=PUBLIC_KEY, TagSpecifications=of("key-pair", a="1"))
        await ec2.create_placement_group(
            GroupName="p", Strategy="spread", TagSpecifications=of("placement-group", a="1")
        )
        await ec2.create_launch_template(
            LaunchTemplateName="web",
            LaunchTemplateData={"InstanceType": "t3.nano"},
            TagSpecifications=of("launch-template", a="1"),
        )
        await world.wait(ec2, "instance_running", InstanceIds=[one["InstanceId"]])
        image = await ec2.create_image(
            InstanceId=one["InstanceId"], Name="golden", TagSpecifications=of("image", a="1")
        )
        found = (await ec2.describe_tags(Filters=[{"Name": "key", "Values": ["a"]}]))["Tags"]
        kinds = sorted(tag["ResourceType"] for tag in found)
        assert kinds == [
            "image", "instance", "key-pair", "key-pair", "launch-template", "placement-group", "security-group",
            "security-group-rule", "security-group-rule", "volume",
        ]  # fmt: skip
        assert {tag["Value"] for tag in found} == {"1"} and image["ImageId"] in {tag["ResourceId"] for tag in found}
        with refused("InvalidParameterValue"):
            await ec2.create_key_pair(KeyName="k3", TagSpecifications=of("instance", a="1"))
        assert len((await ec2.describe_key_pairs())["KeyPairs"]) == 2


async def test_placement_groups_and_images_of_ones_own(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        await ec2.create_placement_group(GroupName="near", Strategy="spread")
        (one,) = await world.launch(ec2, Placement={"GroupName": "near"})
        assert one["Placement"]["GroupName"] == "near"
        with refused("InvalidPlacementGroup.InUse"):
            await ec2.delete_placement_group(GroupName="near")
        (group,) = (await ec2.describe_placement_groups(GroupNames=["near"]))["PlacementGroups"]
        assert (group["Strategy"], group["State"]) == ("spread", "available")
        with refused("InvalidPlacementGroup.Unknown"):
            await ec2.describe_placement_groups(GroupNames=["far"])
        await world.wait(ec2, "instance_running", InstanceIds=[one["InstanceId"]])
        made = await ec2.create_image(InstanceId=one["InstanceId"], Name="golden", TagSpecifications=of("image", v="1"))
        (order,) = await world.host.ordered("snapshot")
        done = fleet_pb2.OrderResult(order_id=order.order_id, ok=True, size_bytes=10)
        await world.host.say(fleet_pb2.HostReport(result=done))
        await world.wait(ec2, "image_available", ImageIds=[made["ImageId"]])
        (image,) = (await ec2.describe_images(Owners=["self"]))["Images"]
        assert image["Name"] == "golden" and image["Tags"] == [{"Key": "v", "Value": "1"}]
        with refused("InvalidAMIName.Duplicate"):
            await ec2.create_image(InstanceId=one["InstanceId"], Name="golden")
        await ec2.deregister_image(ImageId=made["ImageId"])
        assert not (await ec2.describe_images(Owners=["self"]))["Images"]


async def test_the_default_network(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        (vpc,) = (await ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}]))["Vpcs"]
        await world.wait(ec2, "vpc_available", VpcIds=[vpc["VpcId"]])
        only = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
        (subnet,) = (await ec2.describe_subnets(Filters=only))["Subnets"]
        await world.wait(ec2, "subnet_available", SubnetIds=[subnet["SubnetId"]])
        (one,) = await world.launch(ec2, SubnetId=subnet["SubnetId"])
        assert one["SubnetId"] == subnet["SubnetId"] and one["VpcId"] == vpc["VpcId"]
        names = await ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableDnsHostnames")
        assert names["EnableDnsHostnames"] == {"Value": True}
        (table,) = (await ec2.describe_route_tables(Filters=only))["RouteTables"]
        assert table["Associations"][0]["Main"]
        (group,) = (await ec2.describe_security_groups(GroupNames=["default"]))["SecurityGroups"]
        assert [one["GroupId"] for one in one["SecurityGroups"]] == [group["GroupId"]]
        await world.wait(ec2, "security_group_exists", GroupIds=[group["GroupId"]])
        await world.wait(ec2, "instance_running", InstanceIds=[one["InstanceId"]])
        mine = [{"Name": "attachment.instance-id", "Values": [one["InstanceId"]]}]
        (card,) = (await ec2.describe_network_interfaces(Filters=mine))["NetworkInterfaces"]
        assert card["PrivateIpAddress"] == "10.64.0.9" and card["Attachment"]["InstanceId"] == one["InstanceId"]
        for call, key in (
            (ec2.describe_internet_gateways, "InternetGateways"),
            (ec2.describe_network_acls, "NetworkAcls"),
            (ec2.describe_dhcp_options, "DhcpOptions"),
        ):
            assert len((await call())[key]) == 1
        with refused("InvalidVpcID.NotFound"):
            await ec2.describe_vpcs(VpcIds=["vpc-0123456789abcdef0"])


async def test_a_root_disk_grows(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        await world.launch(ec2)
        (volume,) = (await ec2.describe_volumes())["Volumes"]
        name = volume["VolumeId"]
        with refused("InvalidVolumeModification.NotFound"):
            await ec2.describe_volumes_modifications(VolumeIds=[name])
        done = (await ec2.modify_volume(VolumeId=name, Size=20))["VolumeModification"]
        assert (done["OriginalSize"], done["TargetSize"], done["ModificationState"]) == (8, 20, "completed")
        (volume,) = (await ec2.describe_volumes(VolumeIds=[name]))["Volumes"]
        assert volume["Size"] == 20
        assert len((await ec2.describe_volumes_modifications(VolumeIds=[name]))["VolumesModifications"]) == 1
        for size, code in ((19, "InvalidParameterValue"), (500, "InsufficientInstanceCapacity")):
            with refused(code):
                await ec2.modify_volume(VolumeId=name, Size=size)
        with refused("UnsupportedOperation", "Iops"):
            await ec2.modify_volume(VolumeId=name, Iops=4000)


async def test_what_there_is_none_of_is_an_empty_list_and_its_ids_are_not_found(tmp_path: Path) -> None:
    async with ec2_world(tmp_path) as world:
        ec2 = world.client("ec2")
        for kind, ids, code in (
            ("snapshots", {"SnapshotIds": ["snap-1"]}, "InvalidSnapshot.NotFound"),
            ("addresses", {"AllocationIds": ["eipalloc-1"]}, "InvalidAllocationID.NotFound"),
            ("addresses_attribute", {"AllocationIds": ["eipalloc-1"]}, "InvalidAllocationID.NotFound"),
            ("prefix_lists", {"PrefixListIds": ["pl-1"]}, "InvalidPrefixListID.NotFound"),
            ("nat_gateways", {"NatGatewayIds": ["nat-1"]}, "NatGatewayNotFound"),
            ("vpc_endpoints", {"VpcEndpointIds": ["vpce-1"]}, "InvalidVpcEndpointId.NotFound"),
            ("spot_instance_requests", {"SpotInstanceRequestIds": ["sir-1"]}, "InvalidSpotInstanceRequestID.NotFound"),
            ("reserved_instances", {"ReservedInstancesIds": ["1"]}, "InvalidReservedInstancesId"),
            ("capacity_reservations", {"CapacityReservationIds": ["cr-1"]}, "InvalidCapacityReservationId.NotFound"),
            ("hosts", {"HostIds": ["h-1"]}, "InvalidHostID.NotFound"),
            ("fleets", {"FleetIds": ["fleet-1"]}, "InvalidFleetId.NotFound"),
            ("spot_fleet_requests", {"SpotFleetRequestIds": ["sfr-1"]}, "InvalidSpotFleetRequestId.NotFound"),
            (
                "reserved_instances_modifications",
                {"ReservedInstancesModificationIds": ["m-1"]},
                "InvalidReservedInstancesModificationId.NotFound",
            ),
            ("host_reservations", {"HostReservationIdSet": ["hr-1"]}, "InvalidHostReservationId.NotFound"),
            (
                "instance_event_windows",
                {"InstanceEventWindowIds": ["iew-1"]},
                "InvalidInstanceEventWindowID.NotFound",
            ),
        ):
            describe = getattr(ec2, f"describe_{kind}")
            answer = await describe()
            assert [value for name, value in answer.items() if name != "ResponseMetadata"] in ([[]], [])
            with refused(code, "does not exist"):
                await describe(**ids)
        with refused("InvalidFleetId.NotFound", "does not exist"):
            await ec2.describe_fleet_instances(FleetId="fleet-1")
        with refused("InvalidSpotDatafeed.NotFound", "does not exist"):
            await ec2.describe_spot_datafeed_subscription()
        assert (await ec2.get_serial_console_access_status())["SerialConsoleAccessEnabled"] is False
