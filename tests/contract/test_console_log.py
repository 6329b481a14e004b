"""Consoles as log streams: whole lines, once, on over a restart of the agent, bounded for who prints too much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from minicloud.base.arn import Scope
from minicloud.base.limits import CONSOLE_BYTES_MAX
from minicloud.host.console import Consoles
from minicloud.host.console_log import GROUP, PART_BYTES, ConsoleLog
from tests.turns import until

HOME = Scope("111122223333", "eu-west-1")


class Site:
    """An agent's part; `again` is another agent on the same files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self.start()

    def start(self) -> None:
        self.consoles = Consoles()
        self.log = ConsoleLog(self.consoles, self.write, lambda: 1_790_000_000.0, pause_s=0.0)
        self.consoles.keep(self.path)
        self.log.follow(self.path, HOME, "i-1")
        self.log.follow(self.path, HOME, "i-1")

    def write(self, scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> None:
        assert (scope, group, stream) == (HOME, GROUP, "i-1")
        self.said += [text for _, text in events]

    def print(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    async def stop(self) -> None:
        await self.log.close()
        self.consoles.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path / "console.log")
    yield made
    await made.stop()


async def test_whole_lines_come_as_they_are_printed_and_the_last_one_at_the_end(site: Site) -> None:
    site.print("one\r\ntw")
    await until(lambda: site.said == ["one"])
    site.print("o\n\nthree")
    await until(lambda: site.said == ["one", "two"])
    site.consoles.end(site.path)
    await until(lambda: site.said == ["one", "two", "three"])


async def test_another_agent_goes_on_where_the_line_begins(site: Site) -> None:
    site.print("one\ntw")
    await until(lambda: site.said == ["one"])
    await site.stop()
    site.print("o\nthree\n")
    site.start()
    await until(lambda: site.said == ["one", "two", "three"])
    await site.stop()
    site.path.write_text("")  # the console began anew
    site.print("four\n")
    site.start()
    await until(lambda: site.said[-1] == "four")


async def test_what_the_console_no_longer_keeps_is_left_out_and_said(site: Site) -> None:
    site.print("begin\n")
    await until(lambda: site.said == ["begin"])
    await site.stop()
    line = "x" * 99 + "\n"
    site.print(line * (CONSOLE_BYTES_MAX // 100 * 3))
    site.print("end\n")
    site.start()
    await until(lambda: site.said[-1] == "end")
    left_out = [text for text in site.said if text.startswith("[minicloud: ")]
    assert len(left_out) == 1 and left_out[0].endswith("bytes of this console are left out]")
    assert sum(len(text) + 1 for text in site.said) < CONSOLE_BYTES_MAX + PART_BYTES


async def test_a_line_without_end_is_cut(site: Site) -> None:
    site.print("y" * (3 * PART_BYTES))
    await until(lambda: len(site.said) == 3)
    assert {len(text) for text in site.said} == {PART_BYTES}


async def test_a_disk_that_is_gone_ends_it_quietly(site: Site) -> None:
    site.print("one\n")
    await until(lambda: site.said == ["one"])
    site.path.unlink()
    site.consoles.end(site.path)
    await until(lambda: not site.log._tasks)
