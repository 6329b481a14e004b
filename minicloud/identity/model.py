"""Accounts, access keys and quotas as the slice's callers see them. No secret is in any of them but NewAccessKey."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minicloud.base import limits

ACTIVE = "Active"
INACTIVE = "Inactive"
QUOTA_DEFAULTS: dict[str, float] = {"instances": limits.QUOTA_INSTANCES, "vcpus": limits.QUOTA_VCPUS}


@dataclass(frozen=True, slots=True)
class Account:
    account: str
    name: str
    created_time: float


@dataclass(frozen=True, slots=True)
class AccessKey:
    id: str
    account: str
    status: str
    admin: bool
    created_time: float
    user: str = ""

    @classmethod
    def of(cls, body: dict[str, Any]) -> AccessKey:
        return cls(
            body["id"], body["account"], body["status"], body["admin"], body["created_time"], body.get("user", "")
        )


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """The one time that a secret is shown."""

    key: AccessKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quota:
    account: str
    name: str
    limit: float
    used: float = 0.0


@dataclass(frozen=True, slots=True)
class Page:
    items: tuple[Any, ...]
    next_token: str
