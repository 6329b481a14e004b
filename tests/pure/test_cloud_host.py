"""What a host derives from the cloud's settings."""

from __future__ import annotations

import pytest

from minicloud.cloud_host import door_address
from minicloud.settings import CloudSettings


@pytest.mark.parametrize(
    ("bind", "head", "address"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "192.0.2.1", "192.0.2.1"),  # a joined cluster of several machines
        ("192.0.2.7", "192.0.2.1", "192.0.2.7"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("::", "192.0.2.1", "192.0.2.1"),
        ("::", "2001:db8::1", "127.0.0.1"),
    ],
)
def test_guests_are_led_to_where_the_front_door_listens(bind: str, head: str, address: str) -> None:
    assert door_address(CloudSettings("0123abcd", "/d", bind=bind, control_host=head)) == address
