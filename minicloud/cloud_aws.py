"""The AWS doors of the control plane, plugged in: EC2 on compute."""

from __future__ import annotations

import time
from typing import Any

from minicloud.aws.call import Door
from minicloud.base.errors import NotFound
from minicloud.compute.aws.base import Ports
from minicloud.compute.aws.ec2 import Ec2


def control_doors(plane: Any) -> list[Door]:
    """For the control plane's gateway. `plane`: a cloud.ControlPlane."""
    ports = Ports(
        quotas=plane.identity_machine,
        page_secret=plane.derived("aws pages"),
        read_console=plane.read_console,
        profile_of=_no_profiles,
        delete_tar=plane.store.delete,
        wall=time.time,
    )
    return [Door("ec2", Ec2(plane.service, ports))]


def _no_profiles(_account: str, text: str) -> tuple[str, str]:
    raise NotFound(f"Instance Profile {text[:128]} cannot be found.", code="NoSuchEntity")
