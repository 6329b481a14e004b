"""How topics of a broker reach functions: an asynchronous invocation in the process that has them, by its socket."""

from __future__ import annotations

from collections.abc import Mapping

from minicloud.base.arn import Arn, Scope
from minicloud.base.errors import AccessDenied, CloudError, InvalidRequest, NotFound, Throttled
from minicloud.cloud_calls import FUNCTIONS_OF, Calls
from minicloud.topic.ports import Poster
from minicloud.wire import function_pb2

PRINCIPAL = "sns.amazonaws.com"
_FUNCTION = "arn:aws:lambda:"
TAKEN, REFUSED, BUSY, AWAY = 202, 400, 429, 0


class FunctionPoster:
    """Implements topic.ports.Poster: functions by gRPC, all else by `web`."""

    def __init__(self, web: Poster, calls: Calls) -> None:
        self._web = web
        self._calls = calls

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        if not url.startswith(_FUNCTION):
            return await self._web.post(url, headers, body)
        arn = Arn.parse(url)
        request = function_pb2.InvokeRequest(
            function=url,
            payload=body,
            type="Event",
            principal=PRINCIPAL,
            source_arn=headers["x-amz-sns-topic-arn"],
        )
        try:
            scope = Scope(arn.account, arn.region)
            await self._calls.shard(FUNCTIONS_OF, scope, "FunctionService/Invoke", request, function_pb2.InvokeReply)
        except Throttled:
            return BUSY
        except (NotFound, AccessDenied, InvalidRequest):
            return REFUSED
        except CloudError:
            return AWAY
        return TAKEN

    async def close(self) -> None:
        await self._web.close()
        await self._calls.close()
