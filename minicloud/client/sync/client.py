"""Made from `minicloud/client/aio.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from typing import Unpack

from minicloud.client.aio import AsyncClient
from minicloud.client.config import ClientConfig, ClientOptions
from minicloud.client.loop import LOOP, LoopThread
from minicloud.client.sync.alarms import Alarms
from minicloud.client.sync.balancers import Balancers
from minicloud.client.sync.function_triggers import FunctionTriggers
from minicloud.client.sync.functions import Functions
from minicloud.client.sync.groups import Groups
from minicloud.client.sync.hosts import Hosts
from minicloud.client.sync.identity import Identity
from minicloud.client.sync.images import Images
from minicloud.client.sync.instance_types import Types
from minicloud.client.sync.instances import Instances
from minicloud.client.sync.key_pairs import KeyPairs
from minicloud.client.sync.logs import Logs
from minicloud.client.sync.metrics import Metrics
from minicloud.client.sync.placement_groups import PlacementGroups
from minicloud.client.sync.policies import Policies
from minicloud.client.sync.queues import Queues
from minicloud.client.sync.rules import Rules
from minicloud.client.sync.security_groups import SecurityGroups
from minicloud.client.sync.tags import Tags
from minicloud.client.sync.target_groups import TargetGroups
from minicloud.client.sync.templates import Templates
from minicloud.client.sync.topics import Topics


class Client:
    """A client of one cloud. Close it, or use it in a `with` block; it connects at the first call.

    endpoint, access_key_id, secret_access_key, region, ca: else from the environment (`ClientConfig`).
    timeout: seconds for one call, its retries included (30). retry: seconds for which UNAVAILABLE is retried (12).
    """

    def __init__(self, endpoint: str | None = None, **options: Unpack[ClientOptions]) -> None:
        self._bind(AsyncClient(endpoint, **options), LOOP)

    def _bind(self, inner: AsyncClient, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop
        self.instances = Instances(inner.instances, loop)
        self.hosts = Hosts(inner.hosts, loop)
        self.types = Types(inner.types, loop)
        self.images = Images(inner.images, loop)
        self.templates = Templates(inner.templates, loop)
        self.key_pairs = KeyPairs(inner.key_pairs, loop)
        self.placement_groups = PlacementGroups(inner.placement_groups, loop)
        self.security_groups = SecurityGroups(inner.security_groups, loop)
        self.identity = Identity(inner.identity, loop)
        self.tags = Tags(inner.tags, loop)
        self.queues = Queues(inner.queues, loop)
        self.topics = Topics(inner.topics, loop)
        self.balancers = Balancers(inner.balancers, loop)
        self.target_groups = TargetGroups(inner.target_groups, loop)
        self.functions = Functions(inner.functions, loop)
        self.triggers = FunctionTriggers(inner.triggers, loop)
        self.rules = Rules(inner.rules, loop)
        self.metrics = Metrics(inner.metrics, loop)
        self.alarms = Alarms(inner.alarms, loop)
        self.logs = Logs(inner.logs, loop)
        self.groups = Groups(inner.groups, loop)
        self.policies = Policies(inner.policies, loop)

    @property
    def config(self) -> ClientConfig:
        """What this client was configured with."""
        return self._inner.config

    def with_options(self, *, timeout: float | None = None, retry: float | None = None) -> Client:
        """The same client and connections with other times: `client.with_options(timeout=2).hosts.get("host-a")`."""
        other = Client.__new__(Client)
        other._bind(self._inner.with_options(timeout=timeout, retry=retry), self._loop)
        return other

    def close(self) -> None:
        """End its connections. Idempotent; clients made by `with_options` share them."""
        self._loop.run(self._inner.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
