"""The AWS doors of the control plane, plugged in: EC2 on compute, IAM and STS on identity."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from minicloud.aws.call import Door
from minicloud.compute.aws.base import Ports
from minicloud.compute.aws.ec2 import Ec2
from minicloud.identity.aws import sts
from minicloud.identity.aws.iam import Iam
from minicloud.identity.iam.model import Profile
from minicloud.identity.iam.tables import Tables, no_such


def control_doors(plane: Any) -> list[Door]:
    """For the control plane's gateway. `plane`: a cloud.ControlPlane."""
    ports = Ports(
        quotas=plane.identity_machine,
        page_secret=plane.derived("aws pages"),
        read_console=plane.read_console,
        profile_of=Profiles(plane.identity_machine.iam),
        delete_tar=plane.store.delete,
        wall=time.time,
    )
    tokens = sts.Ports(plane.secret, random.SystemRandom(), time.time)
    return [
        Door("ec2", Ec2(plane.service, ports)),
        Door("iam", Iam(plane.identity)),
        Door("sts", sts.Sts(plane.identity, tokens)),
    ]


@dataclass(frozen=True, slots=True)
class Profiles:
    """Instance profiles, as EC2 asks for them."""

    iam: Tables

    def __call__(self, account: str, text: str) -> tuple[str, str]:
        """ARN and id, by name or ARN. Raises NotFound."""
        profile = self.iam.find(Profile, account, text.rpartition("/")[2])
        if text.startswith("arn:") and profile.arn != text:
            raise no_such(f"Instance Profile {text[:256]} cannot be found.")
        return profile.arn, profile.id
