"""The root disks of instances, as volumes. There are no others yet: creating and attaching volumes is not served."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.base.errors import NotFound
from minicloud.compute import tagging
from minicloud.compute.aws import shown
from minicloud.compute.aws.base import Noun, Params, Result, named_in, tagged
from minicloud.compute.aws.filters import TAGS, Fields
from minicloud.compute.model import Instance

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

    async def DescribeSnapshots(self, params: Params, call: Call) -> Result:
        """There are none."""
        only(params, call, "OwnerIds", "RestorableByUserIds", "SnapshotIds", *_LIST)
        for one in params.get("SnapshotIds", ()):
            raise NotFound(f"The snapshot '{one[:64]}' does not exist.", code="InvalidSnapshot.NotFound")
        return await self._shown(params, lambda: {"Snapshots": []})

    async def DescribeVolumesModifications(self, params: Params, call: Call) -> Result:
        """There are none."""
        only(params, call, "VolumeIds", *_LIST)
        for one in params.get("VolumeIds", ()):
            tagging.volume_owner(self._state, call.caller.scope, one)
            raise NotFound(
                f"Modification for volume '{one[:64]}' does not exist.", code="InvalidVolumeModification.NotFound"
            )
        return await self._shown(params, lambda: {"VolumesModifications": []})

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
