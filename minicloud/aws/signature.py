"""Signature Version 4, as it is verified: in the Authorization header, or in the query of a presigned URL.

    canonical request -> SHA-256 -> string to sign -> HMAC under the key of (secret, date, region, service)

Source: IAM User Guide, "Create a signed AWS API request". What is checked, in this order: the form; the date of the
credential; the clock (5 minutes either way, or the life of a presigned URL); the service of the credential; that Host
and every x-amz-* header is signed; the hash of the body; the signature. An unknown key is compared with a secret that
nobody has, so it costs what a wrong signature costs. Keys of a day, region and service are derived once and remembered.

A body whose hash is not in the header counts with its own hash; UNSIGNED-PAYLOAD counts as that word, as in AWS, and
leaves the body to TLS. Chunks that carry signatures of their own are in signature_chunks.py.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote

from minicloud.aws import signature_chunks
from minicloud.aws.services import REGION_GLOBAL, Known
from minicloud.aws.wire import Request
from minicloud.base.arn import DEFAULT_REGION, Caller, Scope, check_region
from minicloud.base.errors import CloudError, Unauthenticated

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_S = 300
EXPIRES_S_MAX = 604_800  # AWS: a presigned URL lives seven days at most
KEYS_KEPT_MAX = 4_096
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_EMPTY = hashlib.sha256(b"").hexdigest()
_NOBODY = b"\0" * 40  # whose secret an unknown key is compared with
_HEX = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_SPACES = re.compile(r" +")
_SAFE = "-_.~"


@dataclass(frozen=True, slots=True)
class Key:
    """An active access key."""

    secret: bytes
    account: str
    admin: bool = False


class Sessions(Protocol):
    """Temporary credentials: what is behind a session token."""

    def secret_of(self, key_id: str) -> str: ...

    def opened(self, token: str, key_id: str, now: float, region: str) -> Caller:
        """Raises Unauthenticated (InvalidClientTokenId, ExpiredToken)."""
        ...


class Signed(NamedTuple):
    """What a request says about its signature. `stamp`: its date; `expires`: of a presigned URL, seconds; else 0."""

    key_id: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str
    stamp: str
    expires: int
    token: str


class Verifier:
    """For gateway.Way.admit where authentication is on. `region`: the cloud's own."""

    def __init__(
        self,
        find: Callable[[str], Key | None],
        wall: Callable[[], float],
        sessions: Sessions | None = None,
        region: str = DEFAULT_REGION,
    ) -> None:
        self._find = find
        self._wall = wall
        self._sessions = sessions
        self._region = region
        self._signing_keys: dict[tuple[str, str, str, str], tuple[bytes, bytes]] = {}

    def __call__(self, request: Request, service: Known) -> Caller:
        """Raises Unauthenticated."""
        signed = read(request)
        now = self._wall()
        _check_times(signed, now)
        if signed.service != service.signing:
            raise _mismatch(f"Credential should be scoped to correct service: '{service.signing}'.")
        _check_headers(signed, request)
        payload = _payload(request, presigned=signed.expires > 0)
        secret, caller, error = self._who(signed, now)
        key = self._signing_key(signed, secret)
        right = hmac.compare_digest(signature(request, signed, payload, key), signed.signature)
        if error is not None:
            raise error
        if not right or caller is None:
            raise _mismatch(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details."
            )
        if payload == STREAMING:
            request.body = signature_chunks.decoded(request.body, signed.signature, key, _scope(signed), signed.stamp)
        return caller

    def claimed(self, request: Request) -> str:
        """For Way.claimed: the account of the key that it names; '' where there is none."""
        try:
            _, caller, _ = self._who(read(request), self._wall())
        except CloudError:
            return ""
        return "" if caller is None else caller.scope.account

    def _who(self, signed: Signed, now: float) -> tuple[bytes, Caller | None, CloudError | None]:
        """The secret to compare with, who it is if that is right, and what is wrong with the key itself."""
        region = self._region if signed.region == REGION_GLOBAL else signed.region
        if signed.token:
            return self._session(signed, now, region)
        key = self._find(signed.key_id)
        if key is None:
            return _NOBODY, None, invalid_key()
        return key.secret, _caller(key.account, region, signed.key_id, key.admin), None

    def _session(self, signed: Signed, now: float, region: str) -> tuple[bytes, Caller | None, CloudError | None]:
        if self._sessions is None:
            return _NOBODY, None, invalid_key()
        secret = self._sessions.secret_of(signed.key_id).encode()
        try:
            return secret, self._sessions.opened(signed.token, signed.key_id, now, region), None
        except Unauthenticated as error:
            return secret, None, error

    def _signing_key(self, signed: Signed, secret: bytes) -> bytes:
        name = (signed.key_id if secret is not _NOBODY else "", signed.date, signed.region, signed.service)
        known = self._signing_keys.get(name)
        if known is not None and known[0] == secret:
            return known[1]
        if len(self._signing_keys) >= KEYS_KEPT_MAX:
            self._signing_keys.clear()
        key = signing_key(secret, *name[1:])
        self._signing_keys[name] = (secret, key)
        return key


