"""Where a host keeps the things of its guests. Pure paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minicloud.host.records import GuestRecord

INIT_SOCKET = "init.sock"
BOOT_DOCUMENT = "boot.json"
CA_FILE = "ca.pem"


@dataclass(frozen=True, slots=True)
class Places:
    """host_dir: <data>/hosts/<name>, durable. socket_dir: short, gone after `down`; both mode 0700."""

    host_dir: Path
    socket_dir: Path

    @property
    def disks(self) -> Path:
        return self.host_dir / "disks"

    def disk(self, instance_id: str) -> Path:
        """All that belongs to an instance as long as it is not terminated."""
        return self.disks / instance_id

    def root(self, instance_id: str) -> Path:
        return self.disk(instance_id) / "root"

    def console(self, instance_id: str) -> Path:
        return self.disk(instance_id) / "console.log"

    @property
    def controls(self) -> Path:
        return self.socket_dir / "g"

    def control(self, instance_id: str) -> Path:
        """Shared with the guest: its init's socket, its boot document, the cloud's CA."""
        return self.controls / instance_id

    def init_socket(self, record: GuestRecord) -> Path:
        return self.control(record.instance_id) / INIT_SOCKET
