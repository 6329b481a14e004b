"""Made from `minicloud/client/key_pairs.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from minicloud.client.key_pairs import AsyncKeyPairs
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class KeyPairs:
    """SSH key pairs, named by their names."""

    _inner: AsyncKeyPairs

    def __init__(self, inner: AsyncKeyPairs, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(self, name: str, *, tags: Mapping[str, str] | None = None) -> models.KeyPairMaterial:
        """A new ed25519 pair; the private half is in this answer only. Raises AlreadyExists."""
        return self._loop.run(self._inner.create(name, tags=tags))

    def import_key(self, name: str, public_key: str, *, tags: Mapping[str, str] | None = None) -> models.KeyPair:
        """public_key: OpenSSH one-line form (ssh-ed25519, ssh-rsa, ecdsa-sha2-*). Raises AlreadyExists."""
        return self._loop.run(self._inner.import_key(name, public_key, tags=tags))

    def get(self, name: str) -> models.KeyPair:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(name))

    def list(self, *, page_size: int = 100) -> Iterator[models.KeyPair]:
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def delete(self, name: str) -> models.KeyPair:
        """Instances that carry it keep it. Raises NotFound."""
        return self._loop.run(self._inner.delete(name))
