"""The identity machine: accounts, their access keys, their quotas. Pure.

    access key    made Active <-> Inactive, then deleted. Its secret is shown once, kept sealed (see seal.py), and
                  opened into memory when its record is applied. One that does not open (the cloud's secret was
                  replaced) stays listed and authenticates nobody
    account       000000000000 is there from the start, without a record; others are made, and stay
    quota         a record only where an administrator set it; else the default of model.QUOTA_DEFAULTS

What can never happen: an unknown key, a wrong secret and a disabled key are told apart, by text or by work done; a
caller learns whether another account's key exists; a caller that came with a key disables or deletes the last active
key of an administrator and so locks everybody out (a cloud with authentication off has no such caller).

Follows IAM's access keys (AKIA + 16 of A-Z2-7, 40 characters of secret; Active | Inactive). Differs: a key may do what
its account may, whether it is an IAM user's or the account's own; "administrator" is a property of the key. IAM's
users, roles and policies are records beside (iam/).
"""

from __future__ import annotations

import base64
import hmac
import math
import random
import re
from collections.abc import Callable
from typing import Any, cast

from minicloud.base import limits
from minicloud.base.arn import ACCOUNT, DEFAULT_ACCOUNT, DEFAULT_REGION, Caller, Scope
from minicloud.base.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidParameterValue,
    LimitExceeded,
    MissingParameter,
    NotFound,
    OperationNotPermitted,
    Unauthenticated,
)
from minicloud.base.machine import Context, Outcome, Record, Tick, keep_sorted
from minicloud.identity import commands as ask
from minicloud.identity.iam.model import User
from minicloud.identity.iam.tables import Ask, Tables
from minicloud.identity.model import ACTIVE, INACTIVE, QUOTA_DEFAULTS, AccessKey, Account, NewAccessKey, Quota
from minicloud.identity.ports import Seal

_NO_SECRET = b"\0" * 40  # compared with when there is no such key, so that the work is the same
_NAME = re.compile(r"[^\x00-\x1f\x7f]*")


