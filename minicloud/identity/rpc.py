"""IdentityService on the wire: translation, no decisions. And KeyService: active access keys, for processes that verify
signatures. Secrets travel as they are stored: sealed under the cloud's own secret, which those processes have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from minicloud.base.arn import Caller
from minicloud.identity import commands as ask
from minicloud.identity.model import AccessKey, Account, Quota
from minicloud.identity.service import Identity
from minicloud.wire import fleet_pb2 as pb
from minicloud.wire import identity_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["IdentityService"]
KEYS = pb.DESCRIPTOR.services_by_name["KeyService"]
KEYS_AT_ONCE = 1_000


class IdentityRpc:
    """For `rpc.door.door(IdentityRpc(...), DESCRIPTOR, entry)`."""

    def __init__(self, identity: Identity, version: str) -> None:
        self._identity = identity
        self._version = version

    async def WhoAmI(self, _request: wire.WhoAmIRequest, caller: Caller) -> wire.WhoAmIResponse:
        return wire.WhoAmIResponse(
            account=caller.scope.account,
            region=caller.scope.region,
            access_key_id=caller.access_key_id,
            admin=caller.admin,
            version=self._version,
        )

    async def CreateAccount(self, request: wire.CreateAccountRequest, caller: Caller) -> wire.Account:
        return _account(await self._identity.submit(ask.CreateAccount(caller, request.account, request.name)))

    async def ListAccounts(self, request: wire.ListAccountsRequest, caller: Caller) -> wire.ListAccountsResponse:
        page = await self._identity.accounts(caller, request.page_size, request.page_token)
        return wire.ListAccountsResponse(accounts=map(_account, page.items), next_page_token=page.next_token)

    async def CreateAccessKey(self, request: wire.CreateAccessKeyRequest, caller: Caller) -> wire.AccessKeySecret:
        made = await self._identity.submit(ask.CreateAccessKey(caller, request.account, request.admin))
        return wire.AccessKeySecret(key=_key(made.key), secret=made.secret)

    async def ListAccessKeys(self, request: wire.ListAccessKeysRequest, caller: Caller) -> wire.ListAccessKeysResponse:
        page = await self._identity.keys(caller, request.account, request.page_size, request.page_token)
        return wire.ListAccessKeysResponse(keys=map(_key, page.items), next_page_token=page.next_token)

    async def SetAccessKeyStatus(self, request: wire.SetAccessKeyStatusRequest, caller: Caller) -> wire.AccessKey:
        return _key(await self._identity.submit(ask.SetAccessKeyStatus(caller, request.id, request.status)))

    async def DeleteAccessKey(self, request: wire.DeleteAccessKeyRequest, caller: Caller) -> wire.AccessKey:
        return _key(await self._identity.submit(ask.DeleteAccessKey(caller, request.id)))

    async def ListQuotas(self, request: wire.ListQuotasRequest, caller: Caller) -> wire.ListQuotasResponse:
        quotas = await self._identity.quotas(caller, request.account)
        return wire.ListQuotasResponse(quotas=map(_quota, quotas))

    async def SetQuota(self, request: wire.SetQuotaRequest, caller: Caller) -> wire.Quota:
        command = ask.SetQuota(caller, request.account, request.name, request.limit)
        return _quota(self._identity.with_used(await self._identity.submit(command)))


def _account(account: Account) -> wire.Account:
    return wire.Account(account=account.account, name=account.name, created_time=account.created_time)


def _key(key: AccessKey) -> wire.AccessKey:
    return wire.AccessKey(
        id=key.id, account=key.account, status=key.status, admin=key.admin, created_time=key.created_time
    )


def _quota(quota: Quota) -> wire.Quota:
    return wire.Quota(name=quota.name, limit=quota.limit, used=quota.used, account=quota.account)


class _News:
    """Ids of keys to say again."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._there = asyncio.Event()

    def changed(self, key_id: str) -> None:
        self._ids.add(key_id)
        self._there.set()

    async def take(self) -> set[str]:
        await self._there.wait()
        self._there.clear()
        ids, self._ids = self._ids, set()
        return ids


class KeyServicer:
    """For `rpc.door.door(KeyServicer(...), KEYS, entry)`; callers come from `rpc.fleet_auth`."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def FollowKeys(self, _request: pb.KeysAsked, _caller: str) -> AsyncIterator[pb.KeyChanges]:
        news = _News()
        self._identity.followers.add(news.changed)
        try:
            ids = await self._identity.shell.shown(self._identity.machine.active_keys)
            for start in range(0, len(ids), KEYS_AT_ONCE):
                yield await self._said(ids[start : start + KEYS_AT_ONCE])
            yield pb.KeyChanges(complete=True)
            while True:
                yield await self._said(await news.take())
        finally:
            self._identity.followers.discard(news.changed)

    async def _said(self, ids: Iterable[str]) -> pb.KeyChanges:
        """As it is on disk."""
        return await self._identity.shell.shown(lambda: self._changes(ids))

    def _changes(self, ids: Iterable[str]) -> pb.KeyChanges:
        changes = pb.KeyChanges()
        for key_id in ids:
            body = self._identity.machine.active_key(key_id)
            if body is None:
                changes.gone.append(key_id)
            else:
                changes.keys.add(id=key_id, account=body["account"], sealed=body["sealed"], admin=body["admin"])
        return changes
