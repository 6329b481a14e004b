"""The fast placement chooses what the dumb one chooses, on random fleets; and the rules, one by one, on small ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicloud.base.errors import CloudError, InvalidParameterCombination, InvalidParameterValue, NotFound
from minicloud.base.shape import Shape
from minicloud.compute import ranking
from minicloud.compute.columns import Changes
from minicloud.compute.fleet import stable_tie
from minicloud.compute.placement import (
    Dimension,
    Fleet,
    GroupKind,
    GroupMember,
    HostView,
    Placement,
    PlacementRequest,
    Rejection,
    Spot,
    Strategy,
    place,
)
from tests.pure.placement_twin import Twin, TwinHost, amounts

ZONES = ("a", "b", "c")
SHAPES = (
    Shape(0.5, 512),
    Shape(2, 8192),
    Shape(2, 4096),
    Shape(4, 8192),
    Shape(4, 16384, 0.125),
    Shape(1, 2048, 1),
    Shape(2, 2048, 0, 70),
    Shape(0, 1024),
    Shape(),
)
TOTALS = (Shape(8, 16384), Shape(8, 32768, 2, 100), Shape(6.4, 24576, 1), Shape(32, 65536, 0, 500))


def weak_tie(host_id: str) -> int:
    """Collides all the time, so that the ids must decide."""
    return sum(host_id.encode()) % 2


class Pair:
    """The fleet and its twin, changed together and asked together."""

    def __init__(self, weak: bool = False) -> None:
        tie = weak_tie if weak else stable_tie
        self.fleet, self.twin = Fleet(tie), Twin(tie)

    def upsert(self, view: HostView) -> None:
        known = self.twin.hosts.get(view.host_id)
        used = amounts(view.used) if view.used is not None else known.used if known else [0, 0, 0, 0]
        self.fleet.upsert(view)
        self.twin.hosts[view.host_id] = TwinHost(
            view.host_id,
            view.zone,
            view.arch,
            amounts(view.total),
            list(used),
            view.cordoned,
            view.schedulable,
            view.gpu_name,
        )

    def remove(self, host_id: str) -> None:
        self.fleet.remove(host_id)
        del self.twin.hosts[host_id]

    def use(self, host_id: str, shape: Shape, count: int) -> None:
        if count > 0:
            self.fleet.reserve(host_id, shape, count)
        else:
            self.fleet.release(host_id, shape, -count)
        self.twin.use(host_id, shape, count)

    def place(self, request: PlacementRequest) -> tuple[Spot, ...]:
        """What both agree on; no spots if both reject."""
        fast, dumb = place(self.fleet, request), self.twin.place(request)
        if isinstance(fast, Placement):
            assert list(fast.spots) == dumb
            return fast.spots
        assert isinstance(dumb, dict), f"the twin places on {dumb}"
        assert {host.host_id: {str(one.dimension) for one in host.failures} for host in fast.hosts} == dumb
        assert all(host.failures for host in fast.hosts)
        assert 0 < len(fast.summary()) <= 512
        return ()


def random_view(rand: random.Random) -> HostView:
    total = rand.choice(TOTALS)
    return HostView(
        host_id=f"h-{rand.randrange(12)}",
        zone=rand.choice(ZONES),
        arch=rand.choice(("x86_64", "x86_64", "arm64")),
        total=total,
        used=rand.choice((None, None, Shape(), Shape(2, 4096), Shape(7.5, 16000, 0.5), total)),
        cordoned=rand.random() < 0.1,
        schedulable=rand.random() > 0.1,
        gpu_name=rand.choice(("", "", "L4", "T4")) if total.gpus else "",
    )


def random_request(rand: random.Random) -> PlacementRequest:
    group = rand.choice((None, None, *get_args(GroupKind)))
    strategy = rand.choice(get_args(Strategy))
    partitions = rand.randint(1, 4) if group == "partition" else 0
    members = [
        GroupMember(f"h-{rand.randrange(14)}", rand.choice(ZONES), rand.randint(min(1, partitions), partitions))
        for _ in range(rand.choice((0, 0, 1, 2, 5, 9)) if group or strategy == "spread" else 0)
    ]
    low = rand.choice((1, 1, 1, 2, 5))
    host_id = rand.choice((None, None, None, None, "h-1", "h-12"))
    return PlacementRequest(
        shape=rand.choice(SHAPES),
        arch=rand.choice(("x86_64", "x86_64", "arm64")),
        label="m5.large",
        count_min=low,
        count_max=low + rand.choice((0, 0, 1, 9)),
        zone=rand.choice((None, None, None, *ZONES)),
        strategy=strategy,
        host_id=host_id,
        gpu_name=rand.choice(("", "", "L4")),
        group=group,
        members=tuple(members),
        partitions=partitions,
        partition=rand.randint(0, partitions),
        restart=host_id is not None and rand.random() < 0.5,
    )


# Seeds, because a fleet drawn choice by choice costs hypothesis ten times what it costs to place on it.
seeds = st.binary(min_size=8, max_size=8)
views = seeds.map(lambda seed: random_view(random.Random(seed)))
requests = seeds.map(lambda seed: random_request(random.Random(seed)))


@pytest.fixture(params=["real sizes", "short lists", "short log, few lists"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny caches make small fleets walk through every renewal, cut and lost log that big ones meet."""
    if request.param == "short lists":
        monkeypatch.setattr(ranking, "_LISTED", 2)
        monkeypatch.setattr(ranking, "_LISTED_MAX", 4)
    elif request.param != "real sizes":
        monkeypatch.setattr(ranking, "_LISTS_MAX", 3)
        monkeypatch.setattr(Changes.__init__, "__defaults__", (3,))


