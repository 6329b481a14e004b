"""Function hosts and what is on them, as the functions processes of a cloud say: for `minicloud status`."""

from __future__ import annotations

from typing import Any

import grpc

from minicloud import settings
from minicloud.rpc import fleet_auth
from minicloud.settings import FUNCTIONS, CloudSettings
from minicloud.wire import fleet_pb2 as wire
from minicloud.wire import fleet_pb2_grpc

ASK_S_MAX = 2.0
CALLER = "status"


def ask(cloud: CloudSettings) -> list[dict[str, Any]]:
    """On the machine of the functions processes. What does not answer is left out. Blocks. Raises Internal."""
    metadata = ((fleet_auth.METADATA, fleet_auth.token(settings.read_secret(cloud), CALLER)),)
    found: list[dict[str, Any]] = []
    for number in range(len(cloud.functions)):
        with grpc.insecure_channel(f"unix:{cloud.shard_socket(FUNCTIONS, number)}") as channel:
            stub: Any = fleet_pb2_grpc.FunctionHostServiceStub(channel)  # type: ignore[no-untyped-call]
            try:
                said = stub.ListFunctionHosts(wire.FunctionHostsAsked(), timeout=ASK_S_MAX, metadata=metadata)
            except grpc.RpcError:
                continue
        found += map(_shown, said.hosts)
    return found


def _shown(one: wire.FunctionHostNow) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        "environments_busy": one.busy,
        "environments_warm": one.warm,
        "environments_starting": one.starting,
        "memory_mib": one.memory_mib,
        "memory_promised_mib": one.promised_mib,
    }
