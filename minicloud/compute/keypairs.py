"""Key material: ed25519 and RSA pairs made here, OpenSSH public keys taken in. Source: EC2 User Guide, "key pairs".

Fingerprints are OpenSSH's own (base64 of SHA-256), as EC2 shows for ed25519 keys; that of an RSA pair made here is
EC2's (SHA-1 of the private key in DER, in hex).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

from minicloud.base.errors import InvalidParameterValue

PUBLIC_KEY_CHARS_MAX = 16 * 1024  # ours: an RSA-16384 line has under 3 KiB
KINDS = ("rsa", "ed25519")  # that pairs can be made of
RSA_BITS = 2048  # EC2: of pairs that it makes
RSA_BITS_MIN = 1024  # EC2: 1024, 2048 and 4096


@dataclass(frozen=True, slots=True)
class PublicKey:
    line: str
    type: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Pair:
    public: PublicKey
    private_pem: str


def generate(comment: str, kind: str = "ed25519") -> Pair:
    """A new pair; chance comes from the OS, through the library. RSA takes some 0.1 s."""
    return _rsa(comment) if kind == "rsa" else _ed25519(comment)


def _rsa(comment: str) -> Pair:
    private = rsa.generate_private_key(65537, RSA_BITS)
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    digest = hashlib.sha1(der, usedforsecurity=False).hexdigest()
    fingerprint = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    return Pair(PublicKey(f"{line} {comment}", "rsa", fingerprint), pem)


def _ed25519(comment: str) -> Pair:
    private = ed25519.Ed25519PrivateKey.generate()
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return Pair(PublicKey(f"{line} {comment}", "ed25519", _fingerprint(line)), pem)


def parse(text: str) -> PublicKey:
    """Raises InvalidParameterValue (InvalidKey.Format) for what is not an ed25519, RSA or ECDSA OpenSSH line."""
    line = text.strip()
    if len(line) > PUBLIC_KEY_CHARS_MAX or "\n" in line:
        raise _bad("it must be one line of OpenSSH's public key format")
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("it is not an OpenSSH public key") from None
    if isinstance(key, ed25519.Ed25519PublicKey):
        kind = "ed25519"
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        kind = "rsa"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind = "ecdsa"
    else:
        raise _bad("only ed25519, RSA (1024 bits and more) and ECDSA keys are supported")
    return PublicKey(line, kind, _fingerprint(line))


def _bad(why: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Key is not in valid OpenSSH public key format: {why}", code="InvalidKey.Format", field="public_key"
    )


def _fingerprint(line: str) -> str:
    blob = base64.b64decode(line.split()[1])
    return base64.b64encode(hashlib.sha256(blob).digest()).decode()
