"""The key that signs what a broker sends, with its self-signed certificate: made once, kept in the broker's directory.

One file, mode 0600: the private key, then the certificate, both PEM. The certificate is what SigningCertURL serves.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

_DAYS = 36_500
_KEY_BITS = 2048  # as SNS's


class _Pair(NamedTuple):
    key: rsa.RSAPrivateKey
    certificate: bytes


class SigningKey:
    """Made or read when it is first used. `path` None: kept in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @cached_property
    def _pair(self) -> _Pair:
        if self._path is None:
            return _parse(_make())
        try:
            return _parse(self._path.read_bytes())
        except FileNotFoundError:
            _keep(self._path, _make())
            return _parse(self._path.read_bytes())

    @property
    def certificate(self) -> bytes:
        """PEM."""
        return self._pair.certificate

    @cached_property
    def certificate_name(self) -> str:
        return f"SimpleNotificationService-{hashlib.sha256(self.certificate).hexdigest()[:32]}.pem"

    def sign(self, text: bytes, version: int) -> bytes:
        algorithm = hashes.SHA1() if version == 1 else hashes.SHA256()  # version 1 is SHA1
        return self._pair.key.sign(text, padding.PKCS1v15(), algorithm)


def _parse(pem: bytes) -> _Pair:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    certificate = x509.load_pem_x509_certificate(pem)
    return _Pair(key, certificate.public_bytes(serialization.Encoding.PEM))


def _make() -> bytes:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.minicloud")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _keep(path: Path, pem: bytes) -> None:
    """Whole or not at all; the first of two wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
