"""What rules are told of instances: every change of state on record, in scopes that listen, until it was told."""

from __future__ import annotations

import pytest

from minicloud.compute import transitions
from minicloud.compute.commands import HostLost, StartInstances, StopInstances, TerminateInstances
from minicloud.compute.transitions import Listen, Told
from tests.pure.compute_bench import HOME, STRANGER, Bench


def owed(bench: Bench) -> list[tuple[str, str]]:
    found = sorted(bench.state.transitions.values(), key=lambda one: one.id)
    return [(one.instance_id, one.state) for one in found]


def test_nothing_is_written_where_nobody_listens() -> None:
    bench = Bench()
    bench.submit(Listen(STRANGER))
    bench.running()
    assert owed(bench) == [] and not bench.state.owing
    before = len(bench.records)
    (one,) = bench.launch(scope=STRANGER)
    assert [record.kind for record in bench.records[before:]].count("transition") == 1
    assert owed(bench) == [(one.id, "pending")]


def test_every_state_from_a_launch_to_the_end_is_told_in_order() -> None:
    bench = Bench()
    bench.submit(Listen(HOME))
    (one,) = bench.running()
    bench.report(one, "running", private_ip="10.0.0.9")  # again: nothing is new
    bench.submit(StopInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    bench.submit(StartInstances(HOME, (one.id,)))
    bench.report(one, "running")
    bench.submit(TerminateInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    states = ["pending", "running", "stopping", "stopped", "pending", "running", "shutting-down", "terminated"]
    assert owed(bench) == [(one.id, state) for state in states]
    assert bench.state.owing == {HOME: len(states)}


def test_a_lost_host_is_told_for_each_of_its_instances() -> None:
    bench = Bench()
    first, second = bench.running(count=2)
    bench.submit(Listen(HOME))
    for host in {bench.at(first).host_id, bench.at(second).host_id}:
        bench.submit(HostLost(host, "Server.HostFailure", "gone", bench.state.hosts[host].session))
    assert sorted(owed(bench)) == sorted([(first.id, "stopped"), (second.id, "stopped")])


def test_what_was_told_is_forgotten_and_numbers_grow() -> None:
    bench = Bench()
    bench.submit(Listen(HOME))
    bench.launch(count=3)
    ids = sorted(bench.state.transitions)
    bench.submit(Told((ids[0], "nothing")))
    bench.submit(Told((ids[0],)))
    assert sorted(bench.state.transitions) == ids[1:] and bench.state.owing == {HOME: 2}
    bench.now -= 100.0  # a clock that is set back
    bench.launch()
    assert max(bench.state.transitions) > ids[-1]
    bench.submit(Told(tuple(bench.state.transitions)))
    assert not bench.state.owing and not bench.state.transitions


def test_a_scope_stops_to_listen_only_if_nobody_said_so_again() -> None:
    bench = Bench()
    bench.submit(Listen(HOME))
    number = bench.state.listeners[HOME.key()].number
    bench.submit(Listen(HOME))
    bench.submit(Told((), {HOME.key(): number, "nobody/us-east-1": 1}))
    assert HOME.key() in bench.state.listeners
    bench.submit(Told((), {HOME.key(): number + 1}))
    assert not bench.state.listeners
    bench.launch()
    assert owed(bench) == []
    bench.now += 1.0
    bench.submit(Listen(HOME))
    assert bench.state.listeners[HOME.key()].number > number + 1


def test_what_nobody_takes_of_one_scope_leaves_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "OWED_OF_SCOPE_MAX", 2)
    bench = Bench()
    bench.submit(Listen(HOME))
    bench.submit(Listen(STRANGER))
    bench.launch(count=2)
    bench.launch()
    (one,) = bench.launch(scope=STRANGER)
    assert len(owed(bench)) == 3 and owed(bench)[-1] == (one.id, "pending")


def test_what_nobody_takes_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "OWED_MAX", 3)
    bench = Bench()
    bench.submit(Listen(HOME))
    bench.launch(count=2)
    bench.launch(count=2)
    assert len(bench.state.transitions) == 3
