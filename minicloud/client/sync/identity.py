"""Made from `minicloud/client/identity.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minicloud.client.identity import AsyncIdentity
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Identity:
    """Who may do what, and how much of it. `account=''` is the caller's own; administrators may name another."""

    _inner: AsyncIdentity

    def __init__(self, inner: AsyncIdentity, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def whoami(self) -> models.CallerIdentity:
        """Who the cloud takes this client for. Raises Unauthenticated."""
        return self._loop.run(self._inner.whoami())

    def create_account(self, name: str = "", *, account: str = "") -> models.Account:
        """account: 12 digits; '': chosen. Administrators only. Raises AlreadyExists, AccessDenied."""
        return self._loop.run(self._inner.create_account(name, account=account))

    def list_accounts(self, *, page_size: int = 100) -> Iterator[models.Account]:
        """Administrators only."""
        return self._loop.iterate(self._inner.list_accounts(page_size=page_size))

    def create_access_key(self, *, account: str = "", admin: bool = False) -> models.AccessKeySecret:
        """The secret is in this answer only."""
        return self._loop.run(self._inner.create_access_key(account=account, admin=admin))

    def list_access_keys(self, *, account: str = "", page_size: int = 100) -> Iterator[models.AccessKey]:
        return self._loop.iterate(self._inner.list_access_keys(account=account, page_size=page_size))

    def disable_access_key(self, access_key_id: str) -> models.AccessKey:
        return self._loop.run(self._inner.disable_access_key(access_key_id))

    def enable_access_key(self, access_key_id: str) -> models.AccessKey:
        return self._loop.run(self._inner.enable_access_key(access_key_id))

    def delete_access_key(self, access_key_id: str) -> models.AccessKey:
        """Raises NotFound."""
        return self._loop.run(self._inner.delete_access_key(access_key_id))

    def list_quotas(self, *, account: str = "") -> tuple[models.Quota, ...]:
        return self._loop.run(self._inner.list_quotas(account=account))

    def set_quota(self, name: str, limit: float, *, account: str = "") -> models.Quota:
        """name: instances | vcpus. Administrators only."""
        return self._loop.run(self._inner.set_quota(name, limit, account=account))
