"""Certificates as they are imported: a PEM certificate, its unencrypted key, and the chain. Pure computing.

Source: ACM API, ImportCertificate: the key must be the certificate's, unencrypted; the certificate must be valid now.
ALB guide, "SSL certificates": keys of RSA 2048 to 4096 and of the curves P-256, P-384, P-521.

HAProxy reads what is kept here, and one file that it does not take would stop all listeners. So what is kept is written
anew, without whatever else stood in the text, and what OpenSSL finds too weak is refused.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from minicloud.balancer.errors import invalid

_RSA_BITS = (2048, 4096)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_WEAK_DIGESTS = ("md5", "sha1")


@dataclass(frozen=True, slots=True)
class Pair:
    """The names that the certificate is for, when it ends (Unix seconds), and its parts as PEM and nothing else."""

    names: tuple[str, ...]
    expires: float
    certificate: str
    private_key: str
    chain: str


def read(certificate: str, private_key: str, chain: str, now: float) -> Pair:
    """Raises ValidationError naming the part that is wrong."""
    found = _certificates(certificate, "certificate")
    if len(found) != 1:
        raise invalid("The certificate field contains more than one certificate", "certificate")
    others = _certificates(chain, "certificate chain") if chain else []
    leaf = found[0]
    key = _key_of(leaf, private_key)
    starts, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if not starts <= now < ends:
        raise invalid("The certificate is not valid at this time", "certificate")
    return Pair(_names(leaf), ends, _text([leaf]), key, _text(others))


def _text(found: list[x509.Certificate]) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)


def _certificates(text: str, what: str) -> list[x509.Certificate]:
    field = what.replace(" ", "_")
    try:
        found = x509.load_pem_x509_certificates(text.encode())
        fine = all(_is_strong(one) for one in found)
    except (ValueError, UnsupportedAlgorithm):
        raise invalid(f"The {what} is not in a valid PEM format", field) from None
    if not fine:
        raise invalid(f"The {what} has a key or a signature of an algorithm or size that is not supported", field)
    return found


def _is_strong(one: x509.Certificate) -> bool:
    digest, key = one.signature_hash_algorithm, one.public_key()
    if one.issuer != one.subject and digest is not None and digest.name in _WEAK_DIGESTS:
        return False
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES


def _key_of(leaf: x509.Certificate, private_key: str) -> str:
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise invalid("The private key is not a valid, unencrypted PEM key", "private_key") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise invalid("The private key must be an RSA or an elliptic curve key", "private_key")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise invalid("The private key does not match the certificate", "private_key")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        with contextlib.suppress(x509.ExtensionNotFound):
            others = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names += others.get_values_for_type(x509.DNSName)
    except ValueError:
        raise invalid("The certificate has an extension that cannot be read", "certificate") from None
    return tuple(dict.fromkeys(names))
