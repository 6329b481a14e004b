"""What the compute slice needs from the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Raises InvalidParameterValue (field user_data) for user data that no guest could run.
UserDataCheck = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """The Ray actor that an instance is: name from id and generation, resources as Ray counts them."""

    instance_id: str
    generation: int
    host_name: str
    session: str
    cpus: float
    memory_bytes: int
    gpus: float


class Launcher(Protocol):
    """Creates and buries the actors of instances. Idempotent by (instance id, generation)."""

    async def launch(self, spec: ActorSpec) -> None:
        """Raises InsufficientCapacity, Unavailable."""
        ...

    async def kill(self, instance_id: str, generation: int) -> None:
        """No error when it is gone already."""
        ...


class Quotas(Protocol):
    """The quotas of an account: `instances`, `vcpus`."""

    def limit(self, account: str, name: str) -> float: ...


class ImageStore(Protocol):
    """The tars of images, one per image id."""

    def path(self, image_id: str) -> Path: ...

    async def store(self, image_id: str, chunks: AsyncIterator[bytes]) -> int:
        """Whole or not at all; returns the size in bytes. Raises InsufficientStorage."""
        ...

    async def delete(self, image_id: str) -> None: ...
