"""`minicloud certs`: a small CA of one's own and a server certificate for the names that the cloud is reached by.

    <dir>/ca.pem      what clients are given to trust (MINICLOUD_CA)         made once, ten years
    <dir>/ca.key      signs server certificates; mode 0600
    <dir>/server.pem  certificate of the front door, for the names asked for  one year; made again when asked for other
    <dir>/server.key  its key; mode 0600                                      names, near its end, or under a new CA

Running it again changes nothing while what is there still serves. Clients keep trusting a renewed server certificate,
because the CA stays. Keys are made once and stored before their certificates, so an interrupted run is run again. ECDSA
P-256 throughout: every TLS library speaks it. A certificate of at most 398 days is what browsers accept (CA/Browser
Forum, baseline requirements §6.3.2).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minicloud.base.errors import Conflict, InvalidParameterValue
from minicloud.settings import GUEST_NAME, write_file

CA_DAYS = 3650
SERVER_DAYS = 365
RENEW_BEFORE_DAYS = 30
BACKDATE = timedelta(hours=1)  # clocks of clients that are a little behind
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", GUEST_NAME)
_DNS = re.compile(r"(?:\*\.)?(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")

San = x509.DNSName | x509.IPAddress


@dataclass(frozen=True, slots=True)
class Certs:
    """Paths of PEM files, what of them was made just now, and when the server certificate ends (Unix seconds)."""

    ca: Path
    cert: Path
    key: Path
    made: tuple[str, ...]
    expires: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A key, and the certificate of it if there is one yet."""

    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate | None


def ensure_certs(folder: Path, names: Sequence[str], now: float) -> Certs:
    """CA and server certificate for localhost, guests and `names` (DNS names, IP addresses); renewed where needed.

    Raises InvalidParameterValue (names), Conflict (files that cannot be understood, or a CA without its key: they are
    left as they are).
    """
    sans = _sans([*LOCAL_NAMES, *names])
    moment = datetime.fromtimestamp(now, UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    issuer, server = _load(folder, "ca"), _load(folder, "server")
    ca = issuer.cert
    if ca is None or not _lasts(ca, moment):
        ca = _ca_certificate(issuer.key, moment)
        _store(folder, "ca", ca)
        made.append("ca")
    cert = server.cert
    if cert is None or not _lasts(cert, moment) or not _serves(cert, ca, sans):
        cert = _server_certificate(server.key, (issuer.key, ca), sans, moment)
        _store(folder, "server", cert)
        made.append("server")
    return Certs(
        ca=folder / "ca.pem",
        cert=folder / "server.pem",
        key=folder / "server.key",
        made=tuple(made),
        expires=cert.not_valid_after_utc.timestamp(),
        names=tuple(str(san.value) for san in sans),
    )


def _sans(names: Sequence[str]) -> list[San]:
    """In order, each once. Raises InvalidParameterValue."""
    found: list[San] = []
    for name in names:
        san = _san(name.strip().lower())
        if san not in found:
            found.append(san)
    return found


def _san(name: str) -> San:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if len(name) > 253 or not _DNS.fullmatch(name):
        raise InvalidParameterValue(f"{name[:253]!r} is neither a DNS name nor an IP address", field="names")
    return x509.DNSName(name)


def _lasts(cert: x509.Certificate, moment: datetime) -> bool:
    return cert.not_valid_after_utc > moment + timedelta(days=RENEW_BEFORE_DAYS)


def _serves(cert: x509.Certificate, ca: x509.Certificate, sans: list[San]) -> bool:
    """Signed by this CA, for exactly these names."""
    try:
        cert.verify_directly_issued_by(ca)
        has = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return set(has) == set(sans)


def _ca_certificate(key: ec.EllipticCurvePrivateKey, moment: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"minicloud CA {moment:%Y-%m-%d}")])
    builder = _builder(name, name, key.public_key(), (moment, CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, SHA256())


def _server_certificate(
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate],
    sans: list[San],
    moment: datetime,
) -> x509.Certificate:
    ca_key, ca = issuer
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "minicloud")])
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = _builder(name, ca.subject, key.public_key(), (moment, SERVER_DAYS))
    builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(by, critical=False)
    return builder.sign(ca_key, SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, span: tuple[datetime, int]
) -> x509.CertificateBuilder:
    start, days = span
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public,
        serial_number=x509.random_serial_number(),
        not_valid_before=start - BACKDATE,
        not_valid_after=start + timedelta(days=days),
    )
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load(folder: Path, name: str) -> _Pair:
    """The key, made and stored where there is none, and its certificate. Raises Conflict."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    if not pem.exists() and not key.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        write_file(key, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return _Pair(fresh, None)
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
        cert = x509.load_pem_x509_certificate(pem.read_bytes()) if pem.exists() else None
    except (OSError, ValueError, TypeError) as error:
        raise Conflict(f"{pem} and {key.name} cannot be used ({error}); move them away first", field="dir") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise Conflict(f"{key} is not an elliptic curve key; move it away first", field="dir")
    if cert is not None and private.public_key() != cert.public_key():
        raise Conflict(f"{key} is not the key of {pem.name}; move them away first", field="dir")
    return _Pair(private, cert)


def _store(folder: Path, name: str, cert: x509.Certificate) -> None:
    write_file(folder / f"{name}.pem", cert.public_bytes(Encoding.PEM))
    (folder / f"{name}.pem").chmod(0o644)
