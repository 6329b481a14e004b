"""Functions as targets of load balancers: requests that a balancer's proxy passes on, and the invocations behind them.

Who asks is a balancer where the header says so and is signed; it may invoke what the function's policy lets it. A
function that fails, or is gone, is a 502, as the ALB guide has it, and counts in its target group's metrics.
"""

from __future__ import annotations

from collections.abc import Callable

from minicloud.aws.wire import Answer, Request
from minicloud.base.arn import Arn, Scope
from minicloud.base.errors import CloudError, Internal, Unauthenticated, Unavailable
from minicloud.function import balanced, invoking
from minicloud.function.invoking import Origin
from minicloud.function.service import FunctionService
from minicloud.function.web import Asked, Told
from minicloud.rpc.function_target import HEADER, FunctionTarget

PRINCIPAL = "elasticloadbalancing.amazonaws.com"
OURS, THEIRS, BYTES = "LambdaInternalError", "LambdaUserError", "LambdaTargetProcessedBytes"
_HEADER = HEADER.lower()


class TargetHandler:
    """For `AwsFace.start({header: handler})`. `read`: whose a request is; raises Unauthenticated."""

    def __init__(self, service: FunctionService, read: Callable[[str], FunctionTarget]) -> None:
        self._service = service
        self._read = read

    async def __call__(self, request: Request) -> Answer:
        try:
            target = self._read(request.headers[_HEADER])
        except Unauthenticated:
            return _answer(balanced.page(403))
        if "upgrade" in request.headers:
            return _answer(balanced.page(400))
        if len(request.body) > balanced.BYTES_MAX:
            return _answer(balanced.page(413))
        try:
            told = await self._invoke(target, request)
        except (Unavailable, Internal):
            return self._failed(target, OURS)
        except CloudError:
            return self._failed(target, THEIRS)
        if told is None:
            return self._failed(target, THEIRS)
        self._count(target, BYTES, len(request.body) + len(told.body))
        return _answer(told)

    async def _invoke(self, target: FunctionTarget, request: Request) -> Told | None:
        """None: it failed, or its result is none. Raises as FunctionService.invoke does."""
        headers = {name: value for name, value in request.headers.items() if name != _HEADER}
        asked = Asked(request.method, request.path, request.query, headers, request.body, request.peer)
        try:
            payload = balanced.event(asked, request.repeated, target.group, target.multi)
        except UnicodeDecodeError:
            return None
        arn = Arn.parse(target.function)
        wanted = invoking.Request(
            Scope(arn.account, arn.region),
            target.function,
            payload,
            trace_id=headers.get("x-amzn-trace-id", ""),
            origin=Origin(PRINCIPAL, target.group),
        )
        outcome = (await self._service.invoke(wanted)).outcome
        if outcome.function_error or len(outcome.payload) > balanced.BYTES_MAX:
            return None
        return balanced.told(outcome.payload, target.multi)

    def _failed(self, target: FunctionTarget, metric: str) -> Answer:
        self._count(target, metric, 1)
        return _answer(balanced.page(502))

    def _count(self, target: FunctionTarget, metric: str, added: int) -> None:
        self._service.meter.balanced(target.balancer, target.group, metric, added)


def _answer(told: Told) -> Answer:
    return Answer(told.status, told.content_type, told.body, told.headers)
