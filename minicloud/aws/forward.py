"""Requests that came to the wrong process, passed on to the one that owns them: routing is only an optimisation.

The request goes on as it came (path, query, headers and body untouched, so its signature stays right) with a count of
its hops; the answer comes back piece by piece. Two hops are enough for every way, so a third is refused: two processes
that take each other for the owner must not play ball.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from minicloud.aws.services import Known
from minicloud.aws.wire import Answer, Request
from minicloud.base.arn import Caller
from minicloud.base.errors import Unavailable
from minicloud.rpc.shard_ticket import shard_of

log = logging.getLogger("minicloud.aws")

HOPS = "x-minicloud-hops"
HOPS_MAX = 2
CONNECT_S = 3.0
WHOLE_BYTES_MAX = 1024 * 1024  # of an answer that is not streamed
_OF_THE_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "expect", "te", "trailer", HOPS}
)
_NOT_BACK = _OF_THE_HOP | {"date", "content-type"}
_NO_DEFAULTS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands: which owner it is (services.CONTROL ...), and its number among those of its kind."""

    owner: str
    number: int = 0


class Forwarder:
    """Implements gateway.PassOn. `ports`: by owner, the HTTP ports of its processes by number; `hosts`: their hosts."""

    def __init__(self, own: Place, ports: Mapping[str, Sequence[int]], hosts: Mapping[str, str] | None = None) -> None:
        self._own = own
        self._ports = ports
        self._hosts = hosts or {}
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, request: Request, service: Known, caller: Caller | None) -> Answer | None:
        number = self._elsewhere(service, caller)
        return (
            None if number is None else await self._pass_on(request, service.owner, self._ports[service.owner][number])
        )

    def is_own(self, service: Known, caller: Caller) -> bool:
        return self._elsewhere(service, caller) is None

    def _elsewhere(self, service: Known, caller: Caller | None) -> int | None:
        """The number of another process whose this is."""
        ports = self._ports.get(service.owner, ())
        if not ports:
            return None
        number = 0
        if len(ports) > 1 and caller is not None:
            number = shard_of(caller.scope, len(ports))
        elif service.owner == self._own.owner:
            return None  # nobody is known yet, or there is one process only
        return None if Place(service.owner, number) == self._own else number

    async def _pass_on(self, request: Request, owner: str, port: int) -> Answer:
        hops = request.headers.get(HOPS, "0")
        count = int(hops) if hops.isdigit() and len(hops) < 3 else HOPS_MAX
        if count >= HOPS_MAX:
            raise Unavailable("The processes of the cloud disagree on who answers this request.")
        headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_HOP}
        headers[HOPS] = str(count + 1)
        query = f"?{request.query}" if request.query else ""
        host = self._hosts.get(owner, "127.0.0.1")
        url = URL(f"http://{f'[{host}]' if ':' in host else host}:{port}{request.path}{query}", encoded=True)
        try:
            response = await self._client().request(
                request.method, url, headers=headers, data=request.body, allow_redirects=False
            )
            return await self._back(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("the %s does not answer: %s", owner, error)
            raise Unavailable(f"The {owner} is away for a moment; retry.") from None

    async def _back(self, response: aiohttp.ClientResponse) -> Answer:
        pairs = [(name, value) for name, value in response.headers.items() if name.lower() not in _NOT_BACK]
        content_type = response.headers.get("content-type", "application/octet-stream")
        if response.content_length is not None and response.content_length <= WHOLE_BYTES_MAX:
            async with response:
                return Answer(response.status, content_type, await response.read(), pairs)
        return Answer(response.status, content_type, _pieces(response), pairs)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                skip_auto_headers=_NO_DEFAULTS,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with response:
        async for piece in response.content.iter_any():
            yield piece
