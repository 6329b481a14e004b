"""A group behind a balancer on a real cloud, clients at a constant rate, and what must hold of both."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPException

from minicloud.base.errors import CloudError, NotFound
from minicloud.client import Client
from minicloud.client.balancer_models import forward
from minicloud.client.group_models import GroupMember, LifecycleHook
from minicloud.client.groups import GroupOptions
from minicloud.client.models import TemplateData
from tests.real_cloud import ends, kill, until

PORT = 8080
SERVE = f"#!/bin/sh\nsetsid python3 -m minicloud_workers.http_server --port {PORT} </dev/null &\n"
SERVE_AT_EVERY_BOOT = f"""#!/bin/sh
cat > /etc/rc.local <<'END'
{SERVE}END
chmod +x /etc/rc.local
/etc/rc.local
"""
GROUP_TAG = "aws:autoscaling:groupName"


@dataclass(frozen=True)
class Death:
    """When a victim was killed, and when nothing that went with it answered any more (monotonic seconds)."""

    killed: float
    over: float


def killed(pid: int, with_it: Iterable[int]) -> Death:
    """SIGKILL, and the end of all that goes with it."""
    with ends(with_it, 30):
        at = time.monotonic()
        kill(pid)
    return Death(at, time.monotonic())


@dataclass
class Load:
    """Requests at a constant rate until told to stop, each on a connection of its own and not waiting for others.

    `served`: by instance. `failed`: when each began and ended (monotonic seconds), and how.
    """

    url: str
    per_s: float = 25.0
    served: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[float, float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._asking: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        began, count = time.monotonic(), 0
        while not self._over.wait(max(0.0, began + count / self.per_s - time.monotonic())):
            count += 1
            one = threading.Thread(target=self._ask)
            one.start()
            self._asking = [each for each in self._asking if each.is_alive()] + [one]

    def _ask(self) -> None:
        asked = time.monotonic()
        try:
            self.served[ask(self.url)] += 1
        except (OSError, HTTPException, ValueError) as error:  # ValueError: what came was cut
            self.failed.append((asked, time.monotonic(), repr(error)))

    def unexcused(self, death: Death | None) -> list[tuple[float, float, str]]:
        """What failed, and was not in flight when what answered it died. None: nothing that carries traffic died."""
        if death is None:
            return self.failed
        return [one for one in self.failed if one[0] > death.over or one[1] < death.killed]

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        for each in self._asking:
            each.join()


def ask(url: str, timeout: float = 10) -> str:
    with urllib.request.urlopen(f"{url}/info", timeout=timeout) as reply:
        return str(json.load(reply)["instance_id"])


@dataclass
class Site:
    """A group of its name, with template, target group and balancer of the same name."""

    client: Client
    name: str
    url: str
    target_group: str

    @staticmethod
    def make(client: Client, size: int, most: int, user_data: str = SERVE, **options: object) -> Site:
        name = f"g{time.time_ns() % 10**10}"
        client.templates.create(name, TemplateData("base", "t3.nano", user_data=user_data))
        group = client.target_groups.create(
            name, PORT, path="/health", interval_s=5, timeout_s=2, healthy=2, unhealthy=2
        )
        client.balancers.set_attributes(group.arn, {"deregistration_delay.timeout_seconds": "5"})
        made = client.balancers.create(name)
        client.balancers.listen(name, 80, forward(name))
        site = Site(client, name, f"http://{made.address}", group.arn)
        site.begin(size, most, **options)
        return site

    def begin(self, size: int, most: int, hooks: tuple[LifecycleHook, ...] = (), **options: object) -> None:
        given: GroupOptions = {"target_groups": [self.target_group], "health_types": ["EC2", "ELB"], "grace_s": 30}
        given.update(options)  # type: ignore[typeddict-item]
        self.client.groups.create(
            self.name, self.name, version="$Latest", min_size=0, max_size=most, desired=size, hooks=hooks, **given
        )

    def end(self) -> None:
        self.client.groups.delete(self.name, force=True)
        try:
            self.client.groups.wait_gone(self.name, 360)
        except CloudError as error:
            raise AssertionError(self.story()) from error
        assert not self.running() and not self.targets(), self.story()
        self.client.balancers.delete(self.name)
        self.client.target_groups.delete(self.name)
        self.client.templates.delete(self.name)

    def members(self) -> list[GroupMember]:
        return list(self.client.groups.members(self.name))

    def state(self, instance_id: str) -> str:
        """Its lifecycle state; "": it is no member."""
        return next((one.lifecycle_state for one in self.members() if one.instance_id == instance_id), "")

    def in_service(self) -> set[str]:
        return {one.instance_id for one in self.members() if one.lifecycle_state == "InService"}

    def running(self) -> set[str]:
        """Instances that carry the group's name and have not ended."""
        alive = {"instance-state-name": ["pending", "running", "stopping", "stopped"], f"tag:{GROUP_TAG}": [self.name]}
        return {one.id for one in self.client.instances.list(filters=alive)}

    def targets(self) -> dict[str, str]:
        return {one.id: one.state for one in self.client.target_groups.health(self.target_group)}

    def whole(self, size: int) -> bool:
        """`size` in service, exactly these run, and exactly these are healthy targets."""
        ids = self.in_service()
        return len(ids) == size and self.running() == ids and self.targets() == dict.fromkeys(ids, "healthy")

    def await_whole(self, size: int, seconds: float = 90) -> None:
        until(lambda: self.whole(size), seconds, lambda: f"{size} in service, running and healthy: {self.story()}")

    def is_gone(self) -> bool:
        try:
            self.client.groups.get(self.name)
        except NotFound:
            return not self.running()
        return False

    def story(self) -> str:
        """All that there is to know of it, for the failure of a test."""
        groups = self.client.groups
        try:
            lines = [groups.get(self.name), *groups.members(self.name), *groups.refreshes(self.name)]
            lines += list(groups.activities(self.name))[:20]
        except CloudError as error:
            lines = [error]
        ids = self.running()
        lines += [self.client.instances.get(one) for one in sorted(ids)]
        return "\n".join(["", *map(str, lines), f"running {ids}", f"targets {self.targets()}"])
