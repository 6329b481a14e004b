"""`AsyncClient`: one cloud, seen by one caller, from one event loop."""

from __future__ import annotations

from typing import Unpack

from minicloud.client.alarms import AsyncAlarms
from minicloud.client.balancers import AsyncBalancers
from minicloud.client.broker import AUTOSCALERS, BALANCERS, FUNCTIONS, Broker
from minicloud.client.config import ClientConfig, ClientOptions, resolve, with_times
from minicloud.client.function_triggers import AsyncFunctionTriggers
from minicloud.client.functions import AsyncFunctions
from minicloud.client.groups import AsyncGroups
from minicloud.client.hosts import AsyncHosts
from minicloud.client.identity import AsyncIdentity
from minicloud.client.images import AsyncImages
from minicloud.client.instance_types import AsyncTypes
from minicloud.client.instances import AsyncInstances
from minicloud.client.key_pairs import AsyncKeyPairs
from minicloud.client.logs import AsyncLogs
from minicloud.client.metrics import AsyncMetrics
from minicloud.client.placement_groups import AsyncPlacementGroups
from minicloud.client.policies import AsyncPolicies
from minicloud.client.queues import AsyncQueues
from minicloud.client.rules import AsyncRules
from minicloud.client.security_groups import AsyncSecurityGroups
from minicloud.client.tags import AsyncTags
from minicloud.client.target_groups import AsyncTargetGroups
from minicloud.client.templates import AsyncTemplates
from minicloud.client.topics import AsyncTopics
from minicloud.client.transport import Transport


class AsyncClient:
    """A client of one cloud. Close it, or use it in a `with` block; it connects at the first call.

    endpoint, access_key_id, secret_access_key, region, ca: else from the environment (`ClientConfig`).
    timeout: seconds for one call, its retries included (30). retry: seconds for which UNAVAILABLE is retried (12).
    """

    def __init__(self, endpoint: str | None = None, **options: Unpack[ClientOptions]) -> None:
        self._bind(Transport(resolve(endpoint, options)))

    def _bind(self, transport: Transport) -> None:
        self._transport = transport
        self.instances = AsyncInstances(transport)
        self.hosts = AsyncHosts(transport)
        self.types = AsyncTypes(transport)
        self.images = AsyncImages(transport)
        self.templates = AsyncTemplates(transport)
        self.key_pairs = AsyncKeyPairs(transport)
        self.placement_groups = AsyncPlacementGroups(transport)
        self.security_groups = AsyncSecurityGroups(transport)
        self.identity = AsyncIdentity(transport)
        self.tags = AsyncTags(transport)
        broker = Broker(transport)
        self.queues = AsyncQueues(broker)
        self.topics = AsyncTopics(broker)
        balancing = Broker(transport, BALANCERS)
        self.balancers = AsyncBalancers(balancing)
        self.target_groups = AsyncTargetGroups(balancing)
        functions = Broker(transport, FUNCTIONS)
        self.functions = AsyncFunctions(functions)
        self.triggers = AsyncFunctionTriggers(functions)
        self.rules = AsyncRules(functions)
        autoscaler = Broker(transport, AUTOSCALERS)
        self.metrics = AsyncMetrics(autoscaler)
        self.alarms = AsyncAlarms(autoscaler)
        self.logs = AsyncLogs(autoscaler)
        self.groups = AsyncGroups(autoscaler)
        self.policies = AsyncPolicies(autoscaler)

    @property
    def config(self) -> ClientConfig:
        """What this client was configured with."""
        return self._transport.config

    def with_options(self, *, timeout: float | None = None, retry: float | None = None) -> AsyncClient:
        """The same client and connections with other times: `client.with_options(timeout=2).hosts.get("host-a")`."""
        config = with_times(self._transport.config, timeout, retry)
        other = AsyncClient.__new__(AsyncClient)
        other._bind(self._transport.with_config(timeout_s=config.timeout_s, retry_s=config.retry_s))
        return other

    async def close(self) -> None:
        """End its connections. Idempotent; clients made by `with_options` share them."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
