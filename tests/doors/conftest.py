"""One real cloud of two hosts for the whole ring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minicloud.client import Client
from tests.real_cloud import RealCloud, real_cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[RealCloud]:
    with real_cloud("--hosts", "2") as made:
        yield made


@pytest.fixture(scope="session")
def client(cloud: RealCloud) -> Iterator[Client]:
    with cloud.client() as made:
        yield made
