"""How guests are connected: what both drivers promise, and the choice between them.

bridge    a network namespace and an address of its own for every guest; a bridge for every account (bridge.py)
loopback  the host's network; an address in 127/8 that a guest is asked to keep to (loopback.py)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from minicloud.base.errors import InvalidParameterValue
from minicloud.sandbox import netns
from minicloud.sandbox.nftables import Service

BRIDGE = "bridge"
LOOPBACK = "loopback"
MACHINE_DIR = Path("/run/minicloud")  # what all clouds on this machine share: a lock, the saved ip_forward
_WORD = re.compile(r"^[A-Za-z0-9._-]{1,48}$")


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One host of one cloud. Names go into interface aliases, so they are plain words of at most 48 characters."""

    cloud: str
    host: str
    services: tuple[Service, ...] = ()
    nft: str = "nft"
    spare_count: int = 8  # namespaces kept ready; one costs 4 ms to make and some 100 KiB of kernel memory
    machine_dir: Path = field(default=MACHINE_DIR)

    def __post_init__(self) -> None:
        checked_word("cloud", self.cloud)
        checked_word("host", self.host)
        if self.spare_count < 0:
            raise InvalidParameterValue("spare_count must not be negative", field="spare_count")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A guest's place in the network. `env` tells the guest where the cloud's services are, `names` (each with its
    address) is for its /etc/hosts.

    `netns` is the namespace's name and also that of the host's end of the guest's cable, where bytes are counted.
    """

    account: str
    instance_id: str
    address: str
    gateway: str
    netns: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def netns_path(self) -> str | None:
        return None if self.netns is None else netns.path_of(self.netns)


class GuestNetwork(Protocol):
    """Blocking calls of some milliseconds; safe from any thread. All are idempotent.

    Errors: Unavailable (the kernel or nft refused), InsufficientCapacity (no address left), InvalidParameterValue.
    """

    driver: str
    warnings: tuple[str, ...]

    def reserve(self) -> str | None:
        """The name of a namespace for a guest that starts before it is anybody's; None: this driver has none."""
        ...

    def allocate(
        self, account: str, instance_id: str, address: str | None = None, netns: str | None = None
    ) -> Endpoint:
        """A place for the guest, the same again for the same instance. `address`: a certain one, or an error.

        `netns`: a reserved one; not used where the instance has a place already.
        """
        ...

    def release(self, name: str) -> None:
        """An instance's place, or a namespace that was only reserved."""
        ...

    def existing(self) -> list[Endpoint]:
        """Every guest that has a place, also those of an agent before this one."""
        ...

    def cleanup_all(self) -> None:
        """Takes everything of this cloud and host off the machine."""
        ...

    def close(self) -> None:
        """Ends threads and sockets; guests stay connected."""
        ...


def open_network(config: NetworkConfig, driver: str) -> GuestNetwork:
    """The network of one host, with what an agent before this one left in it.

    Raises InvalidParameterValue for a driver that there is not; Unavailable where `bridge` cannot work.
    """
    if driver == BRIDGE:
        from minicloud.sandbox.bridge import BridgeNetwork

        return BridgeNetwork(config)
    if driver == LOOPBACK:
        from minicloud.sandbox.loopback import LoopbackNetwork

        return LoopbackNetwork(config)
    raise InvalidParameterValue(f"no network driver {driver!r}: bridge or loopback", field="driver")


def checked_word(name: str, text: str) -> str:
    """Raises InvalidParameterValue for what could not stand in an interface's alias."""
    if not _WORD.match(text):
        raise InvalidParameterValue(f"{name} must be 1 to 48 letters, digits, dots or dashes: {text!r}", field=name)
    return text


def same_place(known: Endpoint, address: str | None) -> Endpoint:
    """The place that an instance has already. Raises InvalidParameterValue if another address is asked for."""
    if address not in (None, known.address):
        raise InvalidParameterValue(
            f"{known.instance_id} has the address {known.address}; release it before it gets {address}", field="address"
        )
    return known
