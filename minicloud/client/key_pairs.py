"""Key pairs: whose public half is put into an instance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import catalog_pb2
else:
    models = lazy("minicloud.client.models")
    catalog_pb2 = lazy("minicloud.wire.catalog_pb2")


class AsyncKeyPairs:
    """SSH key pairs, named by their names."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, *, tags: Mapping[str, str] | None = None) -> models.KeyPairMaterial:
        """A new ed25519 pair; the private half is in this answer only. Raises AlreadyExists."""
        request = catalog_pb2.CreateKeyPairRequest(name=name, tags=tags or {})
        reply = await self._transport.call(
            "KeyPairService/Create", request, catalog_pb2.KeyPairMaterial, idempotent=False
        )
        return to_model(models.KeyPairMaterial, reply)

    async def import_key(self, name: str, public_key: str, *, tags: Mapping[str, str] | None = None) -> models.KeyPair:
        """public_key: OpenSSH one-line form (ssh-ed25519, ssh-rsa, ecdsa-sha2-*). Raises AlreadyExists."""
        request = catalog_pb2.ImportKeyPairRequest(name=name, public_key=public_key, tags=tags or {})
        return await self._one("Import", request)

    async def get(self, name: str) -> models.KeyPair:
        """Raises NotFound."""
        return await self._one("Get", catalog_pb2.GetKeyPairRequest(name=name), idempotent=True)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[models.KeyPair]:
        request = catalog_pb2.ListKeyPairsRequest(page_size=page_size)
        while True:
            reply = await self._transport.call("KeyPairService/List", request, catalog_pb2.ListKeyPairsResponse)
            for item in reply.key_pairs:
                yield to_model(models.KeyPair, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, name: str) -> models.KeyPair:
        """Instances that carry it keep it. Raises NotFound."""
        return await self._one("Delete", catalog_pb2.GetKeyPairRequest(name=name))

    async def _one(
        self,
        verb: str,
        request: catalog_pb2.GetKeyPairRequest | catalog_pb2.ImportKeyPairRequest,
        idempotent: bool = False,
    ) -> models.KeyPair:
        reply = await self._transport.call(
            f"KeyPairService/{verb}", request, catalog_pb2.KeyPair, idempotent=idempotent
        )
        return to_model(models.KeyPair, reply)
