"""IdentityService on the wire: translation, no decisions."""

from __future__ import annotations

from minicloud.base.arn import Caller
from minicloud.identity import commands as ask
from minicloud.identity.model import AccessKey, Account, Quota
from minicloud.identity.service import Identity
from minicloud.wire import identity_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["IdentityService"]


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
