"""What a host derives from the cloud's settings."""

from __future__ import annotations

import pytest

from minicloud.cloud_host import door_address


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7"),
        ("localhost", "127.0.0.1"),
        ("::", "127.0.0.1"),
    ],
)
def test_guests_are_led_to_where_the_front_door_listens(bind: str, address: str) -> None:
    assert door_address(bind) == address
