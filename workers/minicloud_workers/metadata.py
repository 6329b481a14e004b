"""A guest's own reader of the instance metadata service (version 2). Standard library only."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

ENDPOINT = "http://169.254.169.254"
TIMEOUT_S = 2.0
TOKEN_TTL_S = 300


class Unknown(Exception):
    """The metadata service does not answer, or has no such thing."""


def read(path: str) -> str:
    """The text at `latest/<path>`, as in meta-data/instance-id. Raises Unknown."""
    token = _ask("PUT", "latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)})
    return _ask("GET", f"latest/{path}", {"X-aws-ec2-metadata-token": token})


def read_all(paths: dict[str, str]) -> dict[str, str | None]:
    """{name: path} -> {name: text}; None for what is not known."""
    found: dict[str, str | None] = {}
    for name, path in paths.items():
        try:
            found[name] = read(path)
        except Unknown:
            found[name] = None
    return found


def _ask(method: str, path: str, headers: dict[str, str]) -> str:
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", ENDPOINT).rstrip("/")
    request = urllib.request.Request(f"{endpoint}/{path}", headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            text: str = response.read().decode()
            return text
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise Unknown(f"{path}: {error}") from None
