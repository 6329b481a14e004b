"""Ports that are chosen."""

from __future__ import annotations

import itertools

import pytest

from minicloud.cluster import ports


def test_a_port_is_given_once_though_nobody_listens_on_it_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = itertools.chain.from_iterable((number, number) for number in itertools.count(7))
    monkeypatch.setattr(ports, "random_hex", lambda _bytes: f"{next(draws):x}")
    given = [ports.free_port("127.0.0.1") for _ in range(5)]
    assert len(set(given)) == 5