class IdentityMachine:
    """Implements base.machine.Machine."""

    kinds = frozenset({"account", "access_key", "quota"}) | Tables.kinds

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self.iam = Tables()
        self._bodies: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in self.kinds - Tables.kinds}
        self._account_ids = [DEFAULT_ACCOUNT]
        self._keys_of: dict[str, list[str]] = {}  # account -> sorted key ids
        self._secrets: dict[str, bytes] = {}  # key id -> secret in clear
        self._touched: set[str] = set()  # keys that records changed
        self._decide: dict[type[Any], Callable[[Any, Context], Outcome]] = {
            ask.CreateAccount: self._create_account,
            ask.CreateAccessKey: self._create_key,
            ask.InstallAdminKey: self._install_admin_key,
            ask.SetAccessKeyStatus: self._set_status,
            ask.DeleteAccessKey: self._delete_key,
            ask.SetQuota: self._set_quota,
            Ask: self.iam.decide,
            Tick: lambda _command, _context: Outcome(),
        }

    # --- the machine

    def decide(self, command: Any, context: Context) -> Outcome:
        return self._decide[type(command)](command, context)

    def apply(self, record: Record) -> None:
        if record.kind in Tables.kinds:
            self.iam.apply(record)
            return
        bodies = self._bodies[record.kind]
        if record.body is None:
            before = bodies.pop(record.key, None)
        else:
            before = bodies.get(record.key)
            bodies[record.key] = record.body
        if record.kind == "account":
            keep_sorted(self._account_ids, record.key, record.body is not None)
        elif record.kind == "access_key":
            self._index_key(record.key, before, record.body)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self.iam.lookup(kind, key) if kind in Tables.kinds else self._bodies[kind].get(key)

    def due(self) -> float | None:
        return None

    def _index_key(self, key_id: str, before: dict[str, Any] | None, body: dict[str, Any] | None) -> None:
        self._touched.add(key_id)
        account = (body or before or {}).get("account", "")
        mine = self._keys_of.setdefault(account, [])
        keep_sorted(mine, key_id, body is not None)
        if not mine:
            del self._keys_of[account]
        self._secrets.pop(key_id, None)
        if body is not None:
            try:
                self._secrets[key_id] = self._seal.open(body["sealed"], key_id)
            except ValueError:
                return  # listed by `unreadable`

    # --- reading

    def authenticate(self, key_id: str, secret: str, region: str = DEFAULT_REGION) -> Caller:
        """Who holds this key. Raises Unauthenticated, the same way whatever was wrong."""
        expected = self._secrets.get(key_id, _NO_SECRET)
        right = hmac.compare_digest(expected, secret.encode("utf-8", "replace"))
        body = self._bodies["access_key"].get(key_id)
        if not right or body is None or expected is _NO_SECRET or body["status"] != ACTIVE:
            raise Unauthenticated("The access key id or its secret is not valid.")
        return Caller(Scope(body["account"], region), key_id, body["admin"])

    def account_ids(self, caller: Caller) -> list[str]:
        """All accounts, sorted. Raises AccessDenied."""
        _admin_only(caller, "list accounts")
        return self._account_ids

    def account(self, account: str) -> Account:
        body = self._bodies["account"].get(account)
        return Account(**body) if body else Account(DEFAULT_ACCOUNT, "default", 0.0)

    def key_ids(self, caller: Caller, account: str) -> list[str]:
        """Of one account (empty: the caller's), sorted. Raises AccessDenied, NotFound."""
        return self._keys_of.get(self._target(caller, account), [])

    def keys_of_user(self, account: str, user: str) -> list[AccessKey]:
        """Of an IAM user, or (empty) the account's own; by id."""
        return [key for one in self._keys_of.get(account, []) if (key := self.key(one)).user == user]

    def key(self, key_id: str) -> AccessKey:
        return AccessKey.of(self._bodies["access_key"][key_id])

    def quotas(self, caller: Caller, account: str) -> list[Quota]:
        """Every quota of one account (empty: the caller's). Raises AccessDenied, NotFound."""
        target = self._target(caller, account)
        return [Quota(target, name, self.limit(target, name)) for name in QUOTA_DEFAULTS]

    def limit(self, account: str, name: str) -> float:
        """Raises KeyError for a name that is no quota."""
        body = self._bodies["quota"].get(_quota_key(account, name))
        return QUOTA_DEFAULTS[name] if body is None else cast(float, body["limit"])

    def has_admin_key(self) -> bool:
        """An active administrator's key that can be used."""
        return bool(self._active_admins())

    def active_keys(self) -> list[str]:
        """Ids of all keys that authenticate somebody."""
        keys = self._bodies["access_key"]
        return [key for key in self._secrets if keys[key]["status"] == ACTIVE]

    def active_key(self, key_id: str) -> dict[str, Any] | None:
        """The record of a key that authenticates somebody: id, account, admin, sealed."""
        body = self._bodies["access_key"].get(key_id)
        return body if body is not None and body["status"] == ACTIVE and key_id in self._secrets else None

    def secret(self, key_id: str) -> bytes:
        """Of an active key, in clear. Raises KeyError."""
        return self._secrets[key_id]

    def take_touched(self) -> set[str]:
        """Ids of keys that records have changed since this was asked."""
        touched, self._touched = self._touched, set()
        return touched

    def unreadable(self) -> list[str]:
        """Keys whose secret did not open: made under another secret.key, or damaged."""
        return sorted(self._bodies["access_key"].keys() - self._secrets.keys())

    def _active_admins(self) -> set[str]:
        keys = self._bodies["access_key"]
        return {key for key in self._secrets if keys[key]["admin"] and keys[key]["status"] == ACTIVE}

    def _target(self, caller: Caller, account: str) -> str:
        """The account that is meant. Only an administrator may name another, and learns whether it exists."""
        mine = caller.scope.account
        if account in ("", mine):
            return mine
        _admin_only(caller, "name another account", "account")
        if account not in self._bodies["account"] and account != DEFAULT_ACCOUNT:
            raise NotFound(f"The account '{account[:64]}' does not exist.", code="NoSuchEntity", field="account")
        return account

    def _find_key(self, caller: Caller, key_id: str) -> dict[str, Any]:
        body = self._bodies["access_key"].get(key_id)
        if body is None or not (caller.admin or body["account"] == caller.scope.account):
            raise NotFound(f"The access key '{key_id[:64]}' does not exist.", code="NoSuchEntity", field="id")
        return body

    # --- deciding

    def _create_account(self, command: ask.CreateAccount, context: Context) -> Outcome:
        _admin_only(command.caller, "create accounts")
        account = command.account or self._free_account(context)
        if not ACCOUNT.fullmatch(account):
            raise InvalidParameterValue("an account is 12 digits", field="account")
        if account in self._bodies["account"] or account == DEFAULT_ACCOUNT:
            raise AlreadyExists(f"The account {account} exists already.", field="account")
        if len(command.name) > limits.NAME_CHARS_MAX or not _NAME.fullmatch(command.name):
            raise InvalidParameterValue(
                f"a name has at most {limits.NAME_CHARS_MAX} characters, none of them a control character", field="name"
            )
        if len(self._account_ids) >= limits.ACCOUNTS_MAX:
            raise LimitExceeded(f"A cloud has at most {limits.ACCOUNTS_MAX} accounts.", details={"quota": "accounts"})
        made = Account(account, command.name, context.now)
        body = {"account": account, "name": command.name, "created_time": context.now}
        return Outcome(made, [Record("account", account, body)])

    def _free_account(self, context: Context) -> str:
        while True:
            account = str(context.rand.randrange(10**11, 10**12))
            if account not in self._bodies["account"]:
                return account

    def _create_key(self, command: ask.CreateAccessKey, context: Context) -> Outcome:
        account = self._target(command.caller, command.account)
        if command.admin:
            _admin_only(command.caller, "create an administrator's key", "admin")
        if command.user:
            self.iam.find(User, account, command.user)
            if len(self.keys_of_user(account, command.user)) >= limits.IAM_KEYS_PER_USER_MAX:
                raise LimitExceeded(f"Cannot exceed quota for AccessKeysPerUser: {limits.IAM_KEYS_PER_USER_MAX}")
        if len(self._keys_of.get(account, [])) >= limits.ACCESS_KEYS_PER_ACCOUNT_MAX:
            raise LimitExceeded(
                f"An account has at most {limits.ACCESS_KEYS_PER_ACCOUNT_MAX} access keys.",
                details={"quota": "access-keys", "account": account},
            )
        key_id, secret = new_key(context.rand)
        return self._key_made(key_id, secret, (account, command.admin, command.user), context)

    def _install_admin_key(self, command: ask.InstallAdminKey, context: Context) -> Outcome:
        return self._key_made(command.id, command.secret, (DEFAULT_ACCOUNT, True, ""), context)

    def _key_made(self, key_id: str, secret: str, owner: tuple[str, bool, str], context: Context) -> Outcome:
        account, admin, user = owner
        body = {
            "id": key_id,
            "account": account,
            "status": ACTIVE,
            "admin": admin,
            "created_time": context.now,
            "user": user,
            "sealed": self._seal.seal(secret.encode(), context.rand.randbytes(12), key_id),
        }
        return Outcome(NewAccessKey(AccessKey.of(body), secret), [Record("access_key", key_id, body)])

    def _set_status(self, command: ask.SetAccessKeyStatus, _context: Context) -> Outcome:
        body = self._find_key(command.caller, command.id)
        if command.status not in (ACTIVE, INACTIVE):
            raise InvalidParameterValue(f"a status is {ACTIVE} or {INACTIVE}", field="status")
        if command.status == INACTIVE:
            self._keep_an_admin(command.caller, command.id)
        if body["status"] == command.status:
            return Outcome(AccessKey.of(body))
        after = {**body, "status": command.status}
        return Outcome(AccessKey.of(after), [Record("access_key", command.id, after)])

    def _delete_key(self, command: ask.DeleteAccessKey, _context: Context) -> Outcome:
        body = self._find_key(command.caller, command.id)
        self._keep_an_admin(command.caller, command.id)
        return Outcome(AccessKey.of(body), [Record("access_key", command.id, None)])

    def _keep_an_admin(self, caller: Caller, key_id: str) -> None:
        if caller.access_key_id and self._active_admins() == {key_id}:
            raise OperationNotPermitted(
                "This is the last active key of an administrator; make another one first.", field="id"
            )

    def _set_quota(self, command: ask.SetQuota, _context: Context) -> Outcome:
        _admin_only(command.caller, "set quotas")
        if not command.account:
            raise MissingParameter("the account whose quota it is", field="account")
        account = self._target(command.caller, command.account)
        if command.name not in QUOTA_DEFAULTS:
            raise InvalidParameterValue(f"a quota is one of: {', '.join(QUOTA_DEFAULTS)}", field="name")
        if not (math.isfinite(command.limit) and 0 <= command.limit <= limits.QUOTA_MAX):
            raise InvalidParameterValue(f"a quota is between 0 and {limits.QUOTA_MAX}", field="limit")
        body = {"account": account, "name": command.name, "limit": command.limit}
        key = _quota_key(account, command.name)
        records = [] if self._bodies["quota"].get(key) == body else [Record("quota", key, body)]
        return Outcome(Quota(account, command.name, command.limit), records)


def new_key(rand: random.Random) -> tuple[str, str]:
    """An access key id and its secret: 80 and 240 bits. `rand` must draw from the operating system."""
    key_id = "AKIA" + base64.b32encode(rand.randbytes(10)).decode()
    return key_id, base64.b64encode(rand.randbytes(30)).decode()


def _admin_only(caller: Caller, what: str, field: str | None = None) -> None:
    if not caller.admin:
        raise AccessDenied(f"Only an administrator may {what}.", field=field)


def _quota_key(account: str, name: str) -> str:
    return f"{account}/{name}"
