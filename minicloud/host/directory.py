"""Who is on this host, for the doors beside the agent: streams into guests (by id), metadata (by address).

The network tells who gets which address and when; what a guest is comes from the agent's records, so options that
change while it runs (tags, http-tokens) show at once. Where guests share the host's network each one gets a metadata
socket on its own address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass, field

from minicloud.base.errors import NotFound
from minicloud.host.guest_rpc import GuestAccess
from minicloud.host.guests import Guests, spec_of
from minicloud.host.imds import Imds
from minicloud.host.metadata import GuestFacts
from minicloud.host.places import Places
from minicloud.sandbox.network import LOOPBACK, Endpoint, GuestNetwork

log = logging.getLogger("minicloud.host.directory")


@dataclass(slots=True)
class Directory:
    """Implements guest_rpc.GuestLookup and imds.GuestDirectory. `guests` is plugged in once the agent is made."""

    places: Places
    guests: Guests | None = None
    _addresses: dict[str, str] = field(default_factory=dict)
    _homes: dict[str, str] = field(default_factory=dict)

    async def find(self, instance_id: str) -> GuestAccess:
        """Raises NotFound."""
        assert self.guests is not None
        record = self.guests.find(instance_id)
        path = self.places.init_socket(record) if record.live else None
        return GuestAccess(self.places.console(instance_id), path)

    def by_address(self, address: str) -> GuestFacts | None:
        instance_id = self._addresses.get(address)
        return None if instance_id is None else self.by_id(instance_id)

    def by_id(self, instance_id: str) -> GuestFacts | None:
        assert self.guests is not None
        with contextlib.suppress(NotFound):
            record = self.guests.find(instance_id)
            return GuestFacts(spec_of(record), record.private_ip)
        return None

    def connected(self, endpoint: Endpoint) -> None:
        self._addresses[endpoint.address] = endpoint.instance_id
        self._homes[endpoint.instance_id] = endpoint.address

    def released(self, instance_id: str) -> None:
        address = self._homes.pop(instance_id, "")
        if self._addresses.get(address) == instance_id:
            del self._addresses[address]


class MeteredNetwork:
    """A guest network whose comings and goings the directory and the metadata service hear of. Any thread may call."""

    def __init__(self, network: GuestNetwork, directory: Directory, imds: Imds, imds_port: int) -> None:
        self._network = network
        self._directory = directory
        self._imds = imds
        self._imds_port = imds_port
        self._loop = asyncio.get_running_loop()
        self._serving: set[str] = set()
        self.driver = network.driver
        self.warnings = network.warnings

    def reserve(self) -> str | None:
        return self._network.reserve()

    def allocate(
        self, account: str, instance_id: str, address: str | None = None, netns: str | None = None
    ) -> Endpoint:
        endpoint = self._network.allocate(account, instance_id, address, netns)
        self._loop.call_soon_threadsafe(self._connected, endpoint)
        return endpoint

    def release(self, name: str) -> None:
        self._network.release(name)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the services with it
            self._loop.call_soon_threadsafe(self._released, name)

    def existing(self) -> list[Endpoint]:
        return self._network.existing()

    def cleanup_all(self) -> None:
        self._network.cleanup_all()

    def close(self) -> None:
        self._network.close()

    def _connected(self, endpoint: Endpoint) -> None:
        self._directory.connected(endpoint)
        if self.driver != LOOPBACK or endpoint.instance_id in self._serving:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((endpoint.address, self._imds_port))
        except OSError as error:
            sock.close()
            log.warning("no metadata service for %s at %s: %s", endpoint.instance_id, endpoint.address, error)
            return
        self._serving.add(endpoint.instance_id)
        serving = asyncio.ensure_future(self._imds.serve(sock, endpoint.instance_id))
        serving.add_done_callback(_log_failure)

    def _released(self, instance_id: str) -> None:
        self._directory.released(instance_id)
        self._serving.discard(instance_id)
        self._imds.stop(instance_id)


def _log_failure(serving: asyncio.Future[asyncio.Server]) -> None:
    if not serving.cancelled() and (error := serving.exception()) is not None:
        log.error("a metadata service could not be opened", exc_info=error)
