"""Key material: ed25519 pairs made here, OpenSSH public keys taken in. Source: EC2 User Guide, "Amazon EC2 key pairs".

Fingerprints are OpenSSH's own (base64 of SHA-256), as EC2 shows for ed25519 and imported keys.
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


def generate(comment: str) -> Pair:
    """A new ed25519 pair; chance comes from the OS, through the library."""
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
