"""On which host the next environment comes up: near first among equals, then by what is at work."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicloud.environment.choice import Choice, Site, choose, lacking, load, make_way, refusal
from minicloud.environment.limits import ENVIRONMENTS_MAX, MEMORY_FREE_MIB_MIN, MEMORY_OVERCOMMIT

NEAR = Site("near", near=True, memory_mib=8_000, cores=4.0, free_mib=4_000)
FAR = replace(NEAR, name="far", near=False)


def test_of_hosts_that_are_idle_the_near_one_is_first() -> None:
    assert choose([FAR, NEAR], 256) == "near"
    warm = replace(NEAR, promised_mib=4_000, environments=16)  # all of it idle
    assert choose([FAR, warm], 256) == "near"


def test_what_is_at_work_sends_the_next_one_elsewhere() -> None:
    assert choose([replace(NEAR, at_work_mib=256), FAR], 256) == "far"


def test_a_burst_is_spread_in_proportion_to_what_hosts_have() -> None:
    sites = {one.name: one for one in (NEAR, replace(FAR, memory_mib=24_000, cores=12.0))}
    took: Counter[str] = Counter()
    for _ in range(40):
        name = choose(list(sites.values()), 256)
        took[name] += 1
        one = sites[name]
        more = {"at_work_mib": one.at_work_mib + 256, "promised_mib": one.promised_mib + 256}
        sites[name] = replace(one, environments=one.environments + 1, **more)
    assert took == {"near": 10, "far": 30}


def test_cores_count_where_they_are_scarcer_than_memory() -> None:
    slow = replace(NEAR, memory_mib=64_000, cores=1.0, at_work_mib=256)
    assert choose([slow, replace(FAR, at_work_mib=512)], 256) == "far"


def test_a_host_that_is_closed_gets_nothing_whatever_it_has() -> None:
    closed = replace(FAR, closed="cordoned")
    assert choose([replace(NEAR, at_work_mib=8_000), closed], 256) == "near"
    assert choose([closed], 256) == ""
    assert make_way([closed], {"far": [256] * 9}, 256) == Choice("", 0, "cordoned")


def test_each_dimension_has_an_end_and_says_so() -> None:
    full = replace(NEAR, promised_mib=int(MEMORY_OVERCOMMIT * 8_000) - 255)
    assert lacking(full, 255) == ""
    assert lacking(full, 256) == "memory, 256 MiB are not left"
    assert lacking(replace(NEAR, environments=ENVIRONMENTS_MAX), 256) == f"{ENVIRONMENTS_MAX} environments run"
    assert lacking(replace(NEAR, free_mib=MEMORY_FREE_MIB_MIN - 1), 256) == "memory of the machine"
    assert refusal([full], 256) == "memory, 256 MiB are not left"
    both = refusal([full, replace(FAR, closed="cordoned")], 256)
    assert both == "near: memory, 256 MiB are not left; far: cordoned"


def test_where_nobody_has_room_what_is_idle_gives_way_and_no_more_than_it_takes() -> None:
    full = int(MEMORY_OVERCOMMIT * 8_000)
    near, far = replace(NEAR, promised_mib=full), replace(FAR, promised_mib=full, at_work_mib=1_000)
    assert choose([near, far], 512) == ""
    assert make_way([near, far], {"near": [256, 256, 256], "far": [512]}, 512) == Choice("near", 2)
    assert make_way([near, far], {"near": [256], "far": [512, 512]}, 512) == Choice("far", 1)
    nothing = make_way([near, far], {"near": [256]}, 512)
    assert (nothing.site, nothing.gives_way) == ("", 0)
    assert "512 MiB are not left" in nothing.refused


def test_where_the_machine_has_no_memory_what_is_idle_goes_and_the_next_one_is_refused() -> None:
    low = replace(NEAR, free_mib=1)
    assert make_way([low], {"near": [256, 256]}, 256) == Choice("near", 2, "memory of the machine")


SITES = st.builds(
    Site,
    name=st.sampled_from(["a", "b", "c"]),
    near=st.booleans(),
    memory_mib=st.integers(128, 4_096),
    cores=st.floats(0.5, 8.0),
    free_mib=st.integers(0, 1_024),
    closed=st.sampled_from(["", "", "cordoned"]),
    promised_mib=st.integers(0, 20_000),
    at_work_mib=st.integers(0, 4_096),
    environments=st.integers(0, 1_001),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SITES, max_size=3, unique_by=lambda one: one.name), st.integers(128, 4_096))
def test_who_is_chosen_has_room_and_nobody_with_room_has_less_load(sites: list[Site], memory_mib: int) -> None:
    fit = [one for one in sites if not one.closed and not lacking(one, memory_mib)]
    name = choose(sites, memory_mib)
    assert (name != "") == bool(fit)
    if fit:
        (chosen,) = [one for one in fit if one.name == name]
        assert all(load(chosen, memory_mib) <= load(one, memory_mib) for one in fit)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(SITES, min_size=1, max_size=3, unique_by=lambda one: one.name),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(st.integers(128, 1_024), max_size=5)),
    st.integers(128, 4_096),
)
def test_who_gives_way_makes_room_in_truth(sites: list[Site], spare_mib: dict[str, list[int]], memory_mib: int) -> None:
    chosen = make_way(sites, spare_mib, memory_mib)
    if chosen.refused:
        return
    (site,) = [one for one in sites if one.name == chosen.site]
    freed = spare_mib.get(site.name, [])[: chosen.gives_way]
    assert len(freed) == chosen.gives_way
    after = replace(site, promised_mib=site.promised_mib - sum(freed), environments=site.environments - len(freed))
    assert not site.closed and lacking(after, memory_mib) == ""
