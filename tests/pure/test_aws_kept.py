"""Answers that are kept: how long, and how much of them."""

from __future__ import annotations

from typing import Any

from minicloud.aws import model
from minicloud.aws.kept import OF_AN_ACCOUNT, QUESTION_CHARS_MAX, Answers, Room
from minicloud.aws.xml import Whole, encoded, structure_writer

SHAPE = model.load("ec2", ["DescribeInstances"]).operations["DescribeInstances"].output
WRITE = structure_writer(SHAPE)
PAGE = "x" * 10_000
ASKED: list[str] = []


def page(answers: Answers, account: str, question: str, version: int = 1, text: str = PAGE) -> str:
    """What is written for a question; who is made anew is in ASKED."""

    def make() -> dict[str, Any]:
        ASKED.append(question)
        return {"NextToken": text}

    return encoded(answers.of(account, question, version, make), WRITE).decode()


def made(answers: Answers, account: str, *questions: str) -> list[str]:
    ASKED.clear()
    for one in questions:
        page(answers, account, one)
    return list(ASKED)


def test_a_version_is_asked_for_once() -> None:
    answers = Answers()
    first = page(answers, "a", "q", 1, "one")
    assert page(answers, "a", "q", 1, "two") == first == "<nextToken>one</nextToken>"
    assert page(answers, "a", "q", 2, "two") == "<nextToken>two</nextToken>"
    assert page(answers, "b", "q", 2, "three") == "<nextToken>three</nextToken>"


def test_an_account_has_its_own_room_and_the_last_questions_stay() -> None:
    answers = Answers(Room(3, 1 << 20), Room(100, 1 << 30))
    assert made(answers, "other", "z") == ["z"]
    assert made(answers, "a", *"123", *"123", "4") == [*"1234"]
    assert made(answers, "a", *"234", "1") == ["1"]
    assert made(answers, "other", "z") == []


def test_bytes_are_bounded_for_one_and_for_all() -> None:
    answers = Answers(Room(100, 35_000), Room(1_000, 95_000))
    for account in "abcdef":
        for number in range(6):
            page(answers, account, str(number))
            page(answers, account, str(number))
            assert answers.weight(account) <= 35_000 + len(PAGE) and answers.weight() <= 95_000 + len(PAGE)
    assert made(answers, "f", *"543") == [] and made(answers, "a", "5") == ["5"]


def test_what_would_not_fit_is_not_kept() -> None:
    answers = Answers()
    huge = "y" * OF_AN_ACCOUNT.bytes
    for _ in range(2):
        assert huge in page(answers, "a", "q", 1, huge)
    assert not answers.weight()
    assert made(answers, "a", "q" * (QUESTION_CHARS_MAX + 1)) and not answers.weight()


def test_it_is_no_matter_who_looks_before_it_is_written() -> None:
    answers = Answers()
    one = answers.of("a", "q", 1, lambda: {"NextToken": "t"})
    two = answers.of("a", "q", 1, lambda: {"NextToken": "u"})
    assert type(one) is Whole and one is two and one["NextToken"] == "t"


def test_what_nobody_wrote_does_not_pile_up() -> None:
    """A caller that went away while it waited for the disk: what it was to be shown weighs nothing, and takes room."""
    answers = Answers()
    shown = [answers.of("a", str(number), 1, lambda: {"NextToken": PAGE}) for number in range(5)]
    assert sum(len(one) for _, one in answers._kept.values()) == 1 and all(shown)
    assert made(answers, "a", "4", "4") == []
