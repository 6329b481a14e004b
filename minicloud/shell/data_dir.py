"""What a data directory keeps for good: which cloud it holds, and the cloud's secret.

Both are made once, by the first `up`; a file that cannot be understood is left as it is and named in the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from minicloud.base.errors import Internal, InvalidParameterCombination, InvalidParameterValue

REGION_DEFAULT = "us-east-1"
HOSTS_MAX = 26  # one zone a host, and zones are letters
BROKERS_MAX = 64  # ours
SECRET_BYTES = 32
_CLOUD_ID = re.compile(r"^[0-9a-f]{8}$")


@dataclass(frozen=True, slots=True)
class CloudIdentity:
    """What `cloud.json` keeps: a second `up` finds the same cloud, the hosts it had, and its message brokers."""

    cloud_id: str
    region: str
    hosts: int
    brokers: int = 1


def data_dir(flag: str | None, env: Mapping[str, str] | None = None) -> Path:
    """--data-dir, else MINICLOUD_DATA_DIR, else ~/.minicloud; absolute."""
    env = os.environ if env is None else env
    return Path(flag or env.get("MINICLOUD_DATA_DIR") or "~/.minicloud").expanduser().absolute()


def find_cloud(data: Path) -> CloudIdentity | None:
    """The cloud in this directory; None where there is none. Raises Internal where cloud.json cannot be understood."""
    try:
        raw = json.loads((data / "cloud.json").read_text())
        identity = CloudIdentity(
            str(raw["cloud_id"]), str(raw["region"]), int(raw["hosts"]), int(raw.get("brokers", 1))
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Internal(f"{data / 'cloud.json'} cannot be understood ({error}); it was left as it is") from None
    if not _CLOUD_ID.match(identity.cloud_id):
        raise Internal(f"{data / 'cloud.json'} holds no cloud id; it was left as it is")
    return identity


def open_cloud(
    data: Path, region: str | None = None, hosts: int | None = None, brokers: int | None = None
) -> CloudIdentity:
    """Find or make the cloud of a data directory, with its secret. Region and number of brokers never change.

    Raises InvalidParameterValue (hosts, brokers), InvalidParameterCombination (another region, another number of
    brokers), Internal (damaged cloud.json).
    """
    if brokers is not None and not 1 <= brokers <= BROKERS_MAX:
        raise InvalidParameterValue(f"a cloud has 1 to {BROKERS_MAX} message brokers, not {brokers}", field="brokers")
    if hosts is not None and not 1 <= hosts <= HOSTS_MAX:
        raise InvalidParameterValue(f"a cloud on one machine has 1 to {HOSTS_MAX} hosts, not {hosts}", field="hosts")
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = find_cloud(data)
    if known and region and known.region != region:
        raise InvalidParameterCombination(
            f"the cloud in {data} is in {known.region}; another region needs another --data-dir", field="region"
        )
    if known and brokers and known.brokers != brokers:
        raise InvalidParameterCombination(
            f"the queues and topics of the cloud in {data} are dealt to {known.brokers} message brokers; another "
            "number needs another --data-dir",
            field="brokers",
        )
    if known is None:
        made = CloudIdentity(os.urandom(4).hex(), region or REGION_DEFAULT, hosts or 1, brokers or 1)
        write_file(data / "cloud.json", json.dumps(asdict(made)).encode(), once=True)
        known = find_cloud(data) or made  # two first `up`s at once: one of them made it
    if not (data / "secret.key").exists():
        write_file(data / "secret.key", os.urandom(SECRET_BYTES), once=True)
    identity = replace(known, hosts=hosts or known.hosts)
    if identity != known:
        write_file(data / "cloud.json", json.dumps(asdict(identity)).encode())
    return identity


def write_file(path: Path, content: bytes, once: bool = False) -> None:
    """Whole or not at all, mode 0600, on disk when this returns. `once`: what is there already stays."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if not once:
        os.replace(scratch, path)
        return
    with contextlib.suppress(FileExistsError):
        os.link(scratch, path)
    scratch.unlink()
