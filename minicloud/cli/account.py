"""`minicloud account`, `minicloud account key` (access keys) and `minicloud quota`."""

from __future__ import annotations

import click

from minicloud.cli.output import Columns, show_list, show_one
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("ACCOUNT", lambda a: a.account),
    ("NAME", lambda a: a.name),
    ("CREATED", lambda a: a.created_time),
)
KEY_COLUMNS: Columns = (
    ("ID", lambda k: k.id),
    ("ACCOUNT", lambda k: k.account),
    ("STATUS", lambda k: k.status),
    ("ADMIN", lambda k: k.admin),
    ("CREATED", lambda k: k.created_time),
)
QUOTA_COLUMNS: Columns = (
    ("NAME", lambda q: q.name),
    ("USED", lambda q: q.used),
    ("LIMIT", lambda q: q.limit),
    ("ACCOUNT", lambda q: q.account),
)
OF_ACCOUNT = click.option("--account", default="", help="Another account (administrators).")


@click.group(cls=Noun)
def account() -> None:
    """Accounts and their access keys."""


@verb(account, "create")
@click.argument("name")
@click.option("--account", default="", help="12 digits; chosen when absent.")
def create(session: Session, name: str, account: str) -> None:
    """Make an account (administrators)."""
    show_list(session, [session.client.identity.create_account(name, account=account)], COLUMNS)


@verb(account, "list")
def list_accounts(session: Session) -> None:
    """All accounts (administrators)."""
    show_list(session, session.client.identity.list_accounts(), COLUMNS)


@verb(account, "whoami")
def whoami(session: Session) -> None:
    """Who the cloud takes you for."""
    show_one(session, session.client.identity.whoami())


@account.group()
def key() -> None:
    """Access keys: create, list, disable, enable, delete."""


@verb(key, "create")
@OF_ACCOUNT
@click.option("--admin", is_flag=True, help="An administrator's key (administrators).")
def create_key(session: Session, account: str, admin: bool) -> None:
    """Make an access key; its secret is shown this once."""
    show_one(session, session.client.identity.create_access_key(account=account, admin=admin))


@verb(key, "list")
@OF_ACCOUNT
def list_keys(session: Session, account: str) -> None:
    """Access keys of an account."""
    show_list(session, session.client.identity.list_access_keys(account=account), KEY_COLUMNS)


@verb(key, "disable")
@click.argument("access_key_id")
def disable(session: Session, access_key_id: str) -> None:
    """Refuse calls with this key."""
    show_list(session, [session.client.identity.disable_access_key(access_key_id)], KEY_COLUMNS)


@verb(key, "enable")
@click.argument("access_key_id")
def enable(session: Session, access_key_id: str) -> None:
    """Take calls with this key again."""
    show_list(session, [session.client.identity.enable_access_key(access_key_id)], KEY_COLUMNS)


@verb(key, "delete")
@click.argument("access_key_id")
def delete(session: Session, access_key_id: str) -> None:
    """Delete an access key."""
    show_list(session, [session.client.identity.delete_access_key(access_key_id)], KEY_COLUMNS)


@click.group(cls=Noun)
def quota() -> None:
    """How much an account may use."""


@verb(quota, "list")
@OF_ACCOUNT
def list_quotas(session: Session, account: str) -> None:
    """Limits of an account, and what it uses."""
    show_list(session, session.client.identity.list_quotas(account=account), QUOTA_COLUMNS)


@verb(quota, "set")
@click.argument("name")
@click.argument("limit", type=float)
@OF_ACCOUNT
def set_quota(session: Session, name: str, limit: float, account: str) -> None:
    """Change a limit (administrators)."""
    show_list(session, [session.client.identity.set_quota(name, limit, account=account)], QUOTA_COLUMNS)
