from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.fake_cloud import FakeCloud


@pytest.fixture
def fake_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """A server to program, and an environment that names nothing."""
    for name in ("ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "CA", "TLS"):
        monkeypatch.delenv(f"MINICLOUD_{name}", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    cloud = FakeCloud()
    cloud.start()
    yield cloud
    cloud.close()
