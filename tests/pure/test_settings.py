"""Settings: JSON both ways, the division of a machine, what is refused, and the cloud that a second `up` finds."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud import flags as f
from minicloud import settings as s
from minicloud.base.errors import CloudError, Internal, InvalidParameterCombination, InvalidParameterValue
from minicloud.shell.data_dir import data_dir, open_cloud

MACHINE = f.MachineCapacity(cores=8.0, memory_mib=32768, disk_gib=100)


def resolve(tmp_path: Path, machine: f.MachineCapacity = MACHINE, **flags: object) -> s.CloudSettings:
    return f.resolve(f.UpFlags(data_dir=str(tmp_path / "data"), **flags), env={}, machine=machine)  # type: ignore[arg-type]


def test_json_both_ways(tmp_path: Path) -> None:
    made = resolve(tmp_path, hosts=3, overcommit_cpu=2.0, allowed_hosts=("Cloud.Example",))
    made = replace(made, tls=s.TlsFiles("/c", "/k"), control_port=1234, brokers=(s.ShardSettings(1, 2),) * 2)
    assert s.CloudSettings.from_json(made.to_json()) == made


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cloud_id": 1}', "null"])
def test_json_that_is_no_settings(text: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        s.CloudSettings.from_json(text)
    assert caught.value.field == "settings"


def test_json_with_unknown_field_is_refused(tmp_path: Path) -> None:
    raw = json.loads(resolve(tmp_path).to_json()) | {"surprise": 1}
    with pytest.raises(InvalidParameterValue):
        s.CloudSettings.from_json(json.dumps(raw))


def test_machine_is_divided(tmp_path: Path) -> None:
    made = resolve(tmp_path, hosts=3)
    assert [host.name for host in made.hosts] == ["host-a", "host-b", "host-c"]
    assert [host.zone for host in made.hosts] == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert sum(host.cores for host in made.hosts) == pytest.approx(8.0, abs=0.01)
    reserve = f.reserve_mib(MACHINE.memory_mib, 3)
    assert sum(host.memory_mib for host in made.hosts) <= MACHINE.memory_mib - reserve
    assert made.hosts[0].host_id != made.hosts[1].host_id
    assert made.hosts[0].host_id == s.host_id(made.cloud_id, "host-a")
    assert len(made.hosts[0].host_id) == 19


def test_small_machine_keeps_half() -> None:
    assert f.reserve_mib(1024, 4) == 512


def test_real_gpus_are_divided_by_device(tmp_path: Path) -> None:
    made = resolve(tmp_path, replace(MACHINE, gpu_indices=(0, 1, 2, 3)), hosts=2)
    assert [host.gpu_indices for host in made.hosts] == [(0, 1), (2, 3)]
    assert not made.hosts[0].declared_gpus


def test_declared_gpus_say_so(tmp_path: Path) -> None:
    host = resolve(tmp_path, gpus=4).hosts[0]
    assert (host.gpus, host.declared_gpus, host.gpu_indices) == (4, True, ())


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"hosts": 0}, "hosts"),
        ({"hosts": 27}, "hosts"),
        ({"brokers": 0}, "brokers"),
        ({"brokers": 65}, "brokers"),
        ({"grpc_port": 70000}, "grpc_port"),
        ({"http_port": 7077}, "http_port"),
        ({"region": "Mars"}, "region"),
        ({"bind": "nowhere"}, "bind"),
        ({"bind": "0.0.0.0", "auth": False}, "auth"),
        ({"bind": "0.0.0.0"}, "tls"),
        ({"bind": "192.0.2.1", "auth": False, "tls_cert": "/c", "tls_key": "/k"}, "auth"),
        ({"tls_cert": "/c"}, "tls_key"),
        ({"tls_key": "/k"}, "tls_cert"),
        ({"tls_cert": "/nowhere/c", "tls_key": "/nowhere/k"}, "tls_cert"),
        ({"overcommit_cpu": 0.5}, "overcommit_cpu"),
        ({"overcommit_memory": float("nan")}, "overcommit_memory"),
        ({"cpus_per_host": 0.0}, "cpus_per_host"),
        ({"memory_per_host_mib": 1}, "memory_per_host"),
        ({"gpus": -1}, "gpus"),
        ({"allowed_hosts": ("a b",)}, "allowed_hosts"),
        ({"allowed_hosts": ("x\nacl",)}, "allowed_hosts"),
    ],
)
def test_refused(tmp_path: Path, flags: dict[str, object], field: str) -> None:
    with pytest.raises(CloudError) as caught:
        resolve(tmp_path, **flags)
    assert caught.value.field == field


def test_more_gpus_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterValue, match="more than the 2"):
        resolve(tmp_path, replace(MACHINE, gpu_indices=(0, 1)), hosts=2, gpus=2)


def test_elsewhere_than_loopback_with_auth_and_tls(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.write_text("x")
    made = resolve(tmp_path, bind="0.0.0.0", tls_cert=str(pem), tls_key=str(pem))
    assert made.auth and made.tls == s.TlsFiles(str(pem), str(pem))


def test_second_up_finds_the_cloud_and_its_hosts(tmp_path: Path) -> None:
    first = resolve(tmp_path, hosts=2, region="eu-west-3")
    second = resolve(tmp_path)
    assert second == first
    assert s.read_secret(first) == s.read_secret(second)
    assert stat.S_IMODE(first.secret_path.stat().st_mode) == 0o600
    assert resolve(tmp_path, hosts=1).hosts == f.divide(first, 1, MACHINE)


def test_region_of_a_cloud_never_changes(tmp_path: Path) -> None:
    resolve(tmp_path)
    with pytest.raises(InvalidParameterCombination) as caught:
        resolve(tmp_path, region="eu-west-3")
    assert caught.value.field == "region"


def test_the_number_of_brokers_never_changes(tmp_path: Path) -> None:
    assert len(resolve(tmp_path, brokers=3).brokers) == 3
    assert len(resolve(tmp_path).brokers) == 3
    with pytest.raises(InvalidParameterCombination) as caught:
        resolve(tmp_path, brokers=2)
    assert caught.value.field == "brokers"


def test_a_cloud_of_before_the_brokers_has_one(tmp_path: Path) -> None:
    made = resolve(tmp_path)
    path = made.data_path / "cloud.json"
    known = json.loads(path.read_text())
    del known["brokers"]
    path.write_text(json.dumps(known))
    assert resolve(tmp_path) == made and len(made.brokers) == 1


def test_refused_flags_make_no_cloud(tmp_path: Path) -> None:
    with pytest.raises(CloudError):
        resolve(tmp_path, bind="0.0.0.0")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"cloud_id": "../../x", "region": "r", "hosts": 1}'])
def test_damaged_cloud_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cloud.json"
    path.write_text(text)
    with pytest.raises(Internal):
        open_cloud(tmp_path)
    assert path.read_text() == text


def test_missing_or_short_secret(tmp_path: Path) -> None:
    made = resolve(tmp_path)
    made.secret_path.write_bytes(b"short")
    with pytest.raises(Internal, match="32 bytes"):
        s.read_secret(made)
    made.secret_path.unlink()
    with pytest.raises(Internal):
        s.read_secret(made)


def test_data_dir_order(tmp_path: Path) -> None:
    assert data_dir("/x", {"MINICLOUD_DATA_DIR": "/y"}) == Path("/x")
    assert data_dir(None, {"MINICLOUD_DATA_DIR": "/y"}) == Path("/y")
    assert data_dir(None, {}) == Path("~/.minicloud").expanduser()


def test_sockets_fit_the_kernels_limit(tmp_path: Path) -> None:
    made = resolve(tmp_path)
    short, long = replace(made, data_dir="/d"), replace(made, data_dir="/d" * 40)
    assert short.socket_path == Path("/d/run/s")
    assert str(long.socket_path).startswith("/tmp/mc-") and len(str(long.socket_path)) == 16
    assert long.socket_path != replace(long, data_dir="/e" * 40).socket_path
