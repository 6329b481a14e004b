"""Images: an account's own, the built-in `base`, and public ones that are `base` under their own ids."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.base.errors import InvalidParameterValue
from minicloud.compute import commands, images
from minicloud.compute.aws.base import Noun, Params, Result, named_in, tagged, tags_for
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.aws.shown import ROOT_GIB, root_device
from minicloud.compute.model import Image
from minicloud.compute.public_images import AMAZON, PARAMETERS, PUBLIC

_RESOLVE = "resolve:ssm:"
_DAY = "%Y-%m-%dT%H:%M:%S.000Z"


def resolved(text: str) -> str:
    """An image id; `resolve:ssm:<parameter>` is the image that AWS's public parameter names."""
    if not text.startswith(_RESOLVE):
        return text
    name = text.removeprefix(_RESOLVE).partition(":")[0]
    if name not in PARAMETERS:
        raise InvalidParameterValue(
            f"Invalid Amazon SSM parameter: {name[:128]} (AWS's public parameters of images are known here)",
            code="InvalidParameterValue",
            field="ImageId",
        )
    return PARAMETERS[name]


class ImageDoor(Noun):
    async def DescribeImages(self, params: Params, call: Call) -> Result:
        """An account's own, the built-in `base`, and public ones under their names and ids, which are `base` too."""
        only(
            params, call, "ImageIds", "Owners", "ExecutableUsers", "Filters", "IncludeDeprecated", "IncludeDisabled",
            "DryRun", "MaxResults", "NextToken",
        )  # fmt: skip
        return await self._shown(params, lambda: self._describe_images(params, call))

    def _describe_images(self, params: Params, call: Call) -> Result:
        scope = call.caller.scope
        found = named_in(params, "ImageIds", lambda one: images.find(self._state, scope, one))
        if found is None:
            found = list(self._visible(call))
        owners = {scope.account if one == "self" else one for one in params.get("Owners", ())}
        executable = set(params.get("ExecutableUsers", ()))
        if owners:
            found = [one for one in found if owners & {_owner(one), _alias(one)}]
        if executable:
            found = [one for one in found if ("all" in executable) == one.builtin]
        some, result = self._page(call, params, ((one.id, one) for one in found), self._image_fields())
        return {**result, "Images": [self._image(one) for one in some]}

    def _visible(self, call: Call) -> Iterator[Image]:
        yield from (self._state.images[key] for key in self._state.page(Image.kind, call.caller.scope))
        yield from images.BUILTIN.values()
        yield from (one.image for one in PUBLIC.values())

    def _arch(self, one: Image) -> str:
        """`base` runs on whatever the hosts are."""
        return one.arch or next((host.arch for host in self._state.hosts.values()), "x86_64")

    def _image_fields(self) -> Fields[Image]:
        return {
            TAGS: lambda one: one.tags,
            "architecture": self._arch,
            "block-device-mapping.volume-type": lambda one: "gp3",
            "creation-date": lambda one: time.strftime(_DAY, time.gmtime(one.created)),
            "description": lambda one: one.description,
            "ena-support": lambda one: True,
            "hypervisor": lambda one: "xen",
            "image-id": lambda one: one.id,
            "image-type": lambda one: "machine",
            "is-public": lambda one: one.builtin,
            "manifest-location": lambda one: "",
            "name": lambda one: one.name,
            "owner-alias": _alias,
            "owner-id": _owner,
            "platform": lambda one: "",
            "root-device-name": lambda one: root_device(one.id),
            "root-device-type": lambda one: "ebs",
            "state": lambda one: one.state,
            "virtualization-type": lambda one: "hvm",
        }

    def _image(self, one: Image) -> Result:
        disk = {"VolumeSize": ROOT_GIB, "VolumeType": "gp3", "DeleteOnTermination": True, "Encrypted": False}
        shown: Result = {
            "ImageId": one.id,
            "Name": one.name,
            "Description": one.description,
            "State": one.state,
            "OwnerId": _owner(one),
            "ImageLocation": f"{_alias(one) or _owner(one)}/{one.name}",
            "Architecture": self._arch(one),
            "Public": one.builtin,
            "CreationDate": time.strftime(_DAY, time.gmtime(one.created)),
            "ImageType": "machine",
            "RootDeviceName": root_device(one.id),
            "RootDeviceType": "ebs",
            "BlockDeviceMappings": [{"DeviceName": root_device(one.id), "Ebs": disk}],
            "VirtualizationType": "hvm",
            "Hypervisor": "xen",
            "EnaSupport": True,
            "PlatformDetails": "Linux/UNIX",
            "UsageOperation": "RunInstances",
            **tagged(one.tags),
        }
        if alias := _alias(one):
            shown["ImageOwnerAlias"] = alias
        if one.source_instance_id:
            shown["SourceInstanceId"] = one.source_instance_id
        if one.reason:
            shown["StateReason"] = {"Code": "Server.InternalError", "Message": one.reason}
        return shown

    async def CreateImage(self, params: Params, call: Call) -> Result:
        """A tar of the whole disk; it has no snapshots."""
        only(params, call, "InstanceId", "Name", "Description", "NoReboot", "TagSpecifications", "DryRun")
        tags = tags_for(params, "image", "snapshot")
        if tags["snapshot"]:
            raise refused("TagSpecifications of snapshot", call, "An image has no snapshots.")
        command = commands.CreateImage(
            call.caller.scope,
            params["InstanceId"],
            params["Name"],
            params.get("Description", ""),
            bool(params.get("NoReboot")),
            tags["image"],
        )
        return {"ImageId": (await self._submit(command, params)).id}

    async def DeregisterImage(self, params: Params, call: Call) -> Result:
        only(params, call, "ImageId", "DryRun", "DeleteAssociatedSnapshots")
        gone: Image = await self._submit(commands.DeregisterImage(call.caller.scope, params["ImageId"]), params)
        await self._ports.delete_tar(gone.id)
        return {"Return": True}

    async def DescribeImageAttribute(self, params: Params, call: Call) -> Result:
        only(params, call, "Attribute", "ImageId", "DryRun")
        one = await self._shown(params, lambda: images.find(self._state, call.caller.scope, params["ImageId"]))
        values: dict[str, tuple[str, Any]] = {
            "description": ("Description", {"Value": one.description}),
            "blockDeviceMapping": ("BlockDeviceMappings", self._image(one)["BlockDeviceMappings"]),
            "launchPermission": ("LaunchPermissions", [{"Group": "all"}] if one.builtin else []),
            "productCodes": ("ProductCodes", []),
            "kernel": ("KernelId", {}),
            "ramdisk": ("RamdiskId", {}),
            "sriovNetSupport": ("SriovNetSupport", {"Value": "simple"}),
        }
        if params["Attribute"] not in values:
            raise refused(f"Attribute {params['Attribute'][:64]}", call)
        member, value = values[params["Attribute"]]
        return {"ImageId": one.id, member: value}


def _owner(one: Image) -> str:
    known = PUBLIC.get(one.id)
    return known.owner if known else one.account or AMAZON


def _alias(one: Image) -> str:
    known = PUBLIC.get(one.id)
    return known.owner_alias if known else "minicloud" if one.builtin else ""
