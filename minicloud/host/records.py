"""What a host remembers of each guest: one JSON file a guest, replaced atomically.

The control plane's journal is the truth about what shall be; these files are the host's memory of what is, so that an
agent that was killed finds the guests that went on without it. A file that cannot be understood, in any of its fields,
is set aside under another name, never deleted; of its guest only what is needed to end it and to say so is gone by.

phase: preparing   an order to start it was accepted; there may be a disk, a network, an actor, a guest
       running     its init has answered
       ended       it is over, and the control plane has not said yet that it knows
       stopped     over and known; the disk is kept, and with it this file
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields
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
    parsed: tuple[dict[str, Any], Any] | None = field(default=None, init=False, repr=False, compare=False)  # `spec_of`

    @property
    def live(self) -> bool:
        return self.phase in ("preparing", "running")

    @property
    def group_name(self) -> str:
        return self.group or self.instance_id


PHASES = ("preparing", "running", "ended", "stopped")
_INT_MAX = 2**31 - 1
_PID_MAX = 1 << 22  # PID_MAX_LIMIT of Linux
_KINDS = {"instance_id": str, "generation": int, "boot": int, "user_data_exit": int, "oom_kills_before": int}
_KINDS |= dict.fromkeys(("phase", "machine_boot", "private_ip", "reason_code", "reason_message"), str)
_KINDS |= dict.fromkeys(("user_data_status", "group"), str)
_KINDS |= dict.fromkeys(("spec", "network", "isolation", "credits"), dict)
_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
_SALVAGED = ("generation", "phase", "machine_boot", "actor", "guest", "group")


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that could not be understood. `name`: what its file is called now; `record`: what is left to go by."""

    name: str
    why: str
    record: GuestRecord


def _field(name: str, value: Any) -> Any:
    """Raises ValueError, which names the field."""
    if name in ("actor", "guest"):
        return _process(name, value)
    if name == "exit_code" and value is None:
        return None
    if name == "gpu_ids":
        good = isinstance(value, list) and all(isinstance(one, str) for one in value)
    else:
        kind = _KINDS.get(name, int)
        good = isinstance(value, kind) and not isinstance(value, bool)
    if good and isinstance(value, int):
        good = -_INT_MAX <= value <= _INT_MAX
    if good and name == "phase":
        good = value in PHASES
    if good and name == "group":  # it is the last part of a path
        good = "/" not in value and value not in (".", "..")
    if not good:
        raise ValueError(f"{name} cannot be {json.dumps(value)[:64]}")
    return value


def _process(name: str, value: Any) -> ProcessRef | None:
    if value is None:
        return None
    match value:
        case [int(pid), int(start)] if 0 < pid <= _PID_MAX and -1 <= start < 2**63:
            return ProcessRef(pid, start)
    raise ValueError(f"{name} cannot be {json.dumps(value)[:64]}")


def _load(text: str, instance_id: str) -> GuestRecord:
    """Raises ValueError, TypeError, RecursionError."""
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    record = GuestRecord(**{name: _field(name, value) for name, value in raw.items() if name in _NAMES})
    if record.instance_id != instance_id:
        raise ValueError(f"it is of {record.instance_id[:64]!r}")
    return record


def _salvage(text: str, instance_id: str) -> GuestRecord:
    left = GuestRecord(instance_id, 0)
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
        raw = dict(json.loads(text))
        for name in _SALVAGED:
            with contextlib.suppress(ValueError, KeyError):
                setattr(left, name, _field(name, raw[name]))
    return left


def _write(path: str, data: bytes) -> None:
    """Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


_NAMES = tuple(item.name for item in fields(GuestRecord) if item.init)


class RecordFiles:
    """The records of one host under one directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved: dict[str, str] = {}
        self._lock = threading.Lock()  # a guest that begins is saved from a thread
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self, check: Callable[[GuestRecord], None]) -> tuple[list[GuestRecord], list[Damaged]]:
        """Every record, and those that could not be understood (their files are now called `<instance id>.broken`).

        `check` uses every field as it will be used; whatever it raises is damage.
        """
        records, damaged = [], []
        for path in sorted(self._folder.glob("*.json")):
            text = ""
            try:
                text = path.read_text()
                record = _load(text, path.stem)
                check(record)
            except _DAMAGE as error:  # whatever it does to us: the other guests need their agent
                aside = path.with_suffix(".broken")
                os.replace(path, aside)
                why = str(error) or type(error).__name__
                damaged.append(Damaged(aside.name, why, _salvage(text, path.stem)))
            else:
                records.append(record)
        return records, damaged

    def save(self, record: GuestRecord) -> None:
        """Whole or not at all. Not fsynced: after a power cut no guest lives, and disks are found by their folder."""
        with self._lock:
            text = json.dumps({name: getattr(record, name) for name in _NAMES})  # asdict copies every value: 0.2 ms
            if self._saved.get(record.instance_id) == text:
                return
            path = str(self._path(record.instance_id))
            scratch = f"{path.removesuffix('.json')}.new"
            _write(scratch, text.encode())
            os.replace(scratch, path)
            self._saved[record.instance_id] = text

    def delete(self, instance_id: str) -> None:
        self._saved.pop(instance_id, None)
        with contextlib.suppress(FileNotFoundError):
            self._path(instance_id).unlink()

    def _path(self, instance_id: str) -> Path:
        return self._folder / f"{instance_id}.json"
