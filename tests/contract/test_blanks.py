"""Disks made ahead: whose they become, and that a guest on one of them cannot tell."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from minicloud.host import blanks
from minicloud.host.blanks import BLANK, Blanks
from minicloud.sandbox import probe as probing
from tests.contract.agent_side import ControlPlane, Host, run

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcg", dir="/tmp") as path:
        yield Path(path)


def prepare(root: Path) -> None:
    (root / "etc").mkdir(parents=True)
    for name in ("hosts", "hostname", "passwd"):
        (root / "etc" / name).write_text("of nobody")


def test_a_blank_becomes_a_disk_that_lacks_a_name_only(folder: Path) -> None:
    ahead = Blanks(folder, prepare)
    ahead.make_one()
    assert ahead.take(folder / "i-1") and ahead.count() == 0
    assert [path.name for path in (folder / "i-1/root/etc").iterdir()] == ["passwd"]
    assert not ahead.take(folder / "i-2") and not (folder / "i-2").exists()


def test_a_disk_that_is_there_stays(folder: Path) -> None:
    ahead = Blanks(folder, prepare)
    ahead.make_one()
    (folder / "i-1").mkdir()
    assert not ahead.take(folder / "i-1")
    assert ahead.count() == 1 and not any((folder / "i-1").iterdir())


def test_what_an_agent_before_made_is_used_and_gone_over_again(folder: Path) -> None:
    Blanks(folder, prepare).make_one()
    heir = Blanks(folder, prepare)
    assert heir.count() == 1
    assert not heir.take(folder / "i-1")
    assert (folder / "i-1/root/etc/passwd").exists() and heir.count() == 0


def test_one_that_somebody_has_tidied_up_is_passed_over(folder: Path) -> None:
    ahead = Blanks(folder, prepare)
    ahead.make_one()
    ahead.make_one()
    first, _ = sorted(folder.glob(f"{BLANK}*"))
    first.rename(folder / "elsewhere")
    assert ahead.take(folder / "i-1")


def test_nothing_is_made_after_the_end(folder: Path) -> None:
    ahead = Blanks(folder, prepare)
    ahead.close()
    ahead.make_one()
    assert not list(folder.iterdir())


def test_one_that_cannot_be_made_leaves_nothing(folder: Path) -> None:
    def fail(root: Path) -> None:
        root.mkdir(parents=True)
        raise OSError("full")

    ahead = Blanks(folder, fail)
    with pytest.raises(OSError, match="full"):
        ahead.make_one()
    assert ahead.count() == 0 and not list(folder.iterdir())


async def test_it_is_filled_as_far_as_it_should(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blanks, "BLANKS", 6)
    monkeypatch.setattr(blanks, "QUIET_S", 0.0)
    ahead = Blanks(folder, prepare)
    ahead.refill()
    assert ahead._filling is not None
    await ahead._filling
    assert ahead.count() == 6 == len(list(folder.glob(f"{BLANK}*")))


async def test_nothing_is_filled_after_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that was under way when the agent left asks for it; it would be tried for ever."""
    monkeypatch.setattr(blanks, "QUIET_S", 0.0)
    ahead = Blanks(folder, prepare)
    ahead.close()
    ahead.refill()
    assert ahead._filling is not None
    await asyncio.wait_for(ahead._filling, 10)
    assert not list(folder.iterdir())


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[Host]:
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    one = Host(folder, control, probing.probe())
    await one.start_agent()
    await control.until(lambda: control.hellos)
    yield one
    await one.close()
    await control.stop()


async def test_a_guest_on_one_is_as_any_other(host: Host) -> None:
    assert host.builder is not None
    await asyncio.to_thread(host.builder._blanks.make_one)
    mark = host.builder._blanks._ready[0] / "root/mark"
    mark.write_text("made ahead")
    report = await host.launch("i-0001")
    assert (host.places.root("i-0001") / "mark").read_text() == "made ahead"
    if report.isolation.driver == "bwrap":
        _, named = await run(host.guest("i-0001"), "/bin/sh", "-c", "cat /etc/hostname /etc/hosts; ls /etc")
        name = host.record("i-0001")["spec"]["hostname"]
        assert named.startswith(f"{name}\n127.0.0.1 localhost\n{report.private_ip} {name}\n")
        assert "resolv.conf" in named.split()
