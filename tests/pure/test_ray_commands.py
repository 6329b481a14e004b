"""What our Ray processes are started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.cluster.processes import MARK_DATA, MARK_ID
from minicloud.cluster.ray_commands import (
    HEAD_RESOURCE,
    RayletIdentity,
    RayPlace,
    gcs_command,
    host_env,
    host_resources,
    port_files,
    ray_env,
    raylet_command,
)
from minicloud.settings import CloudSettings, HostSettings, child_env

HOST = HostSettings("h-1", "host-a", "z", cores=1.5, memory_mib=100, gpus=2, gpu_indices=(2, 3))
PLACE = RayPlace(Path("/r"), Path("/l"), 20_000, Path("/ray"))
CLOUD = CloudSettings("0" * 8, "/d", hosts=(HOST,))


def test_resources_are_the_true_ones() -> None:
    made = host_resources(HOST, is_head=True)
    assert (made["CPU"], made["memory"], made["GPU"]) == (1.5, 100 * 2**20, 2)
    assert made["minicloud_host:host-a"] == 1.0 and HEAD_RESOURCE in made
    assert HEAD_RESOURCE not in host_resources(HOST, is_head=False)
    assert "GPU" not in host_resources(replace(HOST, gpus=0), is_head=False)


def test_a_host_sees_its_own_devices_only() -> None:
    assert host_env(HOST) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert host_env(replace(HOST, gpu_indices=())) == {}


def test_only_the_head_is_told_so() -> None:
    head = raylet_command(PLACE, HOST, RayletIdentity("ab" * 28, "cd", True))
    other = raylet_command(PLACE, HOST, RayletIdentity("ab" * 28, "cd", False))
    assert "--head" in head and "--head" not in other


def test_everything_is_bound_to_loopback() -> None:
    assert "--node-ip-address=127.0.0.1" in gcs_command(PLACE, "ab")
    assert "--node_ip_address=127.0.0.1" in raylet_command(PLACE, HOST, RayletIdentity("ab" * 28, "cd", True))
    assert ray_env(CLOUD, PLACE)["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_token_is_a_file_and_processes_are_marked() -> None:
    made = ray_env(CLOUD, PLACE)
    assert made["RAY_AUTH_MODE"] == "token" and made["RAY_AUTH_TOKEN_PATH"] == "/r/token"
    assert "RAY_AUTH_TOKEN" not in made
    assert (made[MARK_ID], made[MARK_DATA]) == (CLOUD.cloud_id, CLOUD.data_dir)


def test_the_raylet_waits_for_no_agent() -> None:
    assert len(port_files(PLACE, "ab")) == 4
    assert all(path.name.endswith("_ab") for path in port_files(PLACE, "ab"))


@pytest.mark.parametrize(
    "name", ["RAY_ADDRESS", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "MINICLOUD_SECRET_ACCESS_KEY"]
)
def test_nothing_of_the_users_other_life_is_inherited(name: str) -> None:
    assert child_env({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_joined_cluster_is_the_users_own() -> None:
    assert child_env({"RAY_AUTH_TOKEN": "x"}, joins_ray=True) == {"RAY_AUTH_TOKEN": "x"}
