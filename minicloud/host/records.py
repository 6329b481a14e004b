"""What a host remembers of each guest: one JSON file a guest, replaced atomically.

The control plane's journal is the truth about what shall be; these files are the host's memory of what is, so that an
agent that was killed finds the guests that went on without it. A file that cannot be understood is set aside under
another name, never deleted.

phase: preparing   an order to start it was accepted; there may be a disk, a network, an actor, a guest
       running     its init has answered
       ended       it is over, and the control plane has not said yet that it knows
       stopped     over and known; the disk is kept, and with it this file
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from minicloud.host.watch import ProcessRef


@dataclass(slots=True)
class GuestRecord:
    """One guest of this host. `spec` is its GuestSpec as a JSON object; `boot` counts its reboots from 1."""

    instance_id: str
    generation: int
    phase: str = "preparing"
    spec: dict[str, Any] = field(default_factory=dict)
    boot: int = 1
    machine_boot: str = ""
    actor: ProcessRef | None = None
    guest: ProcessRef | None = None
    private_ip: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    isolation: dict[str, Any] = field(default_factory=dict)
    gpu_ids: list[str] = field(default_factory=list)
    reason_code: str = ""
    reason_message: str = ""
    exit_code: int | None = None
    user_data_status: str = ""
    user_data_exit: int = 0
    credits: dict[str, Any] = field(default_factory=dict)
    group: str = ""  # the name of its control group where that is not its id: it was made before there was an instance
    oom_kills_before: int = 0  # of its control group when this boot began: a reboot keeps the group

    @property
    def live(self) -> bool:
        return self.phase in ("preparing", "running")

    @property
    def group_name(self) -> str:
        return self.group or self.instance_id


def _load(text: str) -> GuestRecord:
    raw = json.loads(text)
    known = {item.name for item in fields(GuestRecord)}
    record = GuestRecord(**{key: value for key, value in raw.items() if key in known})
    record.actor = ProcessRef(*record.actor) if record.actor else None
    record.guest = ProcessRef(*record.guest) if record.guest else None
    return record


class RecordFiles:
    """The records of one host under one directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved: dict[str, str] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> tuple[list[GuestRecord], list[str]]:
        """Every record, and the names of files that could not be understood (now called `<name>.broken`)."""
        records, broken = [], []
        for path in sorted(self._folder.glob("*.json")):
            try:
                records.append(_load(path.read_text()))
            except (ValueError, TypeError, KeyError):
                os.replace(path, path.with_suffix(".broken"))
                broken.append(path.name)
        return records, broken

    def save(self, record: GuestRecord) -> None:
        """Whole or not at all. Not fsynced: after a power cut no guest lives, and disks are found by their folder."""
        text = json.dumps(asdict(record))
        if self._saved.get(record.instance_id) == text:
            return
        path = self._path(record.instance_id)
        scratch = path.with_suffix(".new")
        scratch.write_text(text)
        os.replace(scratch, path)
        self._saved[record.instance_id] = text

    def delete(self, instance_id: str) -> None:
        self._saved.pop(instance_id, None)
        with contextlib.suppress(FileNotFoundError):
            self._path(instance_id).unlink()

    def _path(self, instance_id: str) -> Path:
        return self._folder / f"{instance_id}.json"
