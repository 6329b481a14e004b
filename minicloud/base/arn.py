"""Who owns a thing and where: account, region, and the name that carries both."""

from __future__ import annotations

import re
from dataclasses import dataclass

from minicloud.base.errors import InvalidParameterValue

DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"
ACCOUNT = re.compile(r"^[0-9]{12}\Z")
REGION = re.compile(r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}\Z")


@dataclass(frozen=True, slots=True)
class Scope:
    """The account and the region that a resource lives in. Another scope's resources do not exist for a caller."""

    account: str = DEFAULT_ACCOUNT
    region: str = DEFAULT_REGION

    def key(self, *parts: str) -> str:
        """A store key within this scope."""
        return "/".join((self.account, self.region, *parts))

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the scope of the request and the access key it came with (empty: authentication is off).

    `service`: the process of the cloud that asks in that scope's stead; empty for users.
    `arn`: who exactly it is, where that is not the account itself: an assumed role, a federated user.
    """

    scope: Scope
    access_key_id: str = ""
    admin: bool = False
    service: str = ""
    arn: str = ""


@dataclass(frozen=True, slots=True)
class Arn:
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Raises InvalidParameterValue."""
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or parts[1] != "aws" or not parts[2] or not parts[5]:
            raise InvalidParameterValue(f"'{text}' is not an ARN", field="arn")
        return cls(parts[2], parts[3], parts[4], parts[5])

    def __str__(self) -> str:
        return f"arn:aws:{self.service}:{self.region}:{self.account}:{self.resource}"


def check_region(region: str) -> str:
    """Any name of AWS's form is a region here. Raises InvalidParameterValue."""
    if not REGION.match(region):
        raise InvalidParameterValue(f"'{region}' is not a region name", field="region")
    return region