@lru_cache(maxsize=4096)
def _caller(account: str, region: str, key_id: str, admin: bool) -> Caller:
    try:
        return Caller(Scope(account, check_region(region)), key_id, admin)
    except CloudError:
        raise _mismatch("Credential should be scoped to a valid region.") from None


def signing_key(secret: bytes, date: str, region: str, service: str) -> bytes:
    key = hmac.digest(b"AWS4" + secret, date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8", "replace"), "sha256")
    return key


def signature(request: Request, signed: Signed, payload: str, key: bytes) -> str:
    canonical = hashlib.sha256(canonical_request(request, signed, payload).encode("latin-1", "replace")).hexdigest()
    text = f"{ALGORITHM}\n{signed.stamp}\n{_scope(signed)}\n{canonical}"
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()


def _scope(signed: Signed) -> str:
    return f"{signed.date}/{signed.region}/{signed.service}/aws4_request"


def canonical_request(request: Request, signed: Signed, payload: str) -> str:
    given = request.headers
    lines = [f"{name}:{_trimmed(given.get(name, ''))}\n" for name in signed.headers]
    query = _query(request.query, presigned=signed.expires > 0) if request.query else ""
    path = "/" if request.path in ("", "/") else _path(request.path)
    return f"{request.method}\n{path}\n{query}\n{''.join(lines)}\n{';'.join(signed.headers)}\n{payload}"


def _trimmed(value: str) -> str:
    value = value.strip()
    return _SPACES.sub(" ", value) if "  " in value else value


def _path(path: str) -> str:
    """Dots and doubled slashes taken out, then encoded once more than on the wire."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    end = "/" if parts and path.endswith("/") else ""
    return quote("/" + "/".join(parts) + end, safe="/" + _SAFE)


def _query(query: str, *, presigned: bool) -> str:
    pairs = []
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        if not (presigned and name == "X-Amz-Signature") and piece:
            pairs.append((_recoded(name), _recoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _recoded(text: str) -> str:
    return quote(unquote(text, "latin-1"), safe=_SAFE, encoding="latin-1") if text else ""


# --- what a request says


def read(request: Request) -> Signed:
    """Raises Unauthenticated: MissingAuthenticationToken, IncompleteSignature."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return _of_header(request, authorization)
    if "X-Amz-Signature=" in request.query or "X-Amz-Credential=" in request.query:
        return _of_query(request)
    raise Unauthenticated("Request is missing Authentication Token", code="MissingAuthenticationToken")


def _of_header(request: Request, authorization: str) -> Signed:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:64]}'.")
    fields = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name)]
    if missing:
        raise _incomplete(f"Authorization header requires '{missing[0]}' parameter.")
    stamp = _stamp(request)
    token = request.headers.get("x-amz-security-token", "")
    return _signed(fields["Credential"], fields["SignedHeaders"], fields["Signature"], stamp, 0, token)


def _stamp(request: Request) -> str:
    given = request.headers.get("x-amz-date")
    if given is not None:
        return given
    try:
        moment = datetime.strptime(request.headers.get("date", ""), "%a, %d %b %Y %H:%M:%S GMT")
    except ValueError:
        text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise _incomplete(text) from None
    return moment.strftime("%Y%m%dT%H%M%SZ")


