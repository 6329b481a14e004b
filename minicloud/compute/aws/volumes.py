"""The root disks of instances, as volumes. There are no others yet: creating and attaching volumes is not served."""

from __future__ import annotations

from minicloud.aws.call import Call, only, refused
from minicloud.base.errors import InvalidParameterValue, NotFound
from minicloud.compute import tagging
from minicloud.compute.aws import shown
from minicloud.compute.aws.base import Noun, Params, Result, named_in, tagged
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.aws.launch import ROOT_GIB_MAX
from minicloud.compute.commands import GrowRoot
from minicloud.compute.model import Instance

_TYPES = ("gp2", "gp3")
_GP3 = {"Iops": 3000, "Throughput": 125}
_LIST = ("Filters", "NextToken", "MaxResults", "DryRun")
_FIELDS: Fields[Instance] = {
    TAGS: lambda one: one.volume_tags,
    "attachment.delete-on-termination": lambda one: True,
    "attachment.device": lambda one: shown.root_device(one.image_id),
    "attachment.instance-id": lambda one: one.id,
    "attachment.status": lambda one: "attached",
    "availability-zone": shown.zone,
    "encrypted": lambda one: False,
    "multi-attach-enabled": lambda one: False,
    "size": lambda one: str(_size(one)),
    "snapshot-id": lambda one: "",
    "status": lambda one: "in-use",
    "volume-id": lambda one: tagging.volume_of(one.id),
    "volume-type": lambda one: _type(one),
}


class VolumeDoor(Noun):
    async def DescribeVolumes(self, params: Params, call: Call) -> Result:
        """The root disks of instances."""
        only(params, call, "VolumeIds", "Filters", "NextToken", "MaxResults", "DryRun", "IncludeManagedResources")
        return await self._shown(params, lambda: self._volumes(params, call))

    def _volumes(self, params: Params, call: Call) -> Result:
        some, result = self._roots(params, call, _FIELDS)
        return {**result, "Volumes": [_volume(one) for one in some]}

    def _roots(self, params: Params, call: Call, fields: Fields[Instance]) -> tuple[list[Instance], Result]:
        """The instances whose disks are meant."""
        scope = call.caller.scope
        found = named_in(params, "VolumeIds", lambda one: tagging.volume_owner(self._state, scope, one))
        if found is None:
            every = (self._state.instances[key] for key in self._state.page(Instance.kind, scope))
            found = [one for one in every if one.state != "terminated"]
        return self._page(call, params, ((one.id, one) for one in found), fields)

    async def DescribeVolumeStatus(self, params: Params, call: Call) -> Result:
        only(params, call, "VolumeIds", "Filters", "NextToken", "MaxResults", "DryRun", "IncludeManagedResources")
        return await self._shown(params, lambda: self._volume_statuses(params, call))

    def _volume_statuses(self, params: Params, call: Call) -> Result:
        fields: Fields[Instance] = {
            "availability-zone": shown.zone,
            "volume-status.status": lambda one: self._disk_status(one),
        }
        some, result = self._roots(params, call, fields)
        statuses = [
            {
                "VolumeId": tagging.volume_of(one.id),
                "AvailabilityZone": shown.zone(one),
                "VolumeStatus": {"Status": self._disk_status(one), "Details": []},
                "Actions": [],
                "Events": [],
            }
            for one in some
        ]
        return {**result, "VolumeStatuses": statuses}

    async def ModifyVolume(self, params: Params, call: Call) -> Result:
        """A root disk can grow, at any time: the room is reserved on its host. Its type is said back."""
        only(params, call, "VolumeId", "Size", "VolumeType", "Iops", "Throughput", "DryRun")
        one = tagging.volume_owner(self._state, call.caller.scope, params["VolumeId"])
        kind, size = params.get("VolumeType", _type(one)), params.get("Size", _size(one))
        if kind not in _TYPES:
            raise refused(f"VolumeType {kind[:16]}", call)
        for name, value in _GP3.items():
            if params.get(name, value) != value:
                raise refused(name, call)
        if not _size(one) <= size <= ROOT_GIB_MAX:
            raise InvalidParameterValue("New size cannot be smaller than existing size", field="Size")
        change = {
            "OriginalSize": _size(one),
            "OriginalVolumeType": _type(one),
            "TargetSize": size,
            "TargetVolumeType": kind,
            "StartTime": self._ports.wall(),
        }
        command = GrowRoot(call.caller.scope, one.id, size, {"VolumeType": kind, "VolumeModification": change})
        return {"VolumeModification": _modification(await self._submit(command, params))}

    async def DescribeVolumesModifications(self, params: Params, call: Call) -> Result:
        """They are done at once; the last one of each volume."""
        only(params, call, "VolumeIds", *_LIST)
        return await self._shown(params, lambda: self._modifications(params, call))

    def _modifications(self, params: Params, call: Call) -> Result:
        fields: Fields[Instance] = {
            "volume-id": lambda one: tagging.volume_of(one.id),
            "modification-state": lambda one: "completed",
        }
        some, result = self._roots(params, call, fields)
        changed = [one for one in some if "VolumeModification" in one.echo]
        if params.get("VolumeIds") and not changed:
            raise NotFound(
                f"Modification for volume '{params['VolumeIds'][0][:64]}' does not exist.",
                code="InvalidVolumeModification.NotFound",
            )
        return {**result, "VolumesModifications": [_modification(one) for one in changed]}

    def _disk_status(self, one: Instance) -> str:
        """A disk is on its host."""
        host = self._state.hosts.get(one.host_id)
        return "ok" if host is not None and host.state == "up" else "impaired"


def _size(one: Instance) -> int:
    return one.root_gib or shown.ROOT_GIB


def _type(one: Instance) -> str:
    return str(one.echo.get("VolumeType", "gp3"))


def _volume(one: Instance) -> Result:
    device = shown.devices(one)[0]
    return {
        "VolumeId": device["Ebs"]["VolumeId"],
        "Size": _size(one),
        "SnapshotId": "",
        "AvailabilityZone": shown.zone(one),
        "State": "in-use",
        "CreateTime": one.created,
        "VolumeType": _type(one),
        "Encrypted": False,
        "MultiAttachEnabled": False,
        **({"Iops": 3000, "Throughput": 125} if _type(one) == "gp3" else {"Iops": 100}),
        "Attachments": [
            {
                "AttachTime": one.created,
                "Device": device["DeviceName"],
                "InstanceId": one.id,
                "State": "attached",
                "VolumeId": device["Ebs"]["VolumeId"],
                "DeleteOnTermination": True,
            }
        ],
        **tagged(one.volume_tags),
    }


def _modification(one: Instance) -> Result:
    change = one.echo["VolumeModification"]
    return {
        "VolumeId": tagging.volume_of(one.id),
        "ModificationState": "completed",
        "Progress": 100,
        "EndTime": change["StartTime"],
        **change,
    }
