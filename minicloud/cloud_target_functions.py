"""Functions as targets of balancers: whether one may be, and the way that requests take to it."""

from __future__ import annotations

from minicloud.balancer import errors
from minicloud.balancer.ports import Way
from minicloud.base.arn import Scope
from minicloud.base.errors import AccessDenied, NotFound
from minicloud.cloud_calls import FUNCTIONS_OF, Calls
from minicloud.proxy.front_door import LOOPBACK
from minicloud.rpc import function_target
from minicloud.rpc.function_target import FunctionTarget
from minicloud.rpc.shard_ticket import shard_of
from minicloud.settings import CloudSettings
from minicloud.wire import function_pb2

PRINCIPAL = "elasticloadbalancing.amazonaws.com"


class FunctionTargets:
    """Implements balancer.ports.Functions."""

    def __init__(self, cloud: CloudSettings, secret: bytes, calls: Calls) -> None:
        self._cloud = cloud
        self._secret = secret
        self._calls = calls

    async def admit(self, scope: Scope, group: str, function: str) -> None:
        request = function_pb2.InvokeRequest(function=function, type="DryRun", principal=PRINCIPAL, source_arn=group)
        try:
            await self._calls.shard(FUNCTIONS_OF, scope, "FunctionService/Invoke", request, function_pb2.InvokeReply)
        except NotFound:
            raise errors.bad_target(f"The following functions do not exist: '{function}'") from None
        except AccessDenied:
            raise errors.no_permission(function, group) from None

    def way(self, scope: Scope, names: tuple[str, str, str], multi: bool) -> Way:
        proof = function_target.word(self._secret, FunctionTarget(*names, multi=multi))
        place = self._cloud.functions[shard_of(scope, len(self._cloud.functions))]
        return Way(LOOPBACK, place.http_port, function_target.HEADER, proof)
