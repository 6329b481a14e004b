"""A short run of aws_fuzz; a long one is `python -m tests.contract.aws_fuzz 200000`."""

from __future__ import annotations

from tests.contract.aws_fuzz import fuzz


async def test_no_input_makes_the_aws_face_fail() -> None:
    seen = await fuzz(4_000, seed=7)
    assert seen[200] > 50 and seen[400] > 500
