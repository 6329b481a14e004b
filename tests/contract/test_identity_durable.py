"""Identity behind its real shell: on a file it survives a restart, and what could not be stored opens no door."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import InsufficientStorage, Unauthenticated
from minicloud.base.machine import Journal
from minicloud.identity import commands as ask
from minicloud.identity.machine import IdentityMachine
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.service import Identity, ensure_admin
from minicloud.shell.clock import SystemClock
from minicloud.shell.shell import Shell
from minicloud.store.memory import MemoryJournal
from minicloud.store.sqlite import SqliteJournal

ROOT = Caller(Scope(), admin=True)


class NothingUsed:
    def used(self, _account: str) -> dict[str, float]:
        return {}


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def started(journal: Journal) -> tuple[Identity, Shell]:
    machine = IdentityMachine(AesGcmSeal(b"s" * 32))
    shell = Shell(machine, journal, clock=SystemClock(), rand=random.SystemRandom(), on_effects=lambda _effects: None)
    await shell.start()
    return Identity(machine, shell, NothingUsed(), b"p"), shell


async def test_a_restart_finds_the_same_keys(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    journal = SqliteJournal(file)
    identity, shell = await started(journal)
    account = await identity.submit(ask.CreateAccount(ROOT, name="shop"))
    kept = await identity.submit(ask.CreateAccessKey(ROOT, account.account))
    gone = await identity.submit(ask.CreateAccessKey(ROOT, account.account))
    await identity.submit(ask.DeleteAccessKey(ROOT, gone.key.id))
    await identity.submit(ask.SetQuota(ROOT, account.account, "vcpus", 8))
    assert await ensure_admin(identity, random.SystemRandom(), lambda _credentials: None)
    await shell.stop()
    journal.close()
    on_disk = everything(tmp_path)
    assert kept.secret.encode() not in on_disk
    assert kept.key.id.encode() in on_disk

    journal = SqliteJournal(file)
    identity, shell = await started(journal)
    machine = identity.machine
    assert machine.authenticate(kept.key.id, kept.secret).scope.account == account.account
    with pytest.raises(Unauthenticated):
        machine.authenticate(gone.key.id, gone.secret)
    assert machine.account(account.account) == account
    assert machine.limit(account.account, "vcpus") == 8
    assert not await ensure_admin(identity, random.SystemRandom(), lambda _credentials: None)
    await shell.stop()
    journal.close()


async def test_a_full_disk_leaves_no_half_made_key() -> None:
    journal = MemoryJournal()
    identity, shell = await started(journal)
    made = await identity.submit(ask.CreateAccessKey(ROOT))
    journal.fail(InsufficientStorage())
    with pytest.raises(InsufficientStorage):
        await identity.submit(ask.CreateAccessKey(ROOT))
    assert identity.machine.key_ids(ROOT, "") == [made.key.id]
    journal.fail(InsufficientStorage())
    with pytest.raises(InsufficientStorage):
        await identity.submit(ask.DeleteAccessKey(ROOT, made.key.id))
    assert identity.machine.authenticate(made.key.id, made.secret).access_key_id == made.key.id
    await shell.stop()
