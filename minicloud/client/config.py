"""What a client is configured with, and the only place of the SDK that reads the environment or draws chance.

argument  >  environment  >  default

endpoint             MINICLOUD_ENDPOINT             127.0.0.1:7077   host:port, or with https:// for TLS
access_key_id        MINICLOUD_ACCESS_KEY_ID        none
secret_access_key    MINICLOUD_SECRET_ACCESS_KEY    none
region               MINICLOUD_REGION, AWS_REGION   the cloud's own
ca                   MINICLOUD_CA                   PEM file of the CA that signed the cloud's certificate; means TLS
tls                  MINICLOUD_TLS=1                TLS against the system's own CAs
"""

from __future__ import annotations

import ipaddress
import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict
from urllib.parse import urlsplit

from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue, MissingParameter

ENDPOINT_DEFAULT = "127.0.0.1:7077"
PORT_DEFAULT = 7077
TIMEOUT_S = 30.0
# A killed control plane is back within 10 s (RELIABILITY §3): a caller that waits a little longer never notices.
RETRY_S = 12.0
# Nothing listens at the endpoint at all: most likely the cloud is down, and the user wants to know soon.
CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Settings of one client. Times in seconds.

    timeout_s: deadline of one call, all its retries included. retry_s: how long UNAVAILABLE is retried.
    connect_s: how long an endpoint that accepts no connection is tried.
    """

    address: str = ENDPOINT_DEFAULT
    tls: bool = False
    ca: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    region: str = ""
    timeout_s: float = TIMEOUT_S
    retry_s: float = RETRY_S
    connect_s: float = CONNECT_S


class ClientOptions(TypedDict, total=False):
    """Keyword arguments of `Client` and `AsyncClient`; what is absent comes from the environment. Times in seconds."""

    access_key_id: str
    secret_access_key: str
    region: str
    ca: str
    timeout: float
    retry: float


def resolve(
    endpoint: str | None = None, options: ClientOptions | None = None, env: Mapping[str, str] | None = None
) -> ClientConfig:
    """Arguments and environment to one configuration.

    Raises InvalidParameterValue (endpoint, ca, times), MissingParameter (half an access key),
    InvalidParameterCombination (a secret over an open network without TLS).
    """
    env = os.environ if env is None else env
    options = options or {}
    address, scheme = parse_endpoint(endpoint or env.get("MINICLOUD_ENDPOINT") or ENDPOINT_DEFAULT)
    ca = options.get("ca", env.get("MINICLOUD_CA", ""))
    wanted = bool(ca) or env.get("MINICLOUD_TLS", "").lower() in ("1", "true", "yes")
    own_key = "access_key_id" in options or "secret_access_key" in options  # never half from here, half from there
    config = ClientConfig(
        address=address,
        tls=scheme == "https" or (wanted and scheme != "http"),
        ca=ca,
        access_key_id=options.get("access_key_id", "" if own_key else env.get("MINICLOUD_ACCESS_KEY_ID", "")),
        secret_access_key=options.get(
            "secret_access_key", "" if own_key else env.get("MINICLOUD_SECRET_ACCESS_KEY", "")
        ),
        region=options.get("region", env.get("MINICLOUD_REGION") or env.get("AWS_REGION") or ""),
    )
    return with_times(_checked(config), options.get("timeout"), options.get("retry"))


def _checked(config: ClientConfig) -> ClientConfig:
    if bool(config.access_key_id) != bool(config.secret_access_key):
        missing = "secret_access_key" if config.access_key_id else "access_key_id"
        raise MissingParameter("an access key has an id and a secret: one of them is missing", field=missing)
    if config.access_key_id and not config.tls and not is_loopback(config.address):
        raise InvalidParameterCombination(
            f"the secret would go to {config.address} unencrypted: give the cloud's CA (MINICLOUD_CA) or https://",
            field="endpoint",
        )
    for name in ("access_key_id", "secret_access_key", "region"):
        if not re.fullmatch(r"[!-~]{0,256}", getattr(config, name)):  # they travel as HTTP/2 headers
            raise InvalidParameterValue("must be printable ASCII without spaces, 256 at most", field=name)
    if config.ca and not os.access(config.ca, os.R_OK):
        raise InvalidParameterValue(f"cannot read {config.ca}", field="ca")
    return config


def with_times(config: ClientConfig, timeout: float | None, retry: float | None) -> ClientConfig:
    """Raises InvalidParameterValue."""
    for name, value in (("timeout", timeout), ("retry", retry)):
        if value is not None and not 0 <= value <= 86_400:
            raise InvalidParameterValue(f"must be 0 to 86400 seconds, not {value}", field=name)
    if timeout == 0:
        raise InvalidParameterValue("a call needs some time", field="timeout")
    return replace(
        config,
        timeout_s=config.timeout_s if timeout is None else timeout,
        retry_s=config.retry_s if retry is None else retry,
    )


def parse_endpoint(endpoint: str) -> tuple[str, str]:
    """'host:port' and the scheme ('', 'http', 'https'). Raises InvalidParameterValue."""
    text = endpoint.strip()
    parts = urlsplit(text if "://" in text else f"//{text}")
    try:
        host, port = parts.hostname or "", parts.port or PORT_DEFAULT
    except ValueError:
        host, port = "", 0
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username
    if not host or any(c.isspace() for c in host) or extra or parts.scheme not in ("", "http", "https"):
        raise InvalidParameterValue(f"not an endpoint such as {ENDPOINT_DEFAULT}: {endpoint[:200]!r}", field="endpoint")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", parts.scheme


def is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# ---------------------------------------------------------------- chance and the terminal


def jitter() -> float:
    """Between 0 and 1."""
    return random.random()


def terminal_type() -> str:
    """What kind of terminal the user sits at, for the programs in a guest."""
    return os.environ.get("TERM") or "xterm"


def new_token() -> str:
    """A client token: makes a launch safe to repeat."""
    return os.urandom(16).hex()
