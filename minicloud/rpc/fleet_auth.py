"""How a host agent proves itself to the control plane: metadata `x-minicloud-fleet: <host id>:<HMAC-SHA256>`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from minicloud.base.errors import Unauthenticated
from minicloud.rpc.door import Metadata

METADATA = "x-minicloud-fleet"


def token(secret: bytes, host_id: str) -> str:
    mac = hmac.new(secret, f"fleet {host_id}".encode(), hashlib.sha256).hexdigest()
    return f"{host_id}:{mac}"


def fleet_door(secret: bytes) -> Callable[[Metadata], str]:
    """For `Entry.admit`: the host id of the caller. Raises Unauthenticated."""

    def admit(metadata: Metadata) -> str:
        given = str(metadata.get(METADATA, ""))
        host_id = given.partition(":")[0]
        if not hmac.compare_digest(given.encode(), token(secret, host_id).encode()):
            raise Unauthenticated("This service is for the cloud's own host agents.")
        return host_id

    return admit
