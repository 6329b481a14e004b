"""Six-field cron expressions, as EventBridge has them (the five-field ones: test_scaling_policies.py)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from minicloud.shell.cron import Cron, time_zone


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 10 * * ? *", "2026-11-25T09:00", "2026-11-25T10:00"),  # the first five: the guide's examples
        ("15 12 * * ? *", "2026-11-25T12:15", "2026-11-26T12:15"),
        ("0 18 ? * MON-FRI *", "2026-11-27T18:00", "2026-11-30T18:00"),
        ("0/15 * * * ? *", "2026-11-25T12:16", "2026-11-25T12:30"),
        ("0 8 1 * ? *", "2026-11-25T12:16", "2026-12-01T08:00"),
        ("0 0 L * ? *", "2028-02-01T00:00", "2028-02-29T00:00"),
        ("0 0 ? * L *", "2026-11-25T00:00", "2026-11-28T00:00"),
        ("0 0 ? * 6L *", "2026-11-01T00:00", "2026-11-27T00:00"),
        ("0 9 ? * 2#1 *", "2026-11-25T00:00", "2026-12-07T09:00"),
        ("0 9 ? * SUN *", "2026-11-25T00:00", "2026-11-29T09:00"),
        ("0 9 15W * ? *", "2026-11-01T00:00", "2026-11-16T09:00"),  # the 15th is a Sunday
        ("0 9 1W * ? *", "2026-07-31T00:00", "2026-08-03T09:00"),  # the 1st is a Saturday: not in July
        ("0 9 31W * ? *", "2026-05-01T00:00", "2026-05-29T09:00"),  # the 31st is a Sunday: not in June
        ("0 0 1 1 ? 2030", "2026-11-25T00:00", "2030-01-01T00:00"),
        ("0 0 1 1 ? 2030-2032/2", "2030-06-01T00:00", "2032-01-01T00:00"),
    ],
)
def test_the_next_time(text: str, after: str, expected: str) -> None:
    assert Cron.parse_six(text).next(at(after)) == at(expected)


def test_years_that_are_over_never_come() -> None:
    assert Cron.parse_six("0 0 1 1 ? 2020").next(at("2026-11-25T00:00")) is None


def test_a_zone_moves_the_time() -> None:
    found = Cron.parse_six("0 9 * * ? *").next(at("2026-07-01T00:00"), time_zone("Europe/Berlin"))
    assert found == at("2026-07-01T07:00")


@pytest.mark.parametrize(
    "text",
    [
        "0 10 * * * *",
        "0 10 ? * ? *",
        "0 10 * * ?",
        "60 10 * * ? *",
        "0 10 32W * ? *",
        "0 10 ? * 8 *",
        "0 10 ? * 2#6 *",
        "0 10 ? * 0 *",
        "0 10 * * ? 1969",
        "",
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Cron.parse_six(text)
