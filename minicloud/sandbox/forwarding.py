"""What all clouds on a machine share: one lock for choosing subnets, and the switch `net.ipv4.ip_forward`.

The switch is turned on for guests, and back to what it was by the last cloud that leaves. Its former value is kept in a
file beside the lock, in a directory that does not survive a reboot, as the switch itself does not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minicloud.sandbox import nftables

SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
TABLE_PREFIX = "minicloud_"


@contextmanager
def machine_lock(directory: Path) -> Iterator[None]:
    """One at a time on this machine. The lock goes with the process that holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    fd = os.open(directory / "network.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def switch_on(directory: Path, nft: str) -> list[str]:
    """Lets the kernel forward packets. Returns warnings: what keeps guests from the outside all the same."""
    warnings: list[str] = []
    saved = directory / "ip_forward"
    with machine_lock(directory):
        if SWITCH.read_text().strip() == "0":
            saved.write_text("0")  # first: a crash in between must not forget it
            try:
                SWITCH.write_text("1")
            except OSError as error:
                saved.unlink()
                warnings.append(f"guests reach no outside: ip_forward cannot be set ({error.strerror})")
    refusing = [name for name in nftables.forwarding_refused(nft) if TABLE_PREFIX not in name]
    if refusing:
        warnings.append(f"guests may reach no outside: the host's firewall drops forwarded packets ({refusing[0]})")
    return warnings


def switch_off(directory: Path, nft: str) -> None:
    """Puts the switch back if no cloud is left on this machine that needs it."""
    saved = directory / "ip_forward"
    with machine_lock(directory):
        if saved.exists() and not any(name.startswith(TABLE_PREFIX) for name in nftables.tables(nft)):
            SWITCH.write_text(saved.read_text())
            saved.unlink()