@pytest.mark.parametrize("seed", range(4))
def test_same_choice_and_same_reasons_as_the_twin(seed: int) -> None:
    """Two thousand random fleets and requests."""
    rand = random.Random(seed)
    for _ in range(500):
        pair = Pair(weak=rand.random() < 0.3)
        for _ in range(rand.choice((0, 2, 6, 12, 20))):
            pair.upsert(random_view(rand))
        pair.place(random_request(rand))


@pytest.mark.usefixtures("sizes")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(views, requests, requests, st.integers(0, 30)), min_size=5, max_size=40), st.booleans())
def test_same_history_same_choices(steps: list[HostView | PlacementRequest | int], weak: bool) -> None:
    """Hosts join, change and go, placements are taken up and given back; at every step both agree."""
    pair = Pair(weak)
    running: list[tuple[str, Shape]] = []
    for step in steps:
        if isinstance(step, HostView):
            pair.upsert(step)
        elif isinstance(step, PlacementRequest):
            for spot in pair.place(step):
                pair.use(spot.host_id, step.shape, 1)
                running.append((spot.host_id, step.shape))
        elif step < 12 and f"h-{step}" in pair.fleet:
            pair.remove(f"h-{step}")
            running = [one for one in running if one[0] != f"h-{step}"]
        elif running:
            pair.use(*running.pop(step % len(running)), -1)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("weak", [False, True], ids=["ties differ", "ties collide"])
def test_a_fuller_fleet_through_its_whole_life(weak: bool) -> None:
    """Enough hosts and placements that lists are used up, cut back and renewed; hosts of new kinds join in between."""
    rand, pair = random.Random(7), Pair(weak)
    running: list[tuple[str, Shape]] = []
    zones: list[str] = []
    for step in range(500):
        if step % 80 == 0:
            zones.append(f"z{step}")
            for number in range(12):
                pair.upsert(HostView(f"h-{step}-{number}", zones[-1], "x86_64", rand.choice(TOTALS)))
        shape = rand.choice(SHAPES[1:5])
        strategy: Strategy = "spread" if rand.random() < 0.1 else "binpack"
        wanted = PlacementRequest(shape, "x86_64", zone=rand.choice((None, None, None, zones[0])), strategy=strategy)
        for spot in pair.place(wanted):
            pair.use(spot.host_id, shape, 1)
            running.append((spot.host_id, shape))
        if step % 3 == 0:
            pair.use(*running.pop(rand.randrange(len(running))), -1)
        if step % 5 == 0:
            view = pair.fleet.host(rand.choice(list(pair.twin.hosts)))
            pair.upsert(replace(view, used=None, cordoned=not view.cordoned))
    assert len(running) > 200


@settings(max_examples=100, deadline=None)
@given(st.lists(views, max_size=8, unique_by=lambda view: view.host_id), requests, st.randoms())
def test_the_order_in_which_hosts_joined_does_not_matter(
    hosts: list[HostView], wanted: PlacementRequest, rand: random.Random
) -> None:
    answers = []
    for _ in range(2):
        fleet = Fleet()
        for view in hosts:
            fleet.upsert(view)
        answer = place(fleet, wanted)
        answers.append(answer.spots if isinstance(answer, Placement) else (answer.summary(), answer.hosts))
        rand.shuffle(hosts)
    assert answers[0] == answers[1]


