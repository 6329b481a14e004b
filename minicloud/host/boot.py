"""What a guest boots with: the document its init reads, and the fast way to start that init.

The schema of the document is described where it is read, in `minicloud_workers.init`.
"""

from __future__ import annotations

import compileall
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicloud_workers import protocol

from minicloud.base.errors import CloudError
from minicloud.host import user_data
from minicloud.wire.fleet_pb2 import GuestSpec

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class BootPlace:
    """Where a guest runs. `root`: its root directory as its init sees it; `isolated`: it has namespaces of its own."""

    private_ip: str
    root: str = "/"
    isolated: bool = True


def boot_document(spec: GuestSpec, env: Mapping[str, str], place: BootPlace) -> dict[str, Any]:
    """The content of boot.json. `env`: for every process of the guest, as AWS_EC2_METADATA_SERVICE_ENDPOINT."""
    return {
        "instance_id": spec.instance_id,
        "hostname": hostname(spec),
        "isolated": place.isolated,
        "root": place.root,
        "addresses": _addresses(place.private_ip),
        "env": dict(env),
        "public_key": spec.public_key,
        "user_data": user_data.boot_form(spec.user_data),
    }


def hostname(spec: GuestSpec) -> str:
    """What the guest is called: the name that its cloud-config asks for, else the cloud's. For the sandbox too."""
    try:
        data = user_data.parse(spec.user_data)
    except CloudError:
        return spec.hostname
    wanted = data.hostname if isinstance(data, user_data.CloudConfig) else ""
    return wanted or spec.hostname


def write_boot_document(control_dir: Path, document: Mapping[str, Any]) -> None:
    """Into a fresh control directory, before the start. Raises OSError."""
    fd = os.open(control_dir / protocol.BOOT_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(document, file)


def init_argv(python: str, workers: str) -> tuple[str, ...]:
    """Start init in 20 ms. `python`, `workers`: as the guest sees them (`GuestLayout`).

    Importing finds the compiled module, running it with -m or runpy would compile it again, and costs runpy's imports.
    """
    code = f"import sys; sys.path.insert(0, {workers!r}); from minicloud_workers.init import main; main()"
    return (python, "-I", "-S", "-c", code)


def compile_workers(package: Path) -> bool:
    """Compile what guests import, since they see it read-only. Once at the start of a host agent. False: could not."""
    return bool(compileall.compile_dir(package, quiet=2, maxlevels=1))


def _addresses(private_ip: str) -> list[str]:
    """Where forwarded connections go. On the loopback network a guest's own address only: 127.0.0.1 is the host's."""
    if private_ip and ipaddress.IPv4Address(private_ip) in _LOOPBACK:
        return [private_ip]
    return ["127.0.0.1", private_ip] if private_ip else ["127.0.0.1"]
