"""The rules of instances: launch, change, end, and what reports of the fleet do to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base import limits
from minicloud.base.errors import (
    AlreadyExists,
    CloudError,
    Conflict,
    DependencyViolation,
    IdempotentParameterMismatch,
    IncorrectState,
    InsufficientCapacity,
    InvalidParameterCombination,
    InvalidParameterValue,
    InvalidRequest,
    LimitExceeded,
    MalformedId,
    NotFound,
    OperationNotPermitted,
)
from minicloud.base.machine import Tick
from minicloud.compute import commands as ask
from minicloud.compute import orders
from minicloud.compute.lifecycle import LIFECYCLE
from minicloud.compute.machine import DiskDeleted
from tests.pure.compute_bench import HOME, STRANGER, Bench, host


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_launch_places_and_is_pending(bench: Bench) -> None:
    first, second = bench.launch("t3.micro", 2, tags={"a": "b"})
    assert first.state == second.state == "pending"
    assert (first.launch_index, second.launch_index) == (0, 1)
    assert first.reservation_id == second.reservation_id != ""
    assert first.host_id in bench.state.hosts
    assert first.tags == {"a": "b"}
    order = orders.for_instance(first)
    assert order is not None and order.start.spec.instance_id == first.id and order.start.spec.first_boot


def test_running_then_stop_start_terminate(bench: Bench) -> None:
    (one,) = bench.running()
    assert bench.at(one).private_ip == "10.0.0.9"
    (change,) = bench.submit(ask.StopInstances(HOME, (one.id,)))
    assert (change.before, change.after) == ("running", "stopping")
    bench.report(one, "ended")
    assert bench.at(one).state == "stopped"
    assert bench.state.used(one.host_id).vcpus == 0
    bench.submit(ask.StartInstances(HOME, (one.id,)))
    again = bench.at(one)
    assert (again.state, again.generation, again.host_id) == ("pending", 2, one.host_id)
    (change,) = bench.submit(ask.StartInstances(HOME, (one.id,)))  # a retry of the same
    assert (change.before, change.after) == ("pending", "pending") and bench.at(one) == again
    bench.report(one, "running")
    bench.submit(ask.TerminateInstances(HOME, (one.id,)))
    order = orders.for_instance(bench.at(one))
    assert order is not None and order.end.delete_disk
    bench.report(one, "ended")
    assert bench.at(one).state == "terminated"
    (change,) = bench.submit(ask.TerminateInstances(HOME, (one.id,)))
    assert (change.before, change.after) == ("terminated", "terminated")


def test_terminated_is_forgotten_after_an_hour(bench: Bench) -> None:
    (one,) = bench.running()
    bench.submit(ask.TerminateInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    left = orders.for_instance(bench.at(one))
    assert left is not None and left.end.delete_disk  # until its host has said that the disk is gone
    bench.now += 5
    bench.submit(DiskDeleted(one.id))
    assert orders.for_instance(bench.at(one)) is None
    due = bench.machine.due()
    assert due == bench.now - 5 + limits.TERMINATED_KEPT_S
    bench.now = due
    bench.submit(Tick())
    assert one.id not in bench.state.instances and bench.machine.due() is None


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"kind": "t9.huge"}, InvalidParameterValue, "instance_type"),
        ({"kind": ""}, InvalidParameterValue, "instance_type"),
        ({"image_id": "ami-12345678"}, NotFound, "image_id"),
        ({"image_id": "ami-xyz"}, MalformedId, "image_id"),
        ({"image_id": ""}, InvalidParameterValue, "image_id"),
        ({"zone": "us-east-1z"}, InvalidParameterValue, "placement.zone"),
        ({"host_id": "h-00000000000000099"}, NotFound, "placement.host_id"),
        ({"count": 0}, InvalidParameterValue, "max_count"),
        ({"count": -3}, InvalidParameterValue, "max_count"),
        ({"count": 10**9}, InvalidParameterValue, "max_count"),
        ({"count": 1, "min_count": 2}, InvalidParameterCombination, "min_count"),
        ({"user_data": "x" * (16 * 1024 + 1)}, InvalidParameterValue, "user_data"),
        ({"user_data": "a\0b"}, InvalidParameterValue, "user_data"),
        ({"key_name": "nobody"}, NotFound, "key_name"),
        ({"group_name": "nowhere"}, NotFound, "placement.group_name"),
        ({"partition": 2}, InvalidParameterCombination, "placement.partition"),
        ({"tags": {"k" * 129: "v"}}, InvalidParameterValue, "tags.key"),
        ({"tags": {"k": "v" * 257}}, InvalidParameterValue, "tags.value"),
        ({"tags": {"aws:x": "v"}}, InvalidParameterValue, "tags.key"),
        ({"tags": {f"k{n}": "v" for n in range(51)}}, LimitExceeded, "tags"),
        ({"strategy": "sideways"}, InvalidParameterValue, "placement.strategy"),
        ({"http_tokens": "maybe"}, InvalidParameterValue, "metadata_options.http_tokens"),
        ({"kind": "m5.large", "cpu_credits": "standard"}, InvalidParameterCombination, "cpu_credits"),
        ({"client_token": "x" * 65}, InvalidParameterValue, "client_token"),
    ],
)
def test_bad_launches_name_the_field_and_create_nothing(
    bench: Bench, fields: dict[str, object], error: type[CloudError], field: str
) -> None:
    before = len(bench.records)
    with pytest.raises(error) as caught:
        bench.launch(**fields)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert len(bench.records) == before and not bench.state.instances


def test_client_token_gives_the_same_instances_and_refuses_another_request(bench: Bench) -> None:
    first = bench.launch(count=2, client_token="once")
    again = bench.launch(count=2, client_token="once")
    assert [one.id for one in first] == [one.id for one in again]
    assert len(bench.state.instances) == 2
    with pytest.raises(IdempotentParameterMismatch) as caught:
        bench.launch(count=3, client_token="once")
    assert caught.value.field == "client_token"
    bench.launch(count=1, client_token="once", scope=STRANGER)  # another account's token is another token
    bench.now += limits.CLIENT_TOKEN_KEPT_S
    bench.submit(Tick())
    assert not bench.state.tokens


def test_quotas_are_named(bench: Bench) -> None:
    bench.launch(count=2)
    with pytest.raises(LimitExceeded, match="quota 'instances'") as caught:
        bench.launch(quota_instances=2)
    assert caught.value.details["quota"] == "instances"
    with pytest.raises(LimitExceeded, match="quota 'vcpus'"):
        bench.launch(quota_vcpus=5)
    made = bench.launch(count=5, min_count=1, quota_instances=4)
    assert len(made) == 2


def test_a_full_cloud_says_what_ran_out() -> None:
    bench = Bench(host("host-a", memory_mib=4096))
    with pytest.raises(InsufficientCapacity, match="memory"):
        bench.launch("m5.large")
    assert not bench.state.instances
    with pytest.raises(InsufficientCapacity, match=r"arm64|arch"):
        bench.launch("t4g.nano")
    with pytest.raises(InsufficientCapacity, match=r"(?i)gpu"):
        bench.launch("g4dn.xlarge")


def test_min_count_takes_what_fits() -> None:
    bench = Bench(host("host-a", memory_mib=4096))
    made = bench.launch("t3.micro", count=10, min_count=2)
    assert len(made) == 4
    with pytest.raises(InsufficientCapacity):
        bench.launch("t3.micro", count=2)


def test_another_account_meets_the_words_for_an_unknown_id(bench: Bench) -> None:
    (one,) = bench.running()
    unknown = "i-" + "0" * 17
    texts = []
    for target in (one.id, unknown):
        with pytest.raises(NotFound) as caught:
            bench.submit(ask.TerminateInstances(STRANGER, (target,)))
        texts.append(str(caught.value).replace(target, "ID"))
    assert texts[0] == texts[1]
    with pytest.raises(MalformedId):
        bench.submit(ask.StopInstances(HOME, ("nonsense",)))


def test_one_bad_id_changes_none(bench: Bench) -> None:
    (one,) = bench.running()
    with pytest.raises(NotFound):
        bench.submit(ask.StopInstances(HOME, (one.id, "i-" + "0" * 17)))
    assert bench.at(one).state == "running"


def test_termination_protection(bench: Bench) -> None:
    safe, other = bench.running(count=2, termination_protection=True)
    with pytest.raises(OperationNotPermitted):
        bench.submit(ask.TerminateInstances(HOME, (other.id, safe.id)))
    assert bench.at(safe).state == bench.at(other).state == "running"
    bench.submit(ask.ModifyInstance(HOME, safe.id, termination_protection=False))
    bench.submit(ask.TerminateInstances(HOME, (safe.id,)))
    assert bench.at(safe).state == "shutting-down"


def test_type_changes_only_while_stopped(bench: Bench) -> None:
    (one,) = bench.running("t3.micro")
    with pytest.raises(IncorrectState) as caught:
        bench.submit(ask.ModifyInstance(HOME, one.id, instance_type="t3.small"))
    assert caught.value.field == "instance_type"
    bench.submit(ask.StopInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    after = bench.submit(ask.ModifyInstance(HOME, one.id, instance_type="t3.small"))
    assert (after.memory_mib, after.type) == (2048, "t3.small")
    with pytest.raises(InvalidParameterCombination):
        bench.submit(ask.ModifyInstance(HOME, one.id, instance_type="t4g.small"))
    bench.submit(ask.StartInstances(HOME, (one.id,)))
    order = orders.for_instance(bench.at(one))
    assert order is not None and order.start.spec.shape.memory_mib == 2048


def test_start_needs_room_on_the_host_of_the_disk() -> None:
    bench = Bench(host("host-a", memory_mib=1024), host("host-b"))
    (one,) = bench.running("t3.micro", zone="us-east-1a")
    bench.submit(ask.StopInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    (squatter,) = bench.launch("t3.micro", zone="us-east-1a")
    with pytest.raises(InsufficientCapacity, match="disk"):
        bench.submit(ask.StartInstances(HOME, (one.id,)))
    bench.submit(ask.TerminateInstances(HOME, (squatter.id,)))
    bench.report(squatter, "ended")
    bench.submit(ask.StartInstances(HOME, (one.id,)))


def test_a_guest_that_ends_by_itself_shows_why(bench: Bench) -> None:
    (one,) = bench.running()
    bench.report(one, "ended", reason_code="GuestExited", reason_message="guest exited", exit_code=137)
    after = bench.at(one)
    assert (after.state, after.exit_code, after.reason_code) == ("stopped", 137, "GuestExited")
    assert "137" in after.reason_message


def test_shutdown_behaviour_terminate(bench: Bench) -> None:
    (one,) = bench.running(shutdown_behavior="terminate")
    bench.report(one, "ended", reason_code="Client.InstanceInitiatedShutdown", exit_code=0)
    assert bench.at(one).state == "shutting-down"
    bench.report(one, "ended")
    assert bench.at(one).state == "terminated"


def test_late_reports_of_another_generation_change_nothing(bench: Bench) -> None:
    (one,) = bench.running()
    bench.submit(ask.StopInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    bench.submit(ask.StartInstances(HOME, (one.id,)))
    before = bench.at(one)
    assert bench.report(one, "ended", generation=1) is None
    assert bench.report(one, "running", generation=1) is None
    assert bench.at(one) == before


def test_pending_too_long_is_given_up(bench: Bench) -> None:
    (one,) = bench.launch()
    bench.now += limits.PENDING_S_MAX
    bench.submit(Tick())
    after = bench.at(one)
    assert (after.state, after.reason_code) == ("shutting-down", "Server.LaunchTimeout")
    bench.report(one, "ended")
    assert bench.at(one).state == "terminated" and bench.at(one).reason_code == "Server.LaunchTimeout"


def test_a_failed_restart_keeps_the_disk(bench: Bench) -> None:
    (one,) = bench.running()
    bench.submit(ask.StopInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    bench.submit(ask.StartInstances(HOME, (one.id,)))
    bench.submit(ask.LaunchFailed(one.id, 2, "Server.InternalError", "no"))
    assert bench.at(one).state == "stopping"
    bench.report(one, "ended")
    assert bench.at(one).state == "stopped" and bench.at(one).reason_code == "Server.InternalError"


def test_a_lost_host_stops_its_instances_and_takes_no_new_ones(bench: Bench) -> None:
    (one,) = bench.running(zone="us-east-1b")
    (ending,) = bench.running(zone="us-east-1b")
    bench.submit(ask.TerminateInstances(HOME, (ending.id,)))
    bench.submit(ask.HostLost(one.host_id, "Server.HostFailure", "its Ray node died", bench.host_of(one).session))
    assert bench.at(one).state == "stopped" and bench.at(one).reason_code == "Server.HostFailure"
    assert bench.at(ending).state == "terminated"
    with pytest.raises(InsufficientCapacity):
        bench.launch(zone="us-east-1b")
    with pytest.raises(InsufficientCapacity, match="host-b"):
        bench.submit(ask.StartInstances(HOME, (one.id,)))
    bench.submit(host("host-b", session="session-host-b-2"))
    bench.submit(ask.StartInstances(HOME, (one.id,)))
    left = orders.for_instance(bench.at(ending))
    assert left is not None and left.end.delete_disk
    bench.submit(DiskDeleted(ending.id))
    assert orders.for_instance(bench.at(ending)) is None


def test_actors_that_died_with_their_host_say_so(bench: Bench) -> None:
    (one,) = bench.running(zone="us-east-1b")
    bench.report(one, "ended", reason_code="Server.ActorDied")
    bench.now += 1
    bench.submit(ask.HostLost(one.host_id, "Server.HostFailure", "its Ray node died", bench.host_of(one).session))
    assert (bench.at(one).state, bench.at(one).reason_code) == ("stopped", "Server.HostFailure")


def test_a_restarted_host_runs_its_instances_again(bench: Bench) -> None:
    (one,) = bench.running(zone="us-east-1a")
    bench.submit(host("host-a", session="session-host-a-2"))
    after = bench.at(one)
    assert (after.state, after.generation, after.host_id) == ("pending", 2, one.host_id)


@pytest.mark.parametrize(("reason", "state"), [("Stopped", "pending"), ("GuestExited", "stopped")])
def test_what_went_down_with_its_cloud_comes_back_and_what_ended_by_itself_does_not(
    bench: Bench, reason: str, state: str
) -> None:
    (one,) = bench.running(zone="us-east-1a")
    guest = ask.GuestSeen(one.id, 1, "ended", reason_code=reason)
    bench.submit(host("host-a", session="session-host-a-2", guests=(guest,)))
    assert bench.at(one).state == state


def test_an_agent_that_restarts_disturbs_nobody(bench: Bench) -> None:
    (one,) = bench.running(zone="us-east-1a")
    bench.submit(host("host-a", guests=(ask.GuestSeen(one.id, 1, "running"),)))
    assert bench.at(one).state == "running"
    bench.submit(host("host-a"))  # the same session, but it knows nothing of the guest
    assert (bench.at(one).state, bench.at(one).reason_code) == ("stopped", "Server.GuestLost")


def test_drain_stops_what_runs_and_cordon_only_keeps_new_ones_away(bench: Bench) -> None:
    (one,) = bench.running(zone="us-east-1a")
    bench.submit(ask.CordonHost("host-a", cordoned=True))
    assert bench.at(one).state == "running"
    with pytest.raises(InsufficientCapacity, match="cordon"):
        bench.launch(zone="us-east-1a")
    bench.submit(ask.CordonHost("host-a", cordoned=True, drain=True))
    assert bench.at(one).state == "stopping"
    bench.submit(host("host-a"))  # its agent says hello again
    bench.submit(ask.CordonHost("host-a", cordoned=True))
    assert bench.state.host_named("host-a").drained
    bench.submit(ask.CordonHost("host-a", cordoned=False))
    assert not bench.state.host_named("host-a").drained
    bench.launch(zone="us-east-1a")
    with pytest.raises(NotFound):
        bench.submit(ask.CordonHost("host-z", cordoned=True))


def test_spread_group_uses_distinct_hosts(bench: Bench) -> None:
    bench.submit(ask.CreateGroup(HOME, "apart", "spread"))
    first, second = bench.launch(count=2, group_name="apart")
    assert first.host_id != second.host_id
    with pytest.raises(InsufficientCapacity):
        bench.launch(group_name="apart")
    with pytest.raises(DependencyViolation):
        bench.submit(ask.DeleteGroup(HOME, "apart"))


def test_partition_group_keeps_partitions_apart(bench: Bench) -> None:
    bench.submit(ask.CreateGroup(HOME, "parts", "partition", 2))
    (first,) = bench.launch(group_name="parts", partition=1)
    (second,) = bench.launch(group_name="parts", partition=2)
    assert first.host_id != second.host_id and (first.partition, second.partition) == (1, 2)
    with pytest.raises(InvalidParameterValue):
        bench.launch(group_name="parts", partition=3)


def test_templates_preset_and_requests_win(bench: Bench) -> None:
    data = {"image_id": "base", "instance_type": "t3.micro", "tags": {"from": "template", "x": "1"}}
    template, _ = bench.submit(ask.CreateTemplate(HOME, "web", data))
    bench.submit(ask.CreateTemplateVersion(HOME, "web", {"instance_type": "t3.small"}, source_version="1"))
    made = bench.submit(
        ask.Launch(HOME, ask.LaunchSpec(tags={"x": "2"}), 1, 1, template="web", template_version="$Latest")
    ).instances[0]
    assert (made.type, made.image_id) == ("t3.small", "ami-0000000000000ba5e")
    marks = {name: value for name, value in made.tags.items() if name.startswith("aws:")}
    assert {name: value for name, value in made.tags.items() if name not in marks} == {"from": "template", "x": "2"}
    assert marks == {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": "2"}
    first = bench.submit(ask.Launch(HOME, ask.LaunchSpec(), 1, 1, template=template.id)).instances[0]
    assert first.type == "t3.micro"
    with pytest.raises(NotFound):
        bench.submit(ask.Launch(HOME, ask.LaunchSpec(), 1, 1, template="web", template_version="9"))
    with pytest.raises(NotFound):
        bench.submit(ask.Launch(STRANGER, ask.LaunchSpec(), 1, 1, template=template.id))
    with pytest.raises(AlreadyExists):
        bench.submit(ask.CreateTemplate(HOME, "web", data))
    bench.submit(ask.DeleteTemplate(HOME, "web"))
    assert not bench.state.versions


def test_images_are_made_from_instances_and_fail_with_their_host(bench: Bench) -> None:
    (one,) = bench.running(zone="us-east-1a")
    image = bench.submit(ask.CreateImage(HOME, one.id, "golden"))
    assert image.state == "pending"
    with pytest.raises(AlreadyExists):
        bench.submit(ask.CreateImage(HOME, one.id, "golden"))
    with pytest.raises(InvalidParameterValue, match="pending"):
        bench.launch(image_id="golden")
    bench.submit(ask.ImageDone(image.id, size_bytes=10))
    (copy,) = bench.launch(image_id="golden")
    assert copy.image_id == image.id
    lost = bench.submit(ask.CreateImage(HOME, one.id, "silver"))
    bench.submit(ask.HostLost(one.host_id, "Server.HostFailure", "gone", bench.host_of(one).session))
    assert bench.state.images[lost.id].state == "failed"
    bench.submit(ask.DeregisterImage(HOME, "golden"))
    with pytest.raises(NotFound):
        bench.launch(image_id="golden")
    with pytest.raises(InvalidParameterValue):
        bench.submit(ask.DeregisterImage(HOME, "base"))


def test_tags_change_on_every_kind(bench: Bench) -> None:
    (one,) = bench.running(tags={"a": "1"})
    assert bench.submit(ask.SetTags(HOME, one.id, {"b": "2"}, remove=("a",))) == {"b": "2"}
    key = bench.submit(ask.PutKeyPair(HOME, "mine", "ed25519", "ssh-ed25519 AAAA", "fp"))
    assert bench.submit(ask.SetTags(HOME, key.id, {"k": "v"})) == {"k": "v"}
    with pytest.raises(NotFound):
        bench.submit(ask.SetTags(STRANGER, key.id, {"k": "v"}))
    with pytest.raises(LimitExceeded):
        bench.submit(ask.SetTags(HOME, one.id, {f"k{n}": "" for n in range(50)}))


def test_the_table_reaches_every_state_and_never_leaves_terminated() -> None:
    rows = LIFECYCLE.rows()
    assert {after for _, _, after in rows} == {
        "pending",
        "running",
        "stopping",
        "stopped",
        "shutting-down",
        "terminated",
    }
    assert all(after == "terminated" for state, _, after in rows if state == "terminated")
    assert LIFECYCLE.mermaid().startswith("stateDiagram-v2")


STEPS = st.sampled_from(
    ["launch", "start", "stop", "terminate", "running", "ended", "lost", "hello", "restart", "tick", "fail", "modify"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(STEPS, st.integers(0, 7), st.integers(0, 2)), max_size=40))
def test_no_history_breaks_the_laws(steps: list[tuple[str, int, int]]) -> None:
    """The bench checks replay and ledgers after every step; here: no wrong transition, no crash, only typed errors."""
    bench = Bench(host("host-a", memory_mib=6144), host("host-b", memory_mib=3072))
    sessions = [1, 1]
    for step, index, number in steps:
        known = sorted(bench.state.instances)
        one = bench.state.instances[known[index % len(known)]] if known else None
        which = index % 2
        seen = host("host-ab"[:5] + "ab"[which], session=f"s{sessions[which]}", memory_mib=(6144, 3072)[which])
        try:
            if step == "launch":
                bench.launch("t3.micro", number + 1, min_count=1)
            elif step == "lost":
                bench.submit(ask.HostLost(seen.id, "Server.HostFailure", "gone", seen.session))
            elif step == "restart":
                sessions[which] += 1
                bench.submit(replace(seen, session=f"s{sessions[which]}"))
            elif step == "hello":
                guests = tuple(ask.GuestSeen(i.id, i.generation, "running") for i in bench.state.on_host(seen.id))
                bench.submit(replace(seen, guests=guests))
            elif step == "tick":
                bench.now += (1.0, 301.0, 3601.0)[number]
                bench.submit(Tick())
            elif one is not None:
                _poke(bench, step, one.id)
        except CloudError as error:
            assert isinstance(error, InvalidRequest | Conflict | InsufficientCapacity | NotFound), error


def _poke(bench: Bench, step: str, one: str) -> None:
    instance = bench.state.instances[one]
    if step in ("running", "ended"):
        bench.submit(ask.GuestSeen(one, instance.generation, step))
    elif step == "fail":
        bench.submit(ask.LaunchFailed(one, instance.generation, "Server.InternalError", "no"))
    elif step == "modify":
        bench.submit(ask.ModifyInstance(HOME, one, instance_type="t3.small"))
    else:
        command = {"start": ask.StartInstances, "stop": ask.StopInstances, "terminate": ask.TerminateInstances}[step]
        bench.submit(command(HOME, (one,)))
