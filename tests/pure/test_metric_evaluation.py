"""M out of N with missing data: every row of the guide's tables, and the reasons in CloudWatch's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.metric.evaluation import ALARM, INSUFFICIENT, OK, TREATMENTS, Rule, judge, low_samples, reason, stamp

KEEP = None
POINTS = {"0": 0.0, "X": 9.0, "-": None}


def rule(needed: int, missing: str, periods: int = 3, comparison: str = "GreaterThanThreshold") -> Rule:
    return Rule(comparison, 5.0, needed, periods, missing)


def points(text: str) -> list[float | None]:
    return [POINTS[one] for one in text.split()]


# guide, "How alarm state is evaluated when data is missing": 3 out of 3, then 2 out of 3; 5 points are looked at.
# Columns: missing, ignore, breaching, notBreaching.
@pytest.mark.parametrize(
    ("needed", "text", "states"),
    [
        (3, "0 - X - X", (OK, OK, OK, OK)),
        (3, "0 - - - -", (OK, OK, OK, OK)),
        (3, "- - - - -", (INSUFFICIENT, KEEP, ALARM, OK)),
        (3, "0 X X - X", (ALARM, ALARM, ALARM, ALARM)),
        (3, "- - X - -", (ALARM, KEEP, ALARM, OK)),
        (3, "- - - - X", (INSUFFICIENT, KEEP, ALARM, OK)),
        (3, "X - - - -", (ALARM, KEEP, ALARM, OK)),
        (2, "0 - X - X", (ALARM, ALARM, ALARM, ALARM)),
        (2, "0 0 X 0 X", (ALARM, ALARM, ALARM, ALARM)),
        (2, "0 - X - -", (OK, OK, ALARM, OK)),
        (2, "- - - - 0", (OK, OK, ALARM, OK)),
        (2, "- - - X -", (ALARM, KEEP, ALARM, OK)),
        (2, "- - - - X", (INSUFFICIENT, KEEP, ALARM, OK)),
        # guide, "Avoiding premature transitions to alarm state"
        (3, "- - - X -", (INSUFFICIENT, KEEP, ALARM, OK)),
        (3, "- - - X 0", (OK, OK, OK, OK)),
        (3, "- - X - 0", (OK, OK, OK, OK)),
    ],
)
def test_missing_data_of_the_guide(needed: int, text: str, states: tuple[str | None, ...]) -> None:
    found = tuple(judge(rule(needed, missing), points(text)).state for missing in TREATMENTS)
    assert found == states


# guide, "Evaluating an alarm": the figure. 3 out of 3 above 3; period after period.
def test_the_figure_of_the_guide() -> None:
    values: list[float | None] = [2, 2, 4, 5, 4, 2, 2, 2, 4, 2]
    compared = Rule("GreaterThanThreshold", 3.0, 3, 3)
    states = [judge(compared, values[max(end - 5, 0) : end]).state for end in range(3, 11)]
    assert states == [OK, OK, ALARM, OK, OK, OK, OK, OK]


@pytest.mark.parametrize(
    ("comparison", "below", "at", "above"),
    [
        ("GreaterThanThreshold", OK, OK, ALARM),
        ("GreaterThanOrEqualToThreshold", OK, ALARM, ALARM),
        ("LessThanThreshold", ALARM, OK, OK),
        ("LessThanOrEqualToThreshold", ALARM, ALARM, OK),
    ],
)
def test_comparisons(comparison: str, below: str, at: str, above: str) -> None:
    compared = rule(1, "missing", 1, comparison)
    assert [judge(compared, [value]).state for value in (4.0, 5.0, 6.0)] == [below, at, above]


@given(
    st.lists(st.sampled_from([None, 0.0, 9.0]), min_size=0, max_size=8),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(TREATMENTS),
)
def test_laws_of_evaluation(values: list[float | None], needed: int, periods: int, missing: str) -> None:
    needed = min(needed, periods)
    found = judge(rule(needed, missing, periods), values)
    there = [value for value in values if value is not None]
    if len(there) >= periods:
        assert found.state == (ALARM if sum(one > 5 for one in there[-periods:]) >= needed else OK)
    if missing in ("breaching", "notBreaching"):
        filled = [9.0 if missing == "breaching" else 0.0] * max(periods - len(there), 0)
        assert found.state == (ALARM if sum(one > 5 for one in [*there[-periods:], *filled]) >= needed else OK)
    if found.state == INSUFFICIENT:
        assert missing == "missing"
        assert 0.0 not in there
    if found.state == ALARM and missing in ("missing", "ignore"):
        assert 9.0 in there


T = [1_764_036_600 + 60 * at for at in range(5)]  # 25/11/25 02:10:00


@pytest.mark.parametrize(
    ("compared", "values", "text"),
    [
        (
            rule(1, "missing", 1),
            [None, None, 99.5],
            "Threshold Crossed: 1 out of the last 1 datapoints [99.5 (25/11/25 02:12:00)] was greater than the "
            "threshold (5.0) (minimum 1 datapoint for OK -> ALARM transition).",
        ),
        (
            rule(2, "missing"),
            [0.0, 9.0, 8.0, 0.0, 7.0],
            "Threshold Crossed: 2 out of the last 3 datapoints [7.0 (25/11/25 02:14:00), 8.0 (25/11/25 02:12:00)] were "
            "greater than the threshold (5.0) (minimum 2 datapoints for OK -> ALARM transition).",
        ),
        (
            rule(3, "missing"),
            [0.0, 9.0, 8.0, 1.0, 7.0],
            "Threshold Crossed: 1 out of the last 3 datapoints [1.0 (25/11/25 02:13:00)] was not greater than the "
            "threshold (5.0) (minimum 1 datapoint for ALARM -> OK transition).",
        ),
        (rule(1, "missing", 1), [None, None, None], "Insufficient Data: 1 datapoint was unknown."),
        (rule(3, "missing"), [None] * 5, "Insufficient Data: 3 datapoints were unknown."),
        (
            rule(1, "notBreaching", 1),
            [None] * 3,
            "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as "
            "[NonBreaching].",
        ),
        (
            rule(3, "breaching"),
            [None] * 5,
            "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as "
            "[Breaching].",
        ),
        (
            rule(2, "breaching", 2),
            [None, None, None, 9.0],
            "Threshold Crossed: 1 out of the last 2 datapoints [9.0 (25/11/25 02:13:00)] was greater than the "
            "threshold (5.0) and 1 missing datapoint was treated as [Breaching] (minimum 2 datapoints for OK -> ALARM "
            "transition).",
        ),
    ],
)
def test_reasons(compared: Rule, values: list[float | None], text: str) -> None:
    assert reason(compared, judge(compared, values), values, T) == text


def test_reasons_of_many_points_stay_short() -> None:
    values: list[float | None] = [9.123456789012345] * 1_440
    compared = rule(1_440, "missing", 1_440)
    assert len(reason(compared, judge(compared, values), values, list(range(0, 86_400, 60)))) < 1_023


@pytest.mark.parametrize(
    ("count", "quantile", "low"),
    [(999, 0.99, True), (1_000, 0.99, False), (19, 0.5, True), (20, 0.5, False), (99, 0.1, True), (100, 0.1, False)],
)
def test_low_samples_of_the_guide(count: float, quantile: float, low: bool) -> None:
    """Guide: 10/(1-percentile) from 0.5 on, 10/percentile below."""
    assert low_samples(count, quantile) is low


def test_stamps() -> None:
    assert stamp(1_764_036_600_123) == "2025-11-25T02:10:00.123+0000"
