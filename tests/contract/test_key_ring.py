"""Access keys as other processes know them: told at once, over a control plane that goes and comes back."""

from __future__ import annotations

from typing import Any

import pytest

from minicloud.aws.signature import Key
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import Unavailable
from minicloud.cloud_gateway import opener
from minicloud.identity.commands import CreateAccessKey, DeleteAccessKey, SetAccessKeyStatus
from minicloud.identity.machine import IdentityMachine
from minicloud.identity.rpc import KEYS, KeyServicer
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.service import Identity
from minicloud.rpc import fleet_auth, key_ring
from minicloud.rpc.door import Entry, door
from minicloud.rpc.key_ring import KeyRing
from minicloud.rpc.server import Listen, RpcServer
from tests.contract.door_world import MemoryShell
from tests.turns import turn, until

SECRET = bytes(range(32))
ROOT = Caller(Scope(), admin=True)


class Control:
    def __init__(self) -> None:
        self.machine = IdentityMachine(AesGcmSeal(SECRET))
        shell = MemoryShell(self.machine)
        self.identity = Identity(self.machine, shell, shell, b"p")
        self.port = 0

    async def start(self) -> None:
        entry = Entry(fleet_auth.fleet_door(SECRET), lambda: "id")
        service = door(KeyServicer(self.identity), KEYS, entry)
        self.server = RpcServer([service], lambda: "id", Listen(port=self.port))
        self.port = await self.server.start()

    async def make(self) -> Any:
        return await self.identity.submit(CreateAccessKey(ROOT, "", False))


def found(ring: KeyRing[Key], key_id: str) -> Key | None:
    try:
        return ring.find(key_id)
    except Unavailable:
        return None


async def test_keys_come_change_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "PAUSE_S", (0.01, 0.01))
    control = Control()
    await control.start()
    first = await control.make()
    ring = KeyRing(f"127.0.0.1:{control.port}", SECRET, "broker-0", opener(SECRET))
    with pytest.raises(Unavailable):
        ring.find(first.key.id)  # nobody is known yet, so nobody is unknown
    ring.start()
    try:
        key = await until(lambda: found(ring, first.key.id))
        assert key == Key(first.secret.encode(), "000000000000")
        assert ring.find("AKIANOBODY") is None
        second = await control.make()
        await until(lambda: found(ring, second.key.id))
        await control.identity.submit(SetAccessKeyStatus(ROOT, first.key.id, "Inactive"))
        await until(lambda: found(ring, first.key.id) is None)

        await control.server.stop(0)
        assert ring.find(second.key.id) is not None  # what was said last holds
        await control.identity.submit(DeleteAccessKey(ROOT, second.key.id))
        third = await control.make()
        await control.start()
        await until(lambda: found(ring, third.key.id))
        assert ring.find(second.key.id) is None
    finally:
        await ring.close()
        await control.server.stop(0)


async def test_only_the_clouds_own_processes_are_told() -> None:
    control = Control()
    await control.start()
    ring = KeyRing(f"127.0.0.1:{control.port}", b"x" * 32, "broker-0", opener(SECRET))
    ring.start()
    try:
        await turn(200)
        with pytest.raises(Unavailable):
            ring.find("AKIANOBODY")
    finally:
        await ring.close()
        await control.server.stop(0)
