"""What `up` tells while the cloud is not ready yet."""

from __future__ import annotations

import json

import pytest

from minicloud.cli.lifecycle.story import describe
from minicloud.cluster.teardown import awaited


def health(**fields: object) -> str:
    whole = {"status": "starting", "hosts_up": 2, "hosts_down": 0, "brokers": ["up", "up"], "functions": ["up"]}
    return json.dumps(whole | fields)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (health(), ""),
        (health(functions=["down"]), "functions"),
        (health(brokers=["up", "down"], functions=["down"]), "brokers, functions"),
        (health(hosts_down=1), "1 host"),
        (health(hosts_down=2, functions=["down"]), "functions, 2 hosts"),
        ("", ""),
        ("[]", ""),
        ('{"error": "no"}', ""),
    ],
)
def test_what_is_waited_for_is_named(body: str, what: str) -> None:
    assert awaited(body) == what


def test_the_event_is_a_sentence() -> None:
    assert describe({"event": "waiting", "what": "functions, 1 host"}) == "waits for: functions, 1 host"
