"""Accounts, access keys and quotas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import identity_pb2
else:
    models = lazy("minicloud.client.models")
    identity_pb2 = lazy("minicloud.wire.identity_pb2")

_SERVICE = "IdentityService"


class AsyncIdentity:
    """Who may do what, and how much of it. `account=''` is the caller's own; administrators may name another."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def whoami(self) -> models.CallerIdentity:
        """Who the cloud takes this client for. Raises Unauthenticated."""
        request = identity_pb2.WhoAmIRequest()
        reply = await self._transport.call(f"{_SERVICE}/WhoAmI", request, identity_pb2.WhoAmIResponse)
        return to_model(models.CallerIdentity, reply)

    async def create_account(self, name: str = "", *, account: str = "") -> models.Account:
        """account: 12 digits; '': chosen. Administrators only. Raises AlreadyExists, AccessDenied."""
        request = identity_pb2.CreateAccountRequest(account=account, name=name)
        reply = await self._transport.call(f"{_SERVICE}/CreateAccount", request, identity_pb2.Account, idempotent=False)
        return to_model(models.Account, reply)

    async def list_accounts(self, *, page_size: int = 100) -> AsyncIterator[models.Account]:
        """Administrators only."""
        request = identity_pb2.ListAccountsRequest(page_size=page_size)
        while True:
            reply = await self._transport.call(f"{_SERVICE}/ListAccounts", request, identity_pb2.ListAccountsResponse)
            for item in reply.accounts:
                yield to_model(models.Account, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def create_access_key(self, *, account: str = "", admin: bool = False) -> models.AccessKeySecret:
        """The secret is in this answer only."""
        request = identity_pb2.CreateAccessKeyRequest(account=account, admin=admin)
        reply = await self._transport.call(
            f"{_SERVICE}/CreateAccessKey", request, identity_pb2.AccessKeySecret, idempotent=False
        )
        return to_model(models.AccessKeySecret, reply)

    async def list_access_keys(self, *, account: str = "", page_size: int = 100) -> AsyncIterator[models.AccessKey]:
        request = identity_pb2.ListAccessKeysRequest(account=account, page_size=page_size)
        while True:
            reply = await self._transport.call(
                f"{_SERVICE}/ListAccessKeys", request, identity_pb2.ListAccessKeysResponse
            )
            for item in reply.keys:
                yield to_model(models.AccessKey, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def disable_access_key(self, access_key_id: str) -> models.AccessKey:
        return await self._set_status(access_key_id, "Inactive")

    async def enable_access_key(self, access_key_id: str) -> models.AccessKey:
        return await self._set_status(access_key_id, "Active")

    async def delete_access_key(self, access_key_id: str) -> models.AccessKey:
        """Raises NotFound."""
        request = identity_pb2.DeleteAccessKeyRequest(id=access_key_id)
        reply = await self._transport.call(
            f"{_SERVICE}/DeleteAccessKey", request, identity_pb2.AccessKey, idempotent=False
        )
        return to_model(models.AccessKey, reply)

    async def list_quotas(self, *, account: str = "") -> tuple[models.Quota, ...]:
        request = identity_pb2.ListQuotasRequest(account=account)
        reply = await self._transport.call(f"{_SERVICE}/ListQuotas", request, identity_pb2.ListQuotasResponse)
        return tuple(to_model(models.Quota, item) for item in reply.quotas)

    async def set_quota(self, name: str, limit: float, *, account: str = "") -> models.Quota:
        """name: instances | vcpus. Administrators only."""
        whose = account or (await self.whoami()).account
        request = identity_pb2.SetQuotaRequest(account=whose, name=name, limit=limit)
        return to_model(models.Quota, await self._transport.call(f"{_SERVICE}/SetQuota", request, identity_pb2.Quota))

    async def _set_status(self, access_key_id: str, status: str) -> models.AccessKey:
        request = identity_pb2.SetAccessKeyStatusRequest(id=access_key_id, status=status)
        reply = await self._transport.call(f"{_SERVICE}/SetAccessKeyStatus", request, identity_pb2.AccessKey)
        return to_model(models.AccessKey, reply)
