"""TLS credentials for gRPC from PEM files, checked when they are loaded instead of at the first handshake."""

from __future__ import annotations

from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue


def server_credentials(cert: str, key: str) -> grpc.ServerCredentials:
    """Of a certificate chain and its private key. Raises InvalidParameterValue, InvalidParameterCombination."""
    chain, private = _read(cert, "tls_cert"), _read(key, "tls_key")
    try:
        certificate = load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise InvalidParameterValue(f"{cert} holds no PEM certificate", field="tls_cert") from None
    try:
        public = load_pem_private_key(private, password=None).public_key()
    except (ValueError, TypeError):
        raise InvalidParameterValue(f"{key} holds no unencrypted PEM private key", field="tls_key") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise InvalidParameterCombination(f"{key} is not the key of {cert}", field="tls_key")
    return grpc.ssl_server_credentials([(private, chain)])


def channel_credentials(ca: str = "") -> grpc.ChannelCredentials:
    """Trust in one CA file, or in gRPC's own roots where `ca` is empty. Raises InvalidParameterValue."""
    return grpc.ssl_channel_credentials(_read(ca, "ca") if ca else None)


def _read(path: str, field: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidParameterValue(f"cannot read {path}: {error.strerror}", field=field) from None
