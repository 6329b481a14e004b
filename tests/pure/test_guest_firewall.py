"""Firewalls of guests: the rules that were given last are those in force, however many threads put them there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from minicloud.host import firewall
from minicloud.host.records import GuestRecord


def ruled(port: int) -> dict[str, Any]:
    rule = {"protocol": "tcp", "fromPort": port, "toPort": port, "peers": ["10.0.0.0/8"]}
    return {"instanceId": "i-1", "firewall": {"ingress": [rule]}}


def test_what_was_given_last_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is slow: a machine under load runs two nft in any order."""
    in_force: list[int] = []
    first_is_at_it, overtaken = threading.Event(), threading.Event()

    def apply(_path: str, rules: Any, _nft: str) -> None:
        port = rules.ingress[0].from_port
        if port == 80:
            first_is_at_it.set()
            overtaken.wait(0.3)
        in_force.append(port)
        overtaken.set()

    monkeypatch.setattr(firewall.firewall, "enforce", apply)
    record = GuestRecord("i-1", 1, spec=ruled(80), network={"netns": "mc-1"})
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(firewall.enforce, record)
        assert first_is_at_it.wait(10)
        record.spec = ruled(443)
        threads.submit(firewall.enforce, record).result(10)
        first.result(10)
    assert in_force[-1] == 443
