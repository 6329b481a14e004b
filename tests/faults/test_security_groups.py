"""Security groups while parts of the cloud are killed: nothing opens that should not, and changes arrive."""

from __future__ import annotations

import os
import urllib.request

import pytest

from tests.real_cloud import kill, real_cloud, until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.ray,
    pytest.mark.skipif(os.geteuid() != 0, reason="guests have no networks"),
]
WEB = "#!/bin/sh\ncd /tmp && echo hello > index.html && python3 -m http.server 80 &\n"


def reaches(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
            return bool(answer.read())
    except OSError:
        return False


def test_walls_stand_while_agent_and_control_plane_are_killed() -> None:
    with real_cloud() as cloud, cloud.client() as client:
        client.security_groups.create("closed")
        (one,) = client.instances.launch("t3.micro", security_groups=["closed"], user_data=WEB, wait=True)
        assert not reaches(one.private_ip)
        (agent,) = cloud.actor_pids("HostAgent")
        kill(agent)
        opened = client.security_groups.allow("closed", "tcp", 80)  # nobody is there to be told
        until(lambda: reaches(one.private_ip), 20, "the change, told to the agent that came after")
        (plane,) = cloud.actor_pids("ControlPlane")
        kill(plane)
        until(lambda: reaches(one.private_ip), 5, "what is open stays open")
        client.security_groups.get("closed")  # waits; a revoke whose answer is lost is not repeated
        client.security_groups.revoke("closed", [rule.id for rule in opened.ingress])
        until(lambda: not reaches(one.private_ip), 20, "the change, told by the control plane that came after")
        (agent,) = cloud.actor_pids("HostAgent")
        kill(agent)
        until(
            lambda: len(cloud.actor_pids("HostAgent")) == 1 and cloud.actor_pids("HostAgent") != [agent], 20, "an agent"
        )
        assert not reaches(one.private_ip)
        assert client.instances.get(one.id).state == "running"
        client.instances.terminate(one.id)
