"""Secrets on disk: AES-256-GCM under a key derived from the cloud's own secret, bound to the name they are kept under.

SigV4 needs an access key's secret in clear, so it cannot be hashed. What is stored: "1:" + base64(nonce + ciphertext).
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12
_FORM = "1:"


class AesGcmSeal:
    """Implements identity.ports.Seal, balancer.ports.Seal. `cluster_secret` is `settings.read_secret`'s; `of`: what is
    sealed, each with a key of its own.
    """

    def __init__(self, cluster_secret: bytes, of: str = "access key secrets") -> None:
        key = HKDF(SHA256(), length=32, salt=None, info=f"minicloud {of}".encode()).derive(cluster_secret)
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, nonce: bytes, name: str) -> str:
        closed = nonce + self._cipher.encrypt(nonce, plain, name.encode())
        return _FORM + base64.b64encode(closed).decode()

    def open(self, sealed: str, name: str) -> bytes:
        if not sealed.startswith(_FORM):
            raise ValueError("sealed in a form that this version does not know")
        raw = base64.b64decode(sealed.removeprefix(_FORM), validate=True)
        try:
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], name.encode())
        except InvalidTag:
            raise ValueError("sealed with another secret, under another name, or altered") from None
