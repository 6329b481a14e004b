"""Ray's table of actors, asked of the GCS itself: which instances have an actor, and an end for one of them.

Instances' actors have no name in Ray. Naming one is a round trip to the GCS before the rest of its creation begins,
with the thread that asks waiting for it: 5 of the 25 ms of a launch. What a name would do is done otherwise (decision
015): each carries its instance and generation as a label, by which this table finds it.
"""

from __future__ import annotations

from typing import Any

import grpc

from minicloud.base.errors import Unavailable

LABEL = "minicloud-instance"
RPC_S_MAX = 10.0
_COMING = ("DEPENDENCIES_UNREADY", "PENDING_CREATION")
_LIVING = (*_COMING, "ALIVE", "RESTARTING")


class ActorTable:
    """Blocks: call it on threads, any number at once. Everything raises Unavailable where the GCS does not answer."""

    def __init__(self, namespace: str) -> None:
        """namespace: the cloud's. In a process that is connected to Ray."""
        self._namespace = namespace
        self._stub: Any = None

    def living(self) -> dict[str, list[str]]:
        """Label -> ids of the actors that there are or will be: one, unless two control planes were at work."""
        found: dict[str, list[str]] = {}
        for state in _LIVING:
            for actor in self._ask(state=_number_of(state)):
                if actor.ray_namespace == self._namespace and LABEL in actor.labels:
                    found.setdefault(actor.labels[LABEL], []).append(actor.actor_id.hex())
        return found

    def is_dead(self, actor_id: str) -> bool:
        """One that the GCS has not heard of is not dead: it is on its way there."""
        return self._state(actor_id) == _number_of("DEAD")

    def is_coming(self, actor_id: str) -> bool:
        """Ray looks for a place, or a worker, for it."""
        return self._state(actor_id) in [_number_of(state) for state in _COMING]

    def kill(self, actor_id: str) -> None:
        """For good. One that is gone is fine."""
        from ray.core.generated import gcs_service_pb2

        request = gcs_service_pb2.KillActorViaGcsRequest(
            actor_id=bytes.fromhex(actor_id), force_kill=True, no_restart=True
        )
        self._call("KillActorViaGcs", request)

    def _state(self, actor_id: str) -> int | None:
        found = self._ask(actor_id=bytes.fromhex(actor_id))
        return found[0].state if found else None

    def _ask(self, **filters: Any) -> list[Any]:
        from ray.core.generated import gcs_service_pb2

        kind = gcs_service_pb2.GetAllActorInfoRequest
        return list(self._call("GetAllActorInfo", kind(filters=kind.Filters(**filters))).actor_table_data)

    def _call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._connected(), method)(request, timeout=RPC_S_MAX)
        except grpc.RpcError as error:
            raise Unavailable(f"Ray does not say which actors there are: {error.details()}") from None

    def _connected(self) -> Any:
        """With Ray's own credentials."""
        if self._stub is None:
            import ray
            from ray._private.grpc_utils import init_grpc_channel
            from ray.core.generated import gcs_service_pb2_grpc

            address = ray.get_runtime_context().gcs_address
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_reconnect_backoff_ms", 1000)]
            self._stub = gcs_service_pb2_grpc.ActorInfoGcsServiceStub(init_grpc_channel(address, options))
        return self._stub


def _number_of(state: str) -> int:
    from ray.core.generated import gcs_pb2

    return int(gcs_pb2.ActorTableData.ActorState.Value(state))
