"""`minicloud certs`: a CA of one's own and a server certificate, for a cloud that other machines can reach."""

from __future__ import annotations

from pathlib import Path

import click

from minicloud.cli.output import write_json, write_line
from minicloud.cli.session import Session, common_options
from minicloud.rpc.certs import Certs, ensure_certs
from minicloud.shell.clock import SystemClock
from minicloud.shell.data_dir import data_dir


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dir", "folder", help="Where to keep them (default: certs/ in the data directory).")
@click.option("--data-dir", help="Of the cloud (default: ~/.minicloud).")
@common_options
@click.pass_context
def certs(ctx: click.Context, names: tuple[str, ...], folder: str | None, data_dir: str | None) -> None:
    """Make a CA and a certificate for a cloud that others can reach.

    NAMEs are the DNS names and addresses that it is reached by; localhost and minicloud.internal (the cloud, to its
    guests) are always in. Run it again to renew.
    """
    where = Path(folder).expanduser().absolute() if folder else _default(data_dir)
    made = ensure_certs(where, names, SystemClock().wall())
    _show(ctx.ensure_object(Session), made)


def _default(flag: str | None) -> Path:
    return data_dir(flag) / "certs"


def _show(session: Session, made: Certs) -> None:
    if session.json:
        write_json(
            {
                "ca": str(made.ca),
                "cert": str(made.cert),
                "key": str(made.key),
                "made": list(made.made),
                "names": list(made.names),
                "expires": made.expires,
            }
        )
        return
    write_line(f"{'made ' + ' and '.join(made.made) if made.made else 'nothing to do'}: {made.ca.parent}")
    write_line(f"names: {', '.join(made.names)}")
    write_line(f"serve:  minicloud up --bind ADDRESS --tls-cert {made.cert} --tls-key {made.key} --tls-ca {made.ca}")
    write_line(f"trust:  export MINICLOUD_CA={made.ca}")