def _of_query(request: Request) -> Signed:
    given: dict[str, str] = {}
    for piece in request.query.split("&"):
        name, _, value = piece.partition("=")
        if name.startswith("X-Amz-"):
            if name in given:
                raise _incomplete(f"The parameter {name[:64]} is given more than once.")
            given[name] = unquote(value, "latin-1")
    if given.get("X-Amz-Algorithm") != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{given.get('X-Amz-Algorithm', '')[:64]}'.")
    names = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date", "X-Amz-Expires")
    missing = [name for name in names if not given.get(name)]
    if missing:
        raise _incomplete(f"AWS query-string parameters must include '{missing[0]}'.")
    credential, headers, proof, stamp, expires = (given[name] for name in names)
    if not (expires.isascii() and expires.isdigit() and 1 <= int(expires[:9]) <= EXPIRES_S_MAX):
        raise _incomplete(f"X-Amz-Expires must be between 1 and {EXPIRES_S_MAX} seconds.")
    return _signed(credential, headers, proof, stamp, int(expires), given.get("X-Amz-Security-Token", ""))


def _signed(credential: str, headers: str, proof: str, stamp: str, expires: int, token: str) -> Signed:
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts) or len(credential) > 256:
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term"
        )
    if not _DATE.fullmatch(stamp):
        raise _incomplete("Date must be in ISO-8601 'basic format', such as 20260101T000000Z.")
    if not proof.isascii():
        raise _incomplete("Signature must be hexadecimal.")
    names = tuple(headers.split(";"))
    return Signed(parts[0], parts[1], parts[2], parts[3], names, proof, stamp, expires, token)


def _check_times(signed: Signed, now: float) -> None:
    if signed.date != signed.stamp[:8]:
        text = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        raise _mismatch(f"{text}'{signed.date}' != '{signed.stamp[:8]}', from '{signed.stamp}'.")
    at = _seconds(signed.stamp)
    life = signed.expires or SKEW_S
    if now > at + life:
        early, minutes = _text(now - life), f"{life / 60:g} min."
        text = f"Signature expired: {signed.stamp} is now earlier than {early} ({_text(now)} - {minutes})"
        raise Unauthenticated(text, code="RequestExpired" if signed.expires else "SignatureDoesNotMatch")
    if at > now + SKEW_S:
        late = _text(now + SKEW_S)
        raise _mismatch(f"Signature not yet current: {signed.stamp} is still later than {late} ({_text(now)} + 5 min.)")


@lru_cache(maxsize=256)
def _seconds(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _incomplete("Date must be in ISO-8601 'basic format', such as 20260101T000000Z.") from None


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _check_headers(signed: Signed, request: Request) -> None:
    names = signed.headers
    if "host" not in names:
        raise _mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in names]
    if unsigned:
        raise _mismatch(f"'{unsigned[0][:64]}' must be a 'SignedHeader' in the AWS Authorization.")


def _payload(request: Request, *, presigned: bool) -> str:
    """What stands for the body in the canonical request. Raises Unauthenticated where the body has another hash."""
    named = request.headers.get("x-amz-content-sha256", "")
    if not named and presigned and f"X-Amz-Content-Sha256={UNSIGNED}" in request.query:
        return UNSIGNED
    if named in (UNSIGNED, STREAMING):
        return named
    found = hashlib.sha256(request.body).hexdigest() if request.body else _EMPTY
    if named and not hmac.compare_digest(named.encode("latin-1"), found.encode()):
        raise _mismatch("The provided 'x-amz-content-sha256' header does not match what was computed.")
    return found


def _mismatch(text: str) -> Unauthenticated:
    return Unauthenticated(text, code="SignatureDoesNotMatch")


def _incomplete(text: str) -> Unauthenticated:
    return Unauthenticated(text, code="IncompleteSignature")


def invalid_key() -> Unauthenticated:
    return Unauthenticated("The security token included in the request is invalid.", code="InvalidClientTokenId")
