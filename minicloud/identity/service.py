"""Identity at work: the machine behind its shell, listings in pages, and the first administrator's key."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minicloud.base import pages
from minicloud.base.arn import DEFAULT_ACCOUNT, Caller
from minicloud.base.errors import InvalidParameterValue
from minicloud.base.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from minicloud.identity.commands import InstallAdminKey
from minicloud.identity.machine import IdentityMachine, new_key
from minicloud.identity.model import Page, Quota
from minicloud.identity.ports import Shell, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What other slices and the doors use. `authenticate` and `limit` are `machine`'s, in memory."""

    machine: IdentityMachine
    shell: Shell
    usage: Usage
    page_secret: bytes
    followers: set[Callable[[str], None]] = field(default_factory=set)  # told of access keys that changed

    async def submit(self, command: Any) -> Any:
        """One of identity.commands; its reply. Raises as IdentityMachine.decide and the shell do."""
        try:
            return await self.shell.submit(command)
        finally:
            for key_id in self.machine.take_touched():
                for follow in self.followers:
                    follow(key_id)

    async def accounts(self, caller: Caller, size: int, token: str) -> Page:
        """Raises AccessDenied, InvalidPageToken, InvalidParameterValue."""

        def look() -> Page:
            keys, after = self._cut(caller, "ListAccounts", self.machine.account_ids(caller), (size, token))
            return Page(tuple(self.machine.account(key) for key in keys), after)

        return await self.shell.shown(look)

    async def keys(self, caller: Caller, account: str, size: int, token: str) -> Page:
        """Of one account (empty: the caller's). Raises AccessDenied, NotFound, InvalidPageToken."""

        def look() -> Page:
            ids = self.machine.key_ids(caller, account)
            keys, after = self._cut(caller, f"ListAccessKeys/{account}", ids, (size, token))
            return Page(tuple(self.machine.key(key) for key in keys), after)

        return await self.shell.shown(look)

    async def quotas(self, caller: Caller, account: str) -> list[Quota]:
        """With what is used of each. Raises AccessDenied, NotFound."""
        return await self.shell.shown(lambda: [self.with_used(one) for one in self.machine.quotas(caller, account)])

    def with_used(self, quota: Quota) -> Quota:
        return replace(quota, used=self.usage.used(quota.account).get(quota.name, 0.0))

    def _cut(
        self, caller: Caller, operation: str, keys: Sequence[str], page: tuple[int, str]
    ) -> tuple[Sequence[str], str]:
        size, token = page
        if size > PAGE_SIZE_MAX:
            raise InvalidParameterValue(f"page size must be at most {PAGE_SIZE_MAX}, not {size}", field="page_size")
        context = f"{caller.scope.account}/{operation}"
        return pages.cut(self.page_secret, context, keys, token, size or PAGE_SIZE_DEFAULT)


async def ensure_admin(identity: Identity, rand: random.Random, write: Callable[[bytes], None]) -> bool:
    """An administrator can get in: where there is no such key, make one. True: one was made.

    `write` keeps the credentials for the user (mode 0600). They are written before the key is made durable, so that a
    crash in between leaves a file that opens nothing, which the next start replaces, and never a key nobody knows.
    `rand` draws from the operating system.
    """
    for key_id in identity.machine.unreadable():
        log.error("the secret of access key %s cannot be opened: secret.key is not the one it was made under", key_id)
    if identity.machine.has_admin_key():
        return False
    key_id, secret = new_key(rand)
    credentials = {"account": DEFAULT_ACCOUNT, "access_key_id": key_id, "secret_access_key": secret}
    write(json.dumps(credentials, indent=1).encode() + b"\n")
    await identity.submit(InstallAdminKey(key_id, secret))
    return True
