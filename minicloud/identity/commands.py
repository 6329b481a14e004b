"""What the identity machine can be asked, as values. Doors build these from the wire; the machine validates them."""

from __future__ import annotations

from dataclasses import dataclass, field

from minicloud.base.arn import Caller


@dataclass(frozen=True, slots=True)
class CreateAccount:
    """`account`: 12 digits, or empty: chosen."""

    caller: Caller
    account: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class CreateAccessKey:
    """`account` empty: the caller's. `user`: an IAM user of it, empty: the account's own."""

    caller: Caller
    account: str = ""
    admin: bool = False
    user: str = ""


@dataclass(frozen=True, slots=True)
class InstallAdminKey:
    """A key that was made outside and written down first; only the cloud itself asks for this, at its start."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetAccessKeyStatus:
    caller: Caller
    id: str
    status: str


@dataclass(frozen=True, slots=True)
class DeleteAccessKey:
    caller: Caller
    id: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    caller: Caller
    account: str
    name: str
    limit: float
