"""Accounts, access keys, quotas: tables of rules, and a state machine in which replay must equal the live machine."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from minicloud.base import limits
from minicloud.base.arn import DEFAULT_ACCOUNT, Caller, Scope
from minicloud.base.errors import (
    AccessDenied,
    AlreadyExists,
    CloudError,
    InvalidPageToken,
    InvalidParameterValue,
    LimitExceeded,
    MissingParameter,
    NotFound,
    OperationNotPermitted,
    Unauthenticated,
)
from minicloud.base.machine import Context, Record, Tick
from minicloud.identity import commands as ask
from minicloud.identity.machine import IdentityMachine
from minicloud.identity.model import AccessKey, NewAccessKey
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.service import Identity, ensure_admin

SEAL = AesGcmSeal(b"s" * 32)
ROOT = Caller(Scope(), admin=True)  # authentication off


class Journalled:
    """A machine and what a journal would hold."""

    def __init__(self, seal: AesGcmSeal = SEAL) -> None:
        self.machine = IdentityMachine(seal)
        self.stored: dict[tuple[str, str], Record] = {}
        self.rand = random.Random(7)
        self.now = 1_700_000_000.0

    def do(self, command: Any) -> Any:
        self.now += 1
        outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.machine.apply(record)
            self.stored[record.kind, record.key] = record
            if record.body is None:
                del self.stored[record.kind, record.key]
        return outcome.reply

    def replayed(self, seal: AesGcmSeal = SEAL) -> IdentityMachine:
        again = IdentityMachine(seal)
        for record in random.Random(3).sample(sorted(self.stored.values()), len(self.stored)):
            again.apply(record)
        return again

    # what Identity wants of a shell
    async def submit(self, command: Any) -> Any:
        return self.do(command)

    async def shown(self, look: Callable[[], Any]) -> Any:
        return look()

    def used(self, account: str) -> dict[str, float]:
        return {"instances": 3.0} if account == DEFAULT_ACCOUNT else {}

    def identity(self) -> Identity:
        return Identity(self.machine, self, self, b"page secret")

    def tenant(self, account: str = "111111111111") -> tuple[Caller, NewAccessKey]:
        """An account with an ordinary key."""
        if account != DEFAULT_ACCOUNT:
            self.do(ask.CreateAccount(ROOT, account))
        made = self.do(ask.CreateAccessKey(ROOT, account))
        return self.machine.authenticate(made.key.id, made.secret), made


@pytest.fixture
def cloud() -> Journalled:
    return Journalled()


def state(machine: IdentityMachine) -> Any:
    return (
        machine._bodies,
        machine._account_ids,
        machine._keys_of,
        machine._secrets,
    )


# ---------------------------------------------------------------- keys


def test_a_new_key_has_awss_form_and_opens_the_door(cloud: Journalled) -> None:
    made = cloud.do(ask.CreateAccessKey(ROOT, admin=True))
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", made.key.id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", made.secret)
    caller = cloud.machine.authenticate(made.key.id, made.secret, "eu-west-1")
    assert caller == Caller(Scope(DEFAULT_ACCOUNT, "eu-west-1"), made.key.id, admin=True)


def test_the_secret_is_nowhere_on_disk(cloud: Journalled) -> None:
    made = cloud.do(ask.CreateAccessKey(ROOT))
    assert made.secret not in repr(cloud.stored)
    assert made.secret not in repr(made)


def test_unknown_wrong_and_disabled_are_told_apart_by_nothing(cloud: Journalled) -> None:
    _, made = cloud.tenant()
    _, off = cloud.tenant("222222222222")
    cloud.do(ask.SetAccessKeyStatus(ROOT, off.key.id, "Inactive"))
    tries = [
        ("AKIA" + "A" * 16, made.secret),
        (made.key.id, "x" * 40),
        (made.key.id, ""),
        (made.key.id, "\ud800"),
        (off.key.id, off.secret),
        ("", "\0" * 40),
        ("AKIA" + "A" * 16, "\0" * 40),
    ]
    said = set()
    for key_id, secret in tries:
        with pytest.raises(Unauthenticated) as refused:
            cloud.machine.authenticate(key_id, secret)
        said.add((refused.value.message, refused.value.code, refused.value.field))
    assert len(said) == 1


def test_every_refusal_compares_a_secret(cloud: Journalled, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = cloud.tenant()
    lengths = []

    def counted(expected: bytes, given: bytes) -> bool:
        lengths.append(len(expected))
        return expected == given

    monkeypatch.setattr("minicloud.identity.machine.hmac.compare_digest", counted)
    for key_id in (made.key.id, "AKIA" + "A" * 16, "nonsense"):
        with pytest.raises(Unauthenticated):
            cloud.machine.authenticate(key_id, "x" * 40)
    assert lengths == [40, 40, 40]


def test_a_key_can_be_disabled_enabled_and_deleted(cloud: Journalled) -> None:
    caller, made = cloud.tenant()
    assert cloud.do(ask.SetAccessKeyStatus(caller, made.key.id, "Inactive")).status == "Inactive"
    with pytest.raises(Unauthenticated):
        cloud.machine.authenticate(made.key.id, made.secret)
    assert cloud.do(ask.SetAccessKeyStatus(caller, made.key.id, "Active")).status == "Active"
    assert cloud.machine.authenticate(made.key.id, made.secret) == caller
    assert isinstance(cloud.do(ask.DeleteAccessKey(caller, made.key.id)), AccessKey)
    with pytest.raises(Unauthenticated):
        cloud.machine.authenticate(made.key.id, made.secret)
    with pytest.raises(NotFound):
        cloud.do(ask.DeleteAccessKey(caller, made.key.id))


def test_setting_the_same_status_again_writes_nothing(cloud: Journalled) -> None:
    caller, made = cloud.tenant()
    outcome = cloud.machine.decide(
        ask.SetAccessKeyStatus(caller, made.key.id, "Active"), Context(0.0, random.Random(0))
    )
    assert (outcome.reply, outcome.records) == (made.key, [])


@pytest.mark.parametrize(
    "command",
    [
        lambda caller, key_id: ask.SetAccessKeyStatus(caller, key_id, "Inactive"),
        lambda caller, key_id: ask.SetAccessKeyStatus(caller, key_id, "nonsense"),
        lambda caller, key_id: ask.DeleteAccessKey(caller, key_id),
    ],
)
def test_another_accounts_key_looks_like_an_unknown_one(
    cloud: Journalled, command: Callable[[Caller, str], Any]
) -> None:
    mallory, _ = cloud.tenant("666666666666")
    _, theirs = cloud.tenant()
    texts = []
    for key_id in (theirs.key.id, "AKIA" + "A" * 16):
        with pytest.raises(NotFound) as missing:
            cloud.do(command(mallory, key_id))
        texts.append(missing.value.message.replace(key_id, "KEY"))
    assert texts[0] == texts[1]
    assert cloud.machine.key(theirs.key.id).status == "Active"


def test_the_last_administrator_cannot_lock_everybody_out(cloud: Journalled) -> None:
    made = cloud.do(ask.CreateAccessKey(ROOT, admin=True))
    admin = cloud.machine.authenticate(made.key.id, made.secret)
    for command in (ask.SetAccessKeyStatus(admin, made.key.id, "Inactive"), ask.DeleteAccessKey(admin, made.key.id)):
        with pytest.raises(OperationNotPermitted):
            cloud.do(command)
    second = cloud.do(ask.CreateAccessKey(admin, admin=True))
    cloud.do(ask.DeleteAccessKey(admin, made.key.id))
    cloud.do(ask.DeleteAccessKey(ROOT, second.key.id))  # authentication is off: nobody is locked out
    assert not cloud.machine.has_admin_key()


def test_a_key_sealed_under_another_secret_is_listed_and_opens_nothing(cloud: Journalled) -> None:
    made = cloud.do(ask.CreateAccessKey(ROOT, admin=True))
    other = cloud.replayed(AesGcmSeal(b"o" * 32))
    assert other.unreadable() == [made.key.id]
    assert other.key_ids(ROOT, "") == [made.key.id]
    assert not other.has_admin_key()
    for secret in (made.secret, "\0" * 40):
        with pytest.raises(Unauthenticated):
            other.authenticate(made.key.id, secret)


def test_a_sealed_secret_is_bound_to_its_key() -> None:
    sealed = SEAL.seal(b"secret", b"n" * 12, "AKIA1")
    assert SEAL.open(sealed, "AKIA1") == b"secret"
    for text, name in ((sealed, "AKIA2"), (sealed[:-4] + "AAA=", "AKIA1"), ("2:" + sealed[2:], "AKIA1"), ("", "AKIA1")):
        with pytest.raises(ValueError, match=r"sealed|base64|padding"):
            SEAL.open(text, name)


def test_there_is_a_limit_of_keys(cloud: Journalled) -> None:
    caller, _ = cloud.tenant()
    for _ in range(limits.ACCESS_KEYS_PER_ACCOUNT_MAX - 1):
        cloud.do(ask.CreateAccessKey(caller))
    with pytest.raises(LimitExceeded) as full:
        cloud.do(ask.CreateAccessKey(caller))
    assert full.value.details == {"quota": "access-keys", "account": "111111111111"}


# ---------------------------------------------------------------- administrators


def test_what_only_administrators_may(cloud: Journalled) -> None:
    caller, _ = cloud.tenant()
    for command in (
        ask.CreateAccount(caller, "333333333333"),
        ask.CreateAccessKey(caller, DEFAULT_ACCOUNT),
        ask.CreateAccessKey(caller, "999999999999"),  # not even whether it exists
        ask.CreateAccessKey(caller, admin=True),
        ask.SetQuota(caller, "111111111111", "vcpus", 1e6),
    ):
        with pytest.raises(AccessDenied):
            cloud.do(command)
    for look in (
        lambda: cloud.machine.account_ids(caller),
        lambda: cloud.machine.key_ids(caller, DEFAULT_ACCOUNT),
        lambda: cloud.machine.quotas(caller, DEFAULT_ACCOUNT),
    ):
        with pytest.raises(AccessDenied):
            look()


def test_accounts(cloud: Journalled) -> None:
    chosen = cloud.do(ask.CreateAccount(ROOT, name="shop"))
    assert re.fullmatch(r"\d{12}", chosen.account)
    assert chosen.name == "shop"
    for account in (chosen.account, DEFAULT_ACCOUNT):
        with pytest.raises(AlreadyExists):
            cloud.do(ask.CreateAccount(ROOT, account))
    for account, name, field in (
        ("12", "", "account"),
        ("12345678901\n", "", "account"),
        ("\uff11" * 12, "", "account"),
        ("", "a\nb", "name"),
        ("", "n" * 256, "name"),
    ):
        with pytest.raises(InvalidParameterValue) as wrong:
            cloud.do(ask.CreateAccount(ROOT, account, name))
        assert wrong.value.field == field
    with pytest.raises(NotFound):
        cloud.do(ask.CreateAccessKey(ROOT, "999999999999"))


async def test_quotas(cloud: Journalled) -> None:
    cloud.tenant()
    assert cloud.machine.limit("111111111111", "vcpus") == limits.QUOTA_VCPUS
    cloud.do(ask.SetQuota(ROOT, "111111111111", "vcpus", 8))
    assert cloud.machine.limit("111111111111", "vcpus") == 8
    assert cloud.machine.limit(DEFAULT_ACCOUNT, "vcpus") == limits.QUOTA_VCPUS
    assert [(q.name, q.limit, q.used) for q in await cloud.identity().quotas(ROOT, "")] == [
        ("instances", limits.QUOTA_INSTANCES, 3.0),
        ("vcpus", limits.QUOTA_VCPUS, 0.0),
    ]
    for limit in (-1, float("nan"), float("inf"), 2e9):
        with pytest.raises(InvalidParameterValue, match="quota") as wrong:
            cloud.do(ask.SetQuota(ROOT, DEFAULT_ACCOUNT, "vcpus", limit))
        assert wrong.value.field == "limit"
    with pytest.raises(InvalidParameterValue):
        cloud.do(ask.SetQuota(ROOT, DEFAULT_ACCOUNT, "volumes", 1))
    with pytest.raises(MissingParameter):
        cloud.do(ask.SetQuota(ROOT, "", "vcpus", 1))
    with pytest.raises(NotFound):
        cloud.do(ask.SetQuota(ROOT, "999999999999", "vcpus", 1))


# ---------------------------------------------------------------- listing, the first key


async def test_pages_cover_everything_once_and_tokens_are_bound(cloud: Journalled) -> None:
    caller, _ = cloud.tenant()
    for _ in range(6):
        cloud.do(ask.CreateAccessKey(caller))
    identity, seen, token = cloud.identity(), [], ""
    while True:
        page = await identity.keys(caller, "", 3, token)
        seen += [key.id for key in page.items]
        token = page.next_token
        if not token:
            break
    assert seen == cloud.machine.key_ids(caller, "")
    assert len(seen) == 7
    token = (await identity.keys(caller, "", 3, "")).next_token
    other, _ = cloud.tenant("222222222222")
    stolen: list[Callable[[], Any]] = [
        lambda: identity.keys(other, "", 3, token),
        lambda: identity.accounts(ROOT, 3, token),
        lambda: identity.keys(caller, "", 3, "bm9uc2Vuc2U"),
    ]
    for look in stolen:
        with pytest.raises(InvalidPageToken):
            await look()
    for size in (-1, limits.PAGE_SIZE_MAX + 1):
        with pytest.raises(InvalidParameterValue):
            await identity.keys(caller, "", size, "")
    assert [account.account for account in (await identity.accounts(ROOT, 0, "")).items] == [
        DEFAULT_ACCOUNT,
        "111111111111",
        "222222222222",
    ]


async def test_the_first_administrator_is_written_down_before_the_key_is_made(cloud: Journalled) -> None:
    written: list[bytes] = []

    def crash(credentials: bytes) -> None:
        written.append(credentials)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await ensure_admin(cloud.identity(), cloud.rand, crash)
    assert not cloud.stored
    assert await ensure_admin(cloud.identity(), cloud.rand, written.append)
    assert not await ensure_admin(cloud.identity(), cloud.rand, written.append)
    assert len(written) == 2
    match = re.search(rb'"access_key_id": "(\w+)",\s+"secret_access_key": "([^"]+)"', written[1])
    assert match is not None
    assert cloud.machine.authenticate(match[1].decode(), match[2].decode()).admin


# ---------------------------------------------------------------- replay equals live

accounts = st.sampled_from(["", DEFAULT_ACCOUNT, "111111111111", "222222222222", "x"])


class Replay(RuleBasedStateMachine):
    """Any sequence of commands, accepted or refused; the journal rebuilds the machine, and undo takes steps back."""

    made = Bundle("made")

    @initialize()
    def begin(self) -> None:
        self.cloud = Journalled()
        self.shown: dict[str, tuple[str, str, bool]] = {}

    def ask(self, command: Any) -> Any:
        before = {kind: dict(bodies) for kind, bodies in self.cloud.machine._bodies.items()}
        try:
            outcome = self.cloud.machine.decide(command, Context(self.cloud.now, random.Random(11)))
        except CloudError:
            assert self.cloud.machine._bodies == before
            return None
        assert self.cloud.machine._bodies == before, "decide changed something"
        undo = [Record(r.kind, r.key, self.cloud.machine.lookup(r.kind, r.key)) for r in outcome.records]
        for record in [*outcome.records, *outcome.records, *reversed(undo)]:
            self.cloud.machine.apply(record)
        assert self.cloud.machine._bodies == before, "an undone record left something"
        return self.cloud.do(command)

    @rule(account=accounts)
    def account(self, account: str) -> None:
        self.ask(ask.CreateAccount(ROOT, account, "name"))

    @rule(target=made, account=accounts, admin=st.booleans())
    def key(self, account: str, admin: bool) -> Any:
        reply = self.ask(ask.CreateAccessKey(ROOT, account, admin))
        if reply is None:
            return multiple()
        self.shown[reply.key.id] = (reply.secret, reply.key.account, admin)
        return reply.key.id

    @rule(key=made, status=st.sampled_from(["Active", "Inactive", "Gone"]))
    def status(self, key: str, status: str) -> None:
        self.ask(ask.SetAccessKeyStatus(ROOT, key, status))

    @rule(key=made)
    def delete(self, key: str) -> None:
        self.ask(ask.DeleteAccessKey(ROOT, key))

    @rule(account=accounts, name=st.sampled_from(["vcpus", "instances", "x"]), limit=st.floats())
    def quota(self, account: str, name: str, limit: float) -> None:
        self.ask(ask.SetQuota(ROOT, account, name, limit))

    @rule()
    def tick(self) -> None:
        self.ask(Tick())
        assert self.cloud.machine.due() is None

    @invariant()
    def replay_equals_live(self) -> None:
        assert state(self.cloud.replayed()) == state(self.cloud.machine)

    @invariant()
    def exactly_the_active_keys_open_the_door(self) -> None:
        bodies = self.cloud.machine._bodies["access_key"]
        for key_id, (secret, account, admin) in self.shown.items():
            try:
                caller = self.cloud.machine.authenticate(key_id, secret)
            except Unauthenticated:
                assert key_id not in bodies or bodies[key_id]["status"] == "Inactive"
            else:
                assert bodies[key_id]["status"] == "Active"
                assert caller == Caller(Scope(account), key_id, admin)


TestReplay = Replay.TestCase
