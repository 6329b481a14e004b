"""Groups whose world dies in the middle of what they do: they end as they were asked to, and clients notice next to
nothing.

Victims: autoscaler, balancer process, HAProxy, control plane, an instance, a host (its raylet). Moments: a scale-out, a
refresh, a lifecycle hook; clients ask at a constant rate through all of it. Always: as many in service as desired,
never more than max on the way, no instance that nobody owns, no target left behind; and each request that failed was in
flight when what answered it died: it had begun before the death was over, and had not ended before the kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.client import Client
from minicloud.cloud_calls import Calls
from minicloud.cloud_launches import Launches
from minicloud.scaling.orders import Launch
from minicloud.settings import CloudSettings, read_secret
from tests.group_site import SERVE_AT_EVERY_BOOT, Death, Load, Site, killed
from tests.real_cloud import RealCloud, kill, real_cloud, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.ray]

HOSTS = 2
MOST = 4
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")


@pytest.fixture(scope="module")
def cloud() -> Iterator[RealCloud]:
    with real_cloud("--hosts", str(HOSTS)) as made:
        yield made


@pytest.fixture
def client(cloud: RealCloud) -> Iterator[Client]:
    with cloud.client() as made:
        yield made


@dataclass
class Guard:
    """Looks again and again how many members count for a group: never more than its max."""

    site: Site
    most: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            try:
                states = [one.lifecycle_state for one in self.site.members()]
            except CloudError:
                continue  # it is being restarted
            self.most = max(self.most, sum(state in COUNTED for state in states))

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self.most


def haproxy(cloud: RealCloud) -> int:
    rows = json.loads((cloud.data / "run" / "balancer-0.json").read_text())["processes"]
    return int(rows[-1]["pid"])


ACTORS = {"autoscaler": "Autoscaler", "balancer": "Balancer", "control plane": "ControlPlane"}
PROCESSES = [*ACTORS, "haproxy", "instance"]


def strike(cloud: RealCloud, site: Site, victim: str, instance_id: str = "") -> Death | None:
    """SIGKILL. None: nothing that carries traffic died. instance_id: in the place of one that is in service."""
    if victim in ACTORS:
        kill(cloud.actor_pids(ACTORS[victim])[0])
        return None
    if victim == "haproxy":
        pid = haproxy(cloud)
        return killed(pid, [pid])
    doomed = {instance_id or min(site.in_service())}
    if victim == "host":
        doomed = {one.id for one in site.client.instances.list() if one.host_name == "host-b"}
    guests = [pid for one in doomed for pid in cloud.guest_pids(one)]
    death = killed(cloud.pid_of("raylet:host-b") if victim == "host" else guests[0], guests)
    until(lambda: not any(cloud.guest_pids(one) for one in doomed), 30, "the guests are gone")
    return replace(death, over=time.monotonic()) if victim == "host" else death


@dataclass
class Trial:
    """What befell clients and the group meanwhile."""

    site: Site
    load: Load
    death: Death | None = None


@contextlib.contextmanager
def trial(site: Site) -> Iterator[Trial]:
    """Clients and a guard, from two instances that serve to whatever comes of it."""
    guard, made = Guard(site), Trial(site, Load(site.url))
    try:
        until(lambda: len(made.load.served) == 2, 30, site.story)
        yield made
    finally:
        made.load.stop()
        most = guard.stop()
    assert most <= MOST
    failed = len(made.load.failed)
    print(f"failed {failed} of {made.load.served.total() + failed}; {made.death}")
    assert not made.load.unexcused(made.death), made.death


@pytest.fixture
def site(client: Client) -> Iterator[Site]:
    """Two in service. Of each test its own: a group remembers that instances died young."""
    until(lambda: all(host.state == "up" for host in client.hosts.list()), 60, "all hosts are up")
    made = Site.make(client, 2, MOST)
    made.await_whole(2)
    yield made
    made.end()


def mid_scale_out(cloud: RealCloud, site: Site, victim: str) -> None:
    with trial(site) as made:
        site.client.groups.set_desired(site.name, MOST)
        until(lambda: len(site.members()) > 2, 10, site.story)
        made.death = strike(cloud, site, victim)
        site.await_whole(MOST, 120)
        site.client.groups.set_desired(site.name, 2)
        site.await_whole(2)


def mid_refresh(cloud: RealCloud, site: Site, victim: str) -> None:
    before, groups = site.in_service(), site.client.groups
    with trial(site) as made:
        begun = groups.start_refresh(site.name, min_healthy=100, max_healthy=200, warmup_s=2)
        until(lambda: len(site.members()) > 2, 30, site.story)
        made.death = strike(cloud, site, victim)
        try:
            done = groups.wait_refresh(site.name, begun.id, 150)
        except CloudError as error:
            raise AssertionError(site.story()) from error
        assert done.status == "Successful", site.story()
        site.await_whole(2)
        assert not site.in_service() & before


def mid_hook(cloud: RealCloud, site: Site, victim: str) -> None:
    """The instance that is killed is the one that waits."""
    groups = site.client.groups
    groups.put_hook(site.name, "ready", "launching", timeout_s=300, default_result="ABANDON")

    def waiting() -> str:
        return next((one.instance_id for one in site.members() if one.lifecycle_state == "Pending:Wait"), "")

    def proceed() -> bool:
        """Whoever waits is told to go on: that of before, and those that come for the ones that died."""
        for one in site.members():
            for wait in one.waits:
                with contextlib.suppress(CloudError):  # it ended meanwhile
                    groups.complete_action(site.name, wait.hook, "CONTINUE", token=wait.token)
        return site.whole(3)

    with trial(site) as made:
        groups.set_desired(site.name, 3)
        made.death = strike(cloud, site, victim, until(waiting, 60, site.story))
        until(proceed, 120, site.story)


MOMENTS = {"scale-out": mid_scale_out, "refresh": mid_refresh, "hook": mid_hook}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", PROCESSES)
def test_a_process_dies(cloud: RealCloud, site: Site, victim: str, moment: str) -> None:
    MOMENTS[moment](cloud, site, victim)


def test_the_autoscaler_dies_again_and_again(cloud: RealCloud, client: Client, site: Site) -> None:
    """A change every second, a kill every two: in the end the group is what was asked for last."""
    guard = Guard(site)
    try:
        for desired in (4, 1, 3, 0, 4, 2):
            client.groups.set_desired(site.name, desired)
            time.sleep(1.0)
            for pid in cloud.actor_pids("Autoscaler"):
                kill(pid)
            time.sleep(1.0)
        site.await_whole(2, 120)
    finally:
        most = guard.stop()
    assert most <= MOST


def test_an_orphan_is_ended_and_a_detached_instance_is_not(cloud: RealCloud, client: Client, site: Site) -> None:
    """An orphan: what the sweep after a start is for, though no way to one is known."""
    left, kept = sorted(site.in_service())
    client.groups.detach(site.name, left, decrement=True)
    until(lambda: site.running() == {kept}, 30, "it does not carry the group's name any more")
    orphan = asyncio.run(launch_unknown(cloud, site.name))
    assert site.running() == {kept, orphan}
    kill(cloud.actor_pids("Autoscaler")[0])
    until(lambda: site.running() == {kept}, 30, "the orphan is ended")
    assert client.instances.get(left).state == client.instances.get(kept).state == "running"
    client.instances.terminate(left)


async def launch_unknown(cloud: RealCloud, group: str) -> str:
    settings = CloudSettings.from_json(json.dumps(cloud.state()["settings"]))
    calls = Calls(settings, read_secret(settings), "autoscaler-0")
    found = await Launches(calls, lambda _: Scope()).template(Scope(), group, "")
    order = Launch(Scope().key(group), 99, "nobody's", "", "", found[0], "")
    answer = await Launches(calls, lambda _: Scope()).launch(order)
    await calls.close()
    return answer.instance_id


def test_a_cloud_that_goes_down_and_comes_up_has_the_groups_that_it_had(cloud: RealCloud, client: Client) -> None:
    site = Site.make(client, 2, MOST, SERVE_AT_EVERY_BOOT)
    site.await_whole(2)
    before = site.in_service()
    cloud.down()
    cloud.up()
    with cloud.client() as client:
        again = replace(site, client=client)
        again.await_whole(2)
        assert again.in_service() == before
        again.end()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_host_dies(cloud: RealCloud, site: Site, moment: str) -> None:
    """The last ones: a host needs a while to come back."""
    MOMENTS[moment](cloud, site, "host")
