"""Instance types: facts of the catalogue in EC2's words."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minicloud.aws.call import Call, only
from minicloud.aws.xml import Lasting
from minicloud.base.errors import InvalidParameterValue
from minicloud.compute import vpc
from minicloud.compute.aws.base import Noun, Params, Result, named_in
from minicloud.compute.aws.filters import Fields
from minicloud.compute.aws.shown import cpu_options
from minicloud.compute.catalog import Catalog, InstanceType

_FREE_TIER = ("t2.micro", "t3.micro")
_PAGE = 100  # EC2 API, DescribeInstanceTypes: MaxResults is 5 to 100


class TypeDoor(Noun):
    async def DescribeInstanceTypes(self, params: Params, call: Call) -> Result:
        """1,345 types, from AWS's own published facts."""
        only(params, call, "InstanceTypes", "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._types(params, call))

    def _types(self, params: Params, call: Call) -> Result:
        catalog = Catalog.load()
        found = named_in(params, "InstanceTypes", catalog.described)
        if found is None:
            found = list(catalog)
            params = {**params, "MaxResults": min(params.get("MaxResults") or _PAGE, _PAGE)}
        some, result = self._page(call, params, ((one.name, one) for one in found), _FIELDS)
        return {**result, "InstanceTypes": [shown(one.name) for one in some]}

    async def DescribeInstanceTypeOfferings(self, params: Params, call: Call) -> Result:
        """Every type is offered in every zone; whether there is room, a launch tells."""
        only(params, call, "LocationType", "Filters", "NextToken", "MaxResults", "DryRun")
        return await self._shown(params, lambda: self._offerings(params, call))

    def _offerings(self, params: Params, call: Call) -> Result:
        region, kind = call.caller.scope.region, params.get("LocationType", "region")
        zones = list(vpc.zones_of(self._state.zones(), region))
        places = {
            "region": [region],
            "availability-zone": zones,
            "availability-zone-id": [vpc.zone_id(one) for one in zones],
        }
        if kind not in places:
            raise InvalidParameterValue(f"Value ({kind[:64]}) for parameter locationType is invalid.")
        offers = [(one.name, place) for one in Catalog.load() for place in places[kind]]
        fields: Fields[tuple[str, str]] = {"instance-type": lambda one: one[0], "location": lambda one: one[1]}
        some, result = self._page(call, params, ((f"{name} {place}", (name, place)) for name, place in offers), fields)
        shown_ = [{"InstanceType": name, "LocationType": kind, "Location": place} for name, place in some]
        return {**result, "InstanceTypeOfferings": shown_}


_FIELDS: Fields[InstanceType] = {
    "auto-recovery-supported": lambda one: False,
    "bare-metal": lambda one: one.bare_metal,
    "burstable-performance-supported": lambda one: one.burstable,
    "current-generation": lambda one: one.current_generation,
    "dedicated-hosts-supported": lambda one: one.dedicated_hosts,
    "ebs-info.ebs-optimized-support": lambda one: "default",
    "ebs-info.encryption-support": lambda one: "unsupported",
    "free-tier-eligible": lambda one: one.name in _FREE_TIER,
    "hibernation-supported": lambda one: False,
    "hypervisor": lambda one: "" if one.bare_metal else "nitro",
    "instance-storage-info.total-size-in-gb": lambda one: str(one.local_storage_gb),
    "instance-storage-supported": lambda one: one.local_storage_gb > 0,
    "instance-type": lambda one: one.name,
    "memory-info.size-in-mib": lambda one: str(one.memory_mib),
    "network-info.ena-support": lambda one: "supported",
    "processor-info.supported-architecture": lambda one: one.arch,
    "supported-boot-mode": lambda one: "legacy-bios",
    "supported-root-device-type": lambda one: "ebs",
    "supported-usage-class": lambda one: _usage(one),
    "supported-virtualization-type": lambda one: "hvm",
    "vcpu-info.default-cores": lambda one: str(cpu_options(one.vcpus, one.arch)["CoreCount"]),
    "vcpu-info.default-threads-per-core": lambda one: str(cpu_options(one.vcpus, one.arch)["ThreadsPerCore"]),
    "vcpu-info.default-vcpus": lambda one: str(one.vcpus),
}


def _usage(one: InstanceType) -> list[str]:
    return ["on-demand", "spot"] if one.spot else ["on-demand"]


@lru_cache(maxsize=2048)
def shown(name: str) -> Result:
    """One type; made once, as it never changes. Not to be changed by who gets it."""
    one = Catalog.load().get(name)
    cpu = cpu_options(one.vcpus, one.arch)
    gbps = f"{one.network_gbps:g} Gigabit"
    info: dict[str, Any] = {
        "InstanceType": one.name,
        "CurrentGeneration": one.current_generation,
        "FreeTierEligible": one.name in _FREE_TIER,
        "SupportedUsageClasses": _usage(one),
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": one.bare_metal,
        "ProcessorInfo": {"SupportedArchitectures": [one.arch]},
        "VCpuInfo": {
            "DefaultVCpus": one.vcpus,
            "DefaultCores": cpu["CoreCount"],
            "DefaultThreadsPerCore": cpu["ThreadsPerCore"],
            "ValidCores": [cpu["CoreCount"]],
            "ValidThreadsPerCore": [cpu["ThreadsPerCore"]],
        },
        "MemoryInfo": {"SizeInMiB": one.memory_mib},
        "InstanceStorageSupported": one.local_storage_gb > 0,
        "EbsInfo": {"EbsOptimizedSupport": "default", "EncryptionSupport": "unsupported", "NvmeSupport": "unsupported"},
        "NetworkInfo": {
            "NetworkPerformance": gbps,
            "MaximumNetworkInterfaces": 1,
            "MaximumNetworkCards": 1,
            "DefaultNetworkCardIndex": 0,
            "NetworkCards": [
                {
                    "NetworkCardIndex": 0,
                    "NetworkPerformance": gbps,
                    "MaximumNetworkInterfaces": 1,
                    "BaselineBandwidthInGbps": one.network_gbps,
                }
            ],
            "Ipv4AddressesPerInterface": 1,
            "Ipv6AddressesPerInterface": 0,
            "Ipv6Supported": False,
            "EnaSupport": "supported",
            "EfaSupported": False,
        },
        "PlacementGroupInfo": {"SupportedStrategies": ["cluster", "partition", "spread"]},
        "HibernationSupported": False,
        "BurstablePerformanceSupported": one.burstable,
        "DedicatedHostsSupported": one.dedicated_hosts,
        "AutoRecoverySupported": False,
        "SupportedBootModes": ["legacy-bios"],
    }
    if one.clock_ghz:
        info["ProcessorInfo"]["SustainedClockSpeedInGhz"] = one.clock_ghz
    if not one.bare_metal:
        info["Hypervisor"] = "nitro"
    if one.local_storage_gb:
        info["InstanceStorageInfo"] = {"TotalSizeInGB": one.local_storage_gb}
    if one.gpus:
        info["GpuInfo"] = _gpus(one)
    return Lasting(info)


def _gpus(one: InstanceType) -> Result:
    count = max(int(one.gpus), 1)
    each = {
        "Count": count,
        "Name": one.gpu_name,
        "Manufacturer": "AMD" if one.gpu_name.startswith("Radeon") else "NVIDIA",
    }
    return {
        "Gpus": [{**each, "MemoryInfo": {"SizeInMiB": one.gpu_memory_mib // count}}],
        "TotalGpuMemoryInMiB": one.gpu_memory_mib,
    }
