"""Describes of what this cloud has none of: an empty list is the truth, and every id that is asked for is not found."""

from __future__ import annotations

from typing import NamedTuple

from minicloud.aws.call import Call, only
from minicloud.base.errors import NotFound
from minicloud.compute.aws.base import Noun, Params, Result

_LIST = ("Filters", "Filter", "NextToken", "MaxResults", "DryRun")


class _Ids(NamedTuple):
    """A parameter with ids; what EC2 calls such a thing; the code where there is none."""

    name: str
    noun: str
    code: str


_FLEET = "InvalidFleetId.NotFound"


class AbsentDoor(Noun):
    async def _none(self, params: Params, call: Call, result: str, *ids: _Ids, others: tuple[str, ...] = ()) -> Result:
        only(params, call, *(one.name for one in ids), *others, *_LIST)
        for kind in ids:
            for one in params.get(kind.name, ()):
                raise NotFound(f"The {kind.noun} '{one[:64]}' does not exist", code=kind.code)
        return await self._shown(params, lambda: {result: []})

    async def DescribeSnapshots(self, params: Params, call: Call) -> Result:
        """There are none."""
        ids = _Ids("SnapshotIds", "snapshot", "InvalidSnapshot.NotFound")
        return await self._none(params, call, "Snapshots", ids, others=("OwnerIds", "RestorableByUserIds"))

    async def DescribeAddresses(self, params: Params, call: Call) -> Result:
        """There are no elastic addresses."""
        addresses = _Ids("PublicIps", "address", "InvalidAddress.NotFound")
        ids = _Ids("AllocationIds", "allocation ID", "InvalidAllocationID.NotFound")
        return await self._none(params, call, "Addresses", addresses, ids)

    async def DescribeAddressesAttribute(self, params: Params, call: Call) -> Result:
        """There are no elastic addresses."""
        ids = _Ids("AllocationIds", "allocation ID", "InvalidAllocationID.NotFound")
        return await self._none(params, call, "Addresses", ids, others=("Attribute",))

    async def DescribePrefixLists(self, params: Params, call: Call) -> Result:
        """There are none."""
        ids = _Ids("PrefixListIds", "prefix list ID", "InvalidPrefixListID.NotFound")
        return await self._none(params, call, "PrefixLists", ids)

    async def DescribeNatGateways(self, params: Params, call: Call) -> Result:
        """There are none."""
        ids = _Ids("NatGatewayIds", "NAT gateway", "NatGatewayNotFound")
        return await self._none(params, call, "NatGateways", ids)

    async def DescribeVpcEndpoints(self, params: Params, call: Call) -> Result:
        """There are none."""
        ids = _Ids("VpcEndpointIds", "VPC endpoint ID", "InvalidVpcEndpointId.NotFound")
        return await self._none(params, call, "VpcEndpoints", ids)

    async def DescribeSpotInstanceRequests(self, params: Params, call: Call) -> Result:
        """There are none: instances are on demand."""
        ids = _Ids("SpotInstanceRequestIds", "spot instance request ID", "InvalidSpotInstanceRequestID.NotFound")
        return await self._none(params, call, "SpotInstanceRequests", ids)

    async def DescribeReservedInstances(self, params: Params, call: Call) -> Result:
        """There are none: instances are on demand."""
        ids = _Ids("ReservedInstancesIds", "reserved instances ID", "InvalidReservedInstancesId")
        return await self._none(params, call, "ReservedInstances", ids, others=("OfferingClass", "OfferingType"))

    async def DescribeCapacityReservations(self, params: Params, call: Call) -> Result:
        """There are none."""
        ids = _Ids("CapacityReservationIds", "capacity reservation ID", "InvalidCapacityReservationId.NotFound")
        return await self._none(params, call, "CapacityReservations", ids)

    async def DescribeHosts(self, params: Params, call: Call) -> Result:
        """Dedicated hosts, of which there are none: every host is shared."""
        ids = _Ids("HostIds", "host ID", "InvalidHostID.NotFound")
        return await self._none(params, call, "Hosts", ids)

    async def DescribeFleets(self, params: Params, call: Call) -> Result:
        """There are none."""
        return await self._none(params, call, "Fleets", _Ids("FleetIds", "fleet ID", _FLEET))

    async def DescribeFleetInstances(self, params: Params, call: Call) -> Result:
        """There are no fleets."""
        only(params, call, "FleetId", *_LIST)

        def refuse() -> Result:
            raise NotFound(f"The fleet ID '{params['FleetId'][:64]}' does not exist", code=_FLEET, field="FleetId")

        return await self._shown(params, refuse)

    async def DescribeSpotFleetRequests(self, params: Params, call: Call) -> Result:
        """There are none: instances are on demand."""
        ids = _Ids("SpotFleetRequestIds", "spot fleet request ID", "InvalidSpotFleetRequestId.NotFound")
        return await self._none(params, call, "SpotFleetRequestConfigs", ids)

    async def DescribeSpotDatafeedSubscription(self, params: Params, call: Call) -> Result:
        """There is none."""
        only(params, call, "DryRun")

        def refuse() -> Result:
            raise NotFound("Spot datafeed subscription does not exist.", code="InvalidSpotDatafeed.NotFound")

        return await self._shown(params, refuse)

    async def DescribeReservedInstancesModifications(self, params: Params, call: Call) -> Result:
        """There are none: instances are on demand."""
        ids = _Ids(
            "ReservedInstancesModificationIds", "modification ID", "InvalidReservedInstancesModificationId.NotFound"
        )
        return await self._none(params, call, "ReservedInstancesModifications", ids)

    async def DescribeHostReservations(self, params: Params, call: Call) -> Result:
        """There are none: every host is shared."""
        ids = _Ids("HostReservationIdSet", "host reservation ID", "InvalidHostReservationId.NotFound")
        return await self._none(params, call, "HostReservationSet", ids)

    async def DescribeInstanceEventWindows(self, params: Params, call: Call) -> Result:
        """There are none: no events are scheduled."""
        ids = _Ids("InstanceEventWindowIds", "instance event window ID", "InvalidInstanceEventWindowID.NotFound")
        return await self._none(params, call, "InstanceEventWindows", ids)

    async def GetSerialConsoleAccessStatus(self, params: Params, call: Call) -> Result:
        """Not enabled: instances have no serial port."""
        only(params, call, "DryRun")
        return await self._shown(params, lambda: {"SerialConsoleAccessEnabled": False, "ManagedBy": "account"})
