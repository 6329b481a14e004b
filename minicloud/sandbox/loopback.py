"""The network driver that needs no privilege: every guest has an address of 127.64.0.0/10 in the host's own network.

Nothing enforces that a guest keeps to its address, nothing separates guests or protects the host's services from them:
`WARNING` is shown wherever this driver is used. A service that has an address of its own under the bridge driver (the
metadata service) is expected at the guest's own address here: by that address the agent knows who asks.
"""

from __future__ import annotations

import threading
from ipaddress import IPv4Address

from minicloud.sandbox import subnets
from minicloud.sandbox.network import LOOPBACK, Endpoint, NetworkConfig, checked_word, same_place

WARNING = (
    "guests share this machine's network: each is given an address in 127/8 to bind to, but can bind to others, and "
    "reach every local service; do not run code that you do not trust"
)


class LoopbackNetwork:
    """Addresses in memory: after a restart the agent allocates again, with the addresses that it knows."""

    driver = LOOPBACK
    warnings: tuple[str, ...] = (WARNING,)

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._guests: dict[str, Endpoint] = {}
        self._lock = threading.Lock()

    def reserve(self) -> str | None:
        return None

    def allocate(
        self, account: str, instance_id: str, address: str | None = None, netns: str | None = None
    ) -> Endpoint:
        checked_word("account", account)
        checked_word("instance_id", instance_id)
        with self._lock:
            known = self._guests.get(instance_id)
            if known is not None:
                return same_place(known, address)
            used = {IPv4Address(guest.address) for guest in self._guests.values()}
            if address is None:
                chosen = subnets.choose_address(subnets.LOOPBACK_POOL, self._seed(account, instance_id), used)
            else:
                chosen = subnets.checked_address(subnets.LOOPBACK_POOL, address, used)
            endpoint = Endpoint(account, instance_id, str(chosen), "127.0.0.1", None, self._env(str(chosen)))
            self._guests[instance_id] = endpoint
            return endpoint

    def release(self, name: str) -> None:
        with self._lock:
            self._guests.pop(name, None)

    def existing(self) -> list[Endpoint]:
        with self._lock:
            return list(self._guests.values())

    def cleanup_all(self) -> None:
        with self._lock:
            self._guests.clear()

    def close(self) -> None:
        """Holds neither threads nor sockets."""

    def _seed(self, account: str, instance_id: str) -> str:
        """Clouds on one machine share 127/8: the cloud is part of the choice."""
        return f"{self._config.cloud}/{account}/{instance_id}"

    def _env(self, address: str) -> dict[str, str]:
        services = [service for service in self._config.services if service.env]
        return {
            service.env: service.url(address if service.address else service.target, service.target_port)
            for service in services
        }
