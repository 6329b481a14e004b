"""Root disks on the bench: what is asked for is reserved on the host, from launch to end."""

from __future__ import annotations

import pytest

from minicloud.base.errors import InsufficientCapacity, InvalidParameterValue, NotFound
from minicloud.compute.commands import GrowRoot, ModifyInstance, SetTags, StopInstances, TerminateInstances
from minicloud.compute.tagging import volume_of
from tests.pure.compute_bench import HOME, STRANGER, Bench, host


def test_root_disks_are_reserved_grow_and_are_given_back() -> None:
    bench = Bench(host("host-a", disk_gib=100))
    (one,) = bench.running(root_gib=60)
    assert bench.state.used(one.host_id).disk_gib == 60
    with pytest.raises(InsufficientCapacity):
        bench.launch(root_gib=41)
    with pytest.raises(InvalidParameterValue):
        bench.submit(GrowRoot(HOME, one.id, 59))
    with pytest.raises(InsufficientCapacity):
        bench.submit(GrowRoot(HOME, one.id, 101))
    with pytest.raises(NotFound):
        bench.submit(GrowRoot(STRANGER, one.id, 70))
    bench.submit(GrowRoot(HOME, one.id, 100, {"VolumeType": "gp2"}))
    assert bench.state.used(one.host_id).disk_gib == 100 and bench.at(one).echo == {"VolumeType": "gp2"}
    bench.submit(StopInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    assert bench.state.used(one.host_id).disk_gib == 0
    bench.submit(ModifyInstance(HOME, one.id, instance_type="t3.small"))
    assert (bench.at(one).disk_gib, bench.at(one).root_gib) == (100, 100)


def test_a_root_disks_tags_are_its_own_and_end_with_its_instance() -> None:
    bench = Bench()
    (one,) = bench.running(tags={"a": "1"}, volume_tags={"b": "2"})
    volume = volume_of(one.id)
    assert bench.submit(SetTags(HOME, volume, {"c": "3"}, ("b",))) == {"c": "3"}
    assert (bench.at(one).tags, bench.at(one).volume_tags) == ({"a": "1"}, {"c": "3"})
    assert bench.submit(SetTags(HOME, volume, remove_if={"c": "other"})) == {"c": "3"}
    assert bench.submit(SetTags(HOME, volume, remove_all=True)) == {}
    bench.submit(TerminateInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    with pytest.raises(NotFound):
        bench.submit(SetTags(HOME, volume, {"d": "4"}))
