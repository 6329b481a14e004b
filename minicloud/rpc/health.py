"""grpc.health.v1 behind our door: the state of each service of one server, and "" for the whole.

Check of an unknown service is NOT_FOUND; Watch of one says SERVICE_UNKNOWN and goes on, as the protocol wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2 as wire

from minicloud.base.errors import NotFound

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["Health"]
_State = wire.HealthCheckResponse


class Health:
    """Everything serves until told otherwise. Used from one event loop."""

    def __init__(self, services: Iterable[str]) -> None:
        self._states: dict[str, int] = dict.fromkeys(["", *services], _State.SERVING)
        self._changed = asyncio.Event()

    def set(self, service: str, serving: bool) -> None:
        """Raises KeyError for a service that this server does not have."""
        self._states[service]  # must be known
        self._states[service] = _State.SERVING if serving else _State.NOT_SERVING
        self._wake()

    def set_all(self, serving: bool) -> None:
        self._states = dict.fromkeys(self._states, _State.SERVING if serving else _State.NOT_SERVING)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: wire.HealthCheckRequest, _caller: object) -> wire.HealthCheckResponse:
        state = self._states.get(request.service)
        if state is None:
            raise NotFound("There is no such service here.", field="service")
        return _State(status=state)

    # Part of the protocol since 2025; bound where the installed grpcio-health-checking knows it.
    async def List(self, _request: wire.HealthListRequest, _caller: object) -> wire.HealthListResponse:
        return wire.HealthListResponse(statuses={name: _State(status=state) for name, state in self._states.items()})

    async def Watch(self, request: wire.HealthCheckRequest, _caller: object) -> AsyncIterator[wire.HealthCheckResponse]:
        last = None
        while True:
            changed = self._changed
            state = self._states.get(request.service, _State.SERVICE_UNKNOWN)
            if state != last:
                yield _State(status=state)
                last = state
            await changed.wait()