@settings(max_examples=100, deadline=None)
@given(st.lists(views, max_size=10), requests)
def test_no_host_is_sold_twice(hosts: list[HostView], wanted: PlacementRequest) -> None:
    fleet = Fleet()
    for view in hosts:
        fleet.upsert(view)
    answer = place(fleet, wanted)
    spots = answer.spots if isinstance(answer, Placement) else ()
    for host_id, count in Counter(spot.host_id for spot in spots).items():
        fleet.reserve(host_id, wanted.shape, count)
        host = fleet.host(host_id)
        assert host.used is not None
        left = host.total - host.used
        for amount in ("vcpus", "memory_mib", "gpus", "disk_gib"):
            assert getattr(left, amount) >= 0 or getattr(wanted.shape, amount) == 0


# --- the rules, one by one


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two zones of three hosts with 8 vCPUs and 16 GiB."""
    fleet = Fleet()
    for number in range(6):
        fleet.upsert(HostView(f"h-{number}", "ab"[number % 2], "x86_64", Shape(8, 16384)))
    yield fleet


SMALL = Shape(2, 4096)


def spots(fleet: Fleet, shape: Shape = SMALL, **more: Any) -> list[Spot]:
    answer = place(fleet, PlacementRequest(shape, "x86_64", **more))
    assert isinstance(answer, Placement), answer.summary()
    return list(answer.spots)


def rejection(fleet: Fleet, shape: Shape = SMALL, **more: Any) -> Rejection:
    answer = place(fleet, PlacementRequest(shape, "x86_64", **more))
    assert isinstance(answer, Rejection)
    return answer


def test_binpack_fills_the_fullest_host_first(fleet: Fleet) -> None:
    fleet.reserve("h-3", Shape(4, 8192))
    fleet.reserve("h-5", Shape(1, 1024))
    assert [spot.host_id for spot in spots(fleet, count_max=5)] == ["h-3", "h-3", "h-5", "h-5", "h-5"]


def test_placing_reserves_nothing(fleet: Fleet) -> None:
    assert spots(fleet, count_max=9) == spots(fleet, count_max=9)
    assert fleet.host("h-0").used == Shape()


def test_a_batch_gets_what_single_launches_get(fleet: Fleet) -> None:
    batch = spots(fleet, count_max=10)
    single = []
    for _ in range(10):
        single += spots(fleet)
        fleet.reserve(single[-1].host_id, SMALL)
    assert batch == single


def test_a_batch_takes_as_many_as_fit_but_at_least_the_minimum(fleet: Fleet) -> None:
    assert len(spots(fleet, count_min=1, count_max=100)) == 24
    short = rejection(fleet, count_min=25, count_max=100, label="t3.medium")
    assert short.placed == 24
    assert short.summary().startswith(
        "there is room for 24 of the 25 instances needed, no host can hold one more t3.medium (2 vCPUs, 4096 MiB): "
    )


def test_spread_goes_over_zones_then_hosts(fleet: Fleet) -> None:
    chosen = spots(fleet, strategy="spread", count_max=6)
    assert {spot.host_id for spot in chosen} == {f"h-{number}" for number in range(6)}
    assert all({one.zone, two.zone} == {"a", "b"} for one, two in zip(chosen[::2], chosen[1::2], strict=True))


def test_spread_keeps_away_from_members_before_emptiness(fleet: Fleet) -> None:
    for host_id in ("h-0", "h-2"):
        fleet.reserve(host_id, Shape(6, 1024))
    members = tuple(GroupMember(host_id, zone) for host_id, zone in (("h-1", "b"), ("h-3", "b"), ("h-4", "a")))
    assert spots(fleet, strategy="spread", members=members)[0].host_id in ("h-0", "h-2")


def test_cluster_stays_in_one_zone_and_on_few_hosts(fleet: Fleet) -> None:
    fleet.reserve("h-1", Shape(6, 1024))
    chosen = spots(fleet, group="cluster", count_max=12)
    assert {spot.zone for spot in chosen} == {"a"}  # zone b has room for 9 only
    follower = spots(fleet, group="cluster", members=(GroupMember("h-3", "b"),))
    assert follower == [Spot("h-3", "b")]
    assert rejection(fleet, group="cluster", count_min=13, count_max=13).counts[Dimension.GROUP] == 3


def test_the_rest_of_a_cluster_batch_goes_where_it_leaves_least() -> None:
    fleet = Fleet()
    for number, used in enumerate((Shape(), Shape(4, 8192), Shape(6, 12288))):  # room for 4, 2, 1
        fleet.upsert(HostView(f"h-{number}", "a", "x86_64", Shape(8, 16384), used))
    assert [spot.host_id for spot in spots(fleet, group="cluster", count_max=5)] == ["h-0"] * 4 + ["h-2"]


def test_spread_group_is_one_per_host_and_seven_per_zone() -> None:
    fleet = Fleet()
    for number in range(20):
        fleet.upsert(HostView(f"h-{number:02}", "ab"[number % 2], "x86_64", Shape(8, 16384)))
    chosen = spots(fleet, group="spread", count_max=20)
    assert Counter(spot.zone for spot in chosen) == {"a": 7, "b": 7}
    assert len({spot.host_id for spot in chosen}) == 14
    full = rejection(fleet, group="spread", members=tuple(GroupMember(*spot) for spot in chosen), label="m5.large")
    assert full.counts == {Dimension.GROUP: 20}
    assert "the spread placement group rules out 20 hosts" in full.summary()


def test_partitions_share_no_host_and_are_balanced(fleet: Fleet) -> None:
    chosen = spots(fleet, group="partition", partitions=3, count_max=12)
    owners: dict[str, set[int]] = {}
    for spot in chosen:
        owners.setdefault(spot.host_id, set()).add(spot.partition)
    assert all(len(partitions) == 1 for partitions in owners.values())
    assert set(Counter((spot.zone, spot.partition) for spot in chosen).values()) == {2}


def test_a_chosen_partition_avoids_the_hosts_of_the_others(fleet: Fleet) -> None:
    members = tuple(GroupMember(f"h-{number}", "ab"[number % 2], 1) for number in range(5))
    assert spots(fleet, group="partition", partitions=2, partition=2, members=members) == [Spot("h-5", "b", 2)]
    none = rejection(fleet, group="partition", partitions=2, partition=2, members=members, zone="a")
    assert {str(one.failures[0]) for one in none.hosts if one.zone == "a"} == {
        "partition placement group: it belongs to partition 1"
    }


def test_a_restart_ignores_the_cordon_of_its_own_host_only(fleet: Fleet) -> None:
    for number in range(6):
        fleet.upsert(HostView(f"h-{number}", "ab"[number % 2], "x86_64", Shape(8, 16384), cordoned=True))
    assert spots(fleet, host_id="h-2", restart=True) == [Spot("h-2", "a")]
    assert rejection(fleet, host_id="h-2").summary().endswith("state: needs ready, is cordoned")
    fleet.upsert(HostView("h-2", "a", "x86_64", Shape(8, 16384), schedulable=False))
    assert rejection(fleet, host_id="h-2", restart=True).summary().endswith("state: needs ready, is not ready")


def test_gpu_models_must_agree_where_both_name_one(fleet: Fleet) -> None:
    fleet.upsert(HostView("h-gpu", "a", "x86_64", Shape(8, 16384, 1), gpu_name="L4"))
    one = Shape(2, 4096, 0.5)
    assert spots(fleet, one, gpu_name="L4") == spots(fleet, one) == [Spot("h-gpu", "a")]
    assert rejection(fleet, one, gpu_name="T4").counts == {Dimension.GPU_MODEL: 1, Dimension.GPUS: 6}
    fleet.upsert(HostView("h-gpu", "a", "x86_64", Shape(8, 16384, 1)))
    assert spots(fleet, one, gpu_name="T4") == [Spot("h-gpu", "a")]


def test_work_without_gpus_leaves_gpu_hosts_for_last(fleet: Fleet) -> None:
    fleet.upsert(HostView("h-gpu", "a", "x86_64", Shape(8, 16384, 4)))
    assert "h-gpu" not in [spot.host_id for spot in spots(fleet, count_max=24)]


# --- reasons


def test_every_failed_dimension_has_its_amounts(fleet: Fleet) -> None:
    fleet.reserve("h-0", Shape(7, 12288))
    found = rejection(fleet, Shape(16, 8192), zone="a")
    host = next(one for one in found.hosts if one.host_id == "h-0")
    assert [str(one) for one in host.failures] == ["vCPUs: needs 16, free 1", "memory: needs 8192 MiB, free 4096 MiB"]
    assert [one.host_id for one in found.hosts] == sorted(f"h-{number}" for number in range(6))


def test_the_sentence_for_the_user(fleet: Fleet) -> None:
    fleet.reserve("h-2", Shape(0, 12288))
    fleet.upsert(HostView("h-4", "a", "x86_64", Shape(8, 16384), cordoned=True))
    fleet.upsert(HostView("h-arm", "a", "arm64", Shape(8, 65536)))
    assert rejection(fleet, Shape(4, 32768), zone="a", label="r5.xlarge").summary() == (
        "no host can hold r5.xlarge (4 vCPUs, 32768 MiB): "
        "memory short on 2 hosts (h-0: needs 32768 MiB, free 16384 MiB), "
        "zone 'a' was asked for and 3 hosts elsewhere left out, 1 host not x86_64, 1 host cordoned"
    )


def test_large_amounts_are_written_out(fleet: Fleet) -> None:
    assert "needs 9999999 MiB, free 16384 MiB" in rejection(fleet, Shape(1, 9_999_999)).summary()


def test_the_sentence_is_bounded_and_speaks_of_an_empty_fleet(fleet: Fleet) -> None:
    assert len(rejection(fleet, Shape(99, 1), label="x" * 9999).summary()) <= 512
    assert rejection(Fleet(), label="m5.large").summary().endswith("there are no hosts")
    gone = rejection(fleet, host_id="h-x")
    assert gone.summary() == "host h-x cannot hold an instance (2 vCPUs, 4096 MiB): it does not exist"


def test_a_rejection_keeps_the_facts_of_its_moment(fleet: Fleet) -> None:
    found = rejection(fleet, Shape(9, 1024))
    for number in range(6):
        fleet.remove(f"h-{number}")
    assert len(found.hosts) == 6


# --- the fleet's books


def test_a_host_that_comes_back_smaller_is_over_full_and_gets_no_more(fleet: Fleet) -> None:
    fleet.reserve("h-0", Shape(8, 16384))
    fleet.upsert(HostView("h-0", "a", "x86_64", Shape(4, 8192)))
    assert fleet.host("h-0").used == Shape(8, 16384)
    assert rejection(fleet, host_id="h-0").hosts[0].failures[0].free == -4
    fleet.release("h-0", Shape(8, 16384))
    assert spots(fleet, host_id="h-0") == [Spot("h-0", "a")]


def test_unknown_hosts_are_refused_by_name(fleet: Fleet) -> None:
    for act in (lambda: fleet.reserve("h-x", SMALL), lambda: fleet.remove("h-x"), lambda: fleet.host("h-x")):
        with pytest.raises(NotFound) as caught:
            act()
        assert (caught.value.code, caught.value.field) == ("InvalidHostID.NotFound", "host_id")


def test_fractions_never_drift(fleet: Fleet) -> None:
    third = Shape(0.1, 1, 0.0)
    for _ in range(1000):
        fleet.reserve("h-0", third)
    for _ in range(1000):
        fleet.release("h-0", third)
    assert fleet.host("h-0").used == Shape()


def test_a_log_that_moved_on_is_said_to_be_lost() -> None:
    changes = Changes(kept=4)
    for slot in range(20):
        changes.add(slot)
    assert changes.since(3) is None
    known = changes.since(16)
    assert known is not None and known.tolist() == [16, 17, 18, 19]


@pytest.mark.parametrize(
    ("bad", "field", "error"),
    [
        ({"count_min": 0}, "count_min", InvalidParameterValue),
        ({"count_min": 3, "count_max": 2}, "count_min", InvalidParameterValue),
        ({"shape": Shape(-1, 5)}, "shape", InvalidParameterValue),
        ({"shape": Shape(float("nan"), 5)}, "shape", InvalidParameterValue),
        ({"strategy": "banana"}, "strategy", InvalidParameterValue),
        ({"group": "banana"}, "group", InvalidParameterValue),
        ({"group": "partition"}, "partitions", InvalidParameterValue),
        ({"group": "partition", "partitions": 8}, "partitions", InvalidParameterValue),
        ({"group": "partition", "partitions": 3, "partition": 4}, "partition", InvalidParameterValue),
        ({"partition": 1}, "partition", InvalidParameterCombination),
        ({"members": (GroupMember("h-1", "a"),)}, "members", InvalidParameterCombination),
        ({"restart": True}, "host_id", InvalidParameterCombination),
    ],
)
def test_a_bad_request_names_its_field(bad: dict[str, Any], field: str, error: type[CloudError]) -> None:
    with pytest.raises(error) as caught:
        PlacementRequest(**{"shape": SMALL, "arch": "x86_64", **bad})
    assert caught.value.field == field
