"""docs/aws-coverage.md says what the doors serve; every door that a process mounts is in it."""

from __future__ import annotations

import re
from pathlib import Path

from minicloud.aws import services
from minicloud.aws.coverage import DOORS, operations, page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_doors_say() -> None:
    """`.venv/bin/python -m minicloud.aws.coverage > docs/aws-coverage.md` makes it anew."""
    assert (ROOT / "docs" / "aws-coverage.md").read_text() == page()


def test_every_door_that_is_mounted_is_in_it() -> None:
    mounted = {
        name
        for path in (ROOT / "minicloud").glob("cloud*.py")
        for name in re.findall(r'\bDoor\("([a-z0-9-]+)"', path.read_text())
    } - {"..."}
    assert mounted == set(DOORS)


def test_every_service_is_known_to_the_routes_and_has_operations() -> None:
    for name in DOORS:
        assert name in services.BY_NAME
        assert operations(name)
