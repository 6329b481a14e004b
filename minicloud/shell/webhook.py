"""HTTP posts to whatever address a user named: bounded in time and number, nothing followed, nothing kept.

An answer counts by its status alone; its body is not read. Redirects are not followed, cookies not kept, proxies of the
environment not used. `refused`: ports of our own on loopback that no user may reach through us.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

TIMEOUT_S = 15.0  # SNS guide, "Fanout to HTTPS endpoints"
CONNECTIONS_MAX = 1_000  # ours: at once, to all hosts
_KEEP_ALIVE_S = 15.0


class Webhooks:
    """One pool of connections. `trust`: what https endpoints are checked against (None: the system's certificates)."""

    def __init__(self, refused: frozenset[int] = frozenset(), trust: ssl.SSLContext | None = None) -> None:
        self._refused = refused
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer, 0 where none came in time. Raises nothing."""
        if self._is_ours(url):
            log.warning("a port of the cloud itself is no endpoint: %s", _shown(url))
            return 403
        if self._session is None:
            self._session = self._open()
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except (OSError, ValueError, TimeoutError) as error:  # aiohttp's own are OSError or ValueError, but for:
            log.info("%s does not answer: %s", _shown(url), error or type(error).__name__)
        except self._client_error as error:
            log.info("%s answers badly: %s", _shown(url), error or type(error).__name__)
        return 0

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp  # a quarter of a second that only brokers with endpoints pay

        self._client_error: Any = aiohttp.ClientError
        trust = self._trust or ssl.create_default_context()
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=trust, keepalive_timeout=_KEEP_ALIVE_S)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            auto_decompress=False,
            trust_env=False,
        )

    def _is_ours(self, url: str) -> bool:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return port in self._refused and is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Of a name or an address as it stands in a URL."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"
