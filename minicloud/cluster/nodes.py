"""Which nodes of the Ray cluster are alive, told when it changes.

The GCS publishes every node that comes or goes (channel GCS_NODE_INFO), and a subscriber asks with a long poll that is
answered when there is something to say: no polling in time. Ray's own Python subscriber is for asyncio only, and a
second grpc.aio loop in a process that has one already disturbs both, so the same two calls are made here from a thread.
What is published is only the occasion, the answer is always a fresh look at the node table: a lost message, or a GCS
that was restarted and forgot its subscribers, cannot leave a wrong picture. A long poll is given up after POLL_S, and
the table is read again then too.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import ray
from ray import _raylet
from ray._private import gcs_utils
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc, pubsub_pb2

from minicloud.cluster.ray_commands import HOST_RESOURCE_PREFIX

log = logging.getLogger("minicloud.cluster.nodes")

POLL_S = 30.0
RETRY_S = 0.2
CALL_S_MAX = 5.0
_ALIVE = 0  # GcsNodeInfo.ALIVE


@dataclass(frozen=True, slots=True)
class NodeState:
    """One Ray node. A host that came back is another node with the same host name; the dead ones stay listed."""

    ray_node_id: str
    host_name: str
    alive: bool
    address: str
    resources: dict[str, float]
    is_head: bool = False


def watch_nodes(on_change: Callable[[list[NodeState]], None], stop: threading.Event, gcs_address: str = "") -> None:
    """Call `on_change` with all nodes now, and again whenever one of them changed, until `stop` is set. Blocks.

    Runs in a thread of an actor (or of any process that was given a `gcs_address`); survives a restarted GCS.
    """
    address = gcs_address or ray.get_runtime_context().gcs_address
    seen: list[NodeState] | None = None
    subscription: _Subscription | None = None
    while not stop.is_set():
        try:
            subscription = subscription or _Subscription(address)
            now = list_nodes(address)
            if now != seen:
                seen = now
                on_change(now)
            subscription.wait(stop)
        except (grpc.RpcError, ray.exceptions.RayError, OSError) as error:
            log.info("asking the GCS again: %s", type(error).__name__)
            if subscription:
                subscription.close()
            subscription = None
            stop.wait(RETRY_S)
    if subscription:
        subscription.close()


def list_nodes(gcs_address: str) -> list[NodeState]:
    """Every node that the cluster knows, dead ones included, in no particular order but always the same."""
    table = _raylet.GcsClient(address=gcs_address).get_all_node_info(timeout=CALL_S_MAX)  # type: ignore[attr-defined]
    hostnames = Counter(node.node_manager_hostname for node in table.values() if node.state == _ALIVE)
    states = [_state(node, hostnames) for node in table.values()]
    return sorted(states, key=lambda state: (not state.is_head, state.host_name, state.ray_node_id))


def _state(node: Any, hostnames: Counter[str]) -> NodeState:
    resources = dict(node.resources_total)
    ours = [name.removeprefix(HOST_RESOURCE_PREFIX) for name in resources if name.startswith(HOST_RESOURCE_PREFIX)]
    hostname, node_id = node.node_manager_hostname, node.node_id.hex()
    # A node that is not ours is named after its machine, unless the machine has several.
    joined = hostname if hostnames[hostname] <= 1 else f"{hostname}-{node_id[:8]}"
    return NodeState(
        ray_node_id=node_id,
        host_name=ours[0] if ours else joined,
        alive=node.state == _ALIVE,
        address=node.node_manager_address,
        resources=resources,
        is_head=node.is_head_node,
    )


class _Subscription:
    """To the node channel, on a channel of its own."""

    def __init__(self, address: str) -> None:
        self._channel = gcs_utils.create_gcs_channel(address)
        self._stub = gcs_service_pb2_grpc.ControlPlanePubSubGcsServiceStub(self._channel)
        self._id = ray.NodeID.from_random().binary()  # any 28 bytes that nobody else has
        self._sequence, self._publisher = 0, b""
        command = pubsub_pb2.Command(channel_type=pubsub_pb2.GCS_NODE_INFO_CHANNEL, subscribe_message={})
        request = gcs_service_pb2.GcsSubscriberCommandBatchRequest(subscriber_id=self._id, commands=[command])
        self._stub.GcsSubscriberCommandBatch(request, timeout=CALL_S_MAX)

    def wait(self, stop: threading.Event) -> None:
        """Until something was published, or POLL_S have passed, or `stop` is set. Raises grpc.RpcError."""
        request = gcs_service_pb2.GcsSubscriberPollRequest(
            subscriber_id=self._id, max_processed_sequence_id=self._sequence, publisher_id=self._publisher
        )
        call = self._stub.GcsSubscriberPoll.future(request, timeout=POLL_S)
        answered = threading.Event()
        call.add_done_callback(lambda _: answered.set())
        while not answered.wait(1.0):
            if stop.is_set():
                call.cancel()
                return
        try:
            reply = call.result()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            raise
        self._publisher = reply.publisher_id
        self._sequence = max((message.sequence_id for message in reply.pub_messages), default=self._sequence)

    def close(self) -> None:
        self._channel.close()
