"""Certificates as they are imported: a PEM certificate, its unencrypted key, and the chain. Pure computing.

Source: ACM API, ImportCertificate: the key must be the certificate's, unencrypted; the certificate must be valid now.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from minicloud.balancer.errors import invalid


@dataclass(frozen=True, slots=True)
class Pair:
    """The names that the certificate is for, and when it ends (Unix seconds)."""

    names: tuple[str, ...]
    expires: float


def read(certificate: str, private_key: str, chain: str, now: float) -> Pair:
    """Raises ValidationError naming the part that is wrong."""
    found = _certificates(certificate, "certificate")
    if len(found) != 1:
        raise invalid("The certificate field contains more than one certificate", "certificate")
    if chain:
        _certificates(chain, "certificate chain")
    leaf = found[0]
    _check_key(leaf, private_key)
    starts, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if not starts <= now < ends:
        raise invalid("The certificate is not valid at this time", "certificate")
    return Pair(_names(leaf), ends)


def _certificates(text: str, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise invalid(f"The {what} is not in a valid PEM format", what.replace(" ", "_")) from None


def _check_key(leaf: x509.Certificate, private_key: str) -> None:
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError):
        raise invalid("The private key is not a valid, unencrypted PEM key", "private_key") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise invalid("The private key must be an RSA or an elliptic curve key", "private_key")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise invalid("The private key does not match the certificate", "private_key")


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    with contextlib.suppress(x509.ExtensionNotFound):
        others = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += others.get_values_for_type(x509.DNSName)
    return tuple(dict.fromkeys(names))
