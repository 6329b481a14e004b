"""Takes what guests of a whole host stood in off the machine: bridges, namespaces, packet filters, control groups.

For the end of a cloud, after its processes have ended; disks are not touched. Idempotent.
"""

from __future__ import annotations

from minicloud.base.errors import CloudError
from minicloud.sandbox import nftables
from minicloud.sandbox.cgroup import Cgroups
from minicloud.sandbox.network import BRIDGE, NetworkConfig, open_network

CGROUP_PREFIX = "minicloud-"


def cgroup_prefix(cloud_id: str, host_name: str) -> str:
    """The control groups of one host, below the roots of the hierarchy."""
    return f"{CGROUP_PREFIX}{cloud_id}/{host_name}"


def function_host(host_name: str) -> str:
    """What a host's process for environments of functions is called, in logs and as control group."""
    return f"function-host-{host_name}"


def sweep_groups(cloud_id: str, name: str) -> list[str]:
    """Control groups of a host, or of a process that has environments of functions. What could not be removed."""
    try:
        Cgroups.detect().remove(cgroup_prefix(cloud_id, name))
    except (CloudError, OSError) as error:
        return [f"control groups of {name}: {error}"]
    return []


def sweep_host(cloud_id: str, host_name: str) -> list[str]:
    """What could not be removed, one line each."""
    left = [*sweep_groups(cloud_id, host_name), *sweep_groups(cloud_id, function_host(host_name))]
    nft = nftables.program()
    if nft is None:
        return left  # without it there was no bridge
    try:
        network = open_network(NetworkConfig(cloud_id, host_name, nft=nft, spare_count=0), BRIDGE)
    except (CloudError, OSError, ImportError):
        return left  # no privilege: nothing can have been made
    try:
        network.cleanup_all()
    except (CloudError, OSError) as error:
        left.append(f"network of {host_name}: {error}")
    finally:
        network.close()
    return left
