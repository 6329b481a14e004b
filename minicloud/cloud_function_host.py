"""The composition root of a function host: environments of functions on a node that the functions process is not on.

    python -m minicloud.cloud_function_host NAME     settings and place as one line of JSON on stdin

A process beside the host agent (host/beside.py): it ends with the agent, and everything it made ends with it. The
functions process has environments of its own on its machine, so the host that it is on has no such process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import os
import random
import signal
import sys
import time
from pathlib import Path

import grpc
import grpc.aio
import uvloop

from minicloud import settings
from minicloud.environment.attached import Attached
from minicloud.environment.limits import VARIABLES_S
from minicloud.environment.link import Link
from minicloud.environment.maker import HostParts, Maker
from minicloud.function.ports import EnvironmentSpec
from minicloud.identity import session
from minicloud.identity.session import Session
from minicloud.proxy.front_door import LOOPBACK
from minicloud.rpc import fleet_auth
from minicloud.rpc.peer import OPTIONS
from minicloud.rpc.tls import channel_credentials
from minicloud.sandbox import chamber
from minicloud.sandbox.sweep import cgroup_prefix, function_host
from minicloud.settings import FUNCTIONS, GUEST_NAME, SHARD_KINDS, CloudSettings, HostSettings
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.functions")

CREDENTIALS_S = VARIABLES_S + 2 * 3600.0  # an invocation may take 90 minutes
MESSAGE_BYTES_MAX = 8 * 1024 * 1024  # a payload of 6 MiB, and what is around it
LOG_BYTES_MAX = 8 * 1024 * 1024
CHANNEL_OPTIONS = [
    *OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]


def doors_of(cloud: CloudSettings) -> tuple[int, ...]:
    """Ports by which users reach this cloud: the front door's, and those that Locate answers with."""
    shards = [shard.port for kind in SHARD_KINDS for shard in cloud.shards(kind)]
    return tuple(dict.fromkeys(port for port in (cloud.grpc_port, cloud.http_port, *shards) if port))


class Variables:
    """What a function's environment says of the cloud: its endpoints, and credentials of the function's account.

    The credentials are temporary ones of the function's own name as a role; without authentication they name the
    account, as anybody may.
    """

    def __init__(self, cloud: CloudSettings, secret: bytes) -> None:
        host = GUEST_NAME if cloud.tls is not None else LOOPBACK
        scheme = "http" if cloud.tls is None else "https"
        self._where = {
            "AWS_ENDPOINT_URL": f"{scheme}://{host}:{cloud.http_port}",
            "MINICLOUD_ENDPOINT": f"{host}:{cloud.grpc_port}",
        }
        self._secret = secret
        self._rand = random.SystemRandom()

    def __call__(self, spec: EnvironmentSpec) -> dict[str, str]:
        account = spec.scope.account
        arn = f"arn:aws:sts::{account}:assumed-role/{spec.name}/{spec.name}"
        claims = Session(session.new_key_id(self._rand), account, arn, False, time.time() + CREDENTIALS_S)
        given = session.issue(self._secret, claims)
        return {
            **self._where,
            "AWS_ACCESS_KEY_ID": given.key_id,
            "AWS_SECRET_ACCESS_KEY": given.secret,
            "AWS_SESSION_TOKEN": given.token,
        }


def functions_channel(cloud: CloudSettings, door: str) -> grpc.aio.Channel:
    """To the functions process: by its socket on one machine; by its port where a cluster was joined, with TLS where
    the cloud has it. `door`: the address at which the cloud's doors are."""
    if not cloud.ray_address:
        return grpc.aio.insecure_channel(f"unix:{cloud.shard_socket(FUNCTIONS, 0)}", options=CHANNEL_OPTIONS)
    target = f"{door}:{cloud.functions[0].port}"
    if cloud.tls is None:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    named = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", GUEST_NAME)]
    return grpc.aio.secure_channel(target, channel_credentials(cloud.tls.ca), options=named)


class FunctionHostProcess:
    """`door`: the address at which the cloud's doors are, for this host's environments."""

    def __init__(self, cloud: CloudSettings, host: HostSettings, door: str) -> None:
        secret = settings.read_secret(cloud)
        metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, host.host_id)),)
        self._host = host
        self.link = Link(lambda: functions_channel(cloud, door), metadata, self._hello)
        directory = cloud.host_path(host.name) / "functions"
        self.attached = self.link.attached = Attached(
            lambda logs: HostParts(
                directory,
                cgroup_prefix(cloud.cloud_id, function_host(host.name)),
                host.memory_mib,
                logs,
                variables=Variables(cloud, secret),
                doors=doors_of(cloud),
                doors_at=door,
                cores=host.cores,
                name=host.name,
                fetch=self.link.fetch,
            )
        )

    def _hello(self) -> wire.FunctionHostHello:
        return wire.FunctionHostHello(
            host_id=self._host.host_id,
            name=self._host.name,
            memory_mib=self._host.memory_mib,
            cores=self._host.cores,
            runtimes=self.attached.maker.runtimes,
            beat=wire.FunctionHostBeat(memory_free_mib=Maker.free_mib()),
        )

    async def run(self) -> None:
        """For as long as the agent is there."""
        agent_gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _heard, agent_gone)
        await self.attached.maker.start()
        for warning in self.attached.maker.warnings:
            log.warning(warning)
        self.link.start()
        await agent_gone.wait()
        await self.attached.maker.close()


def _heard(agent_gone: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        agent_gone.set()


def orders(cloud: CloudSettings, host: HostSettings, door: str) -> str:
    """The line that this process is started with."""
    return json.dumps({"settings": cloud.to_json(), "host": host.name, "door": door, "agent": os.getpid()})


def _read_line(fd: int) -> bytes:
    """One line, and not a byte more: what follows is the lifeline."""
    line = bytearray()
    while (byte := os.read(fd, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("minicloud")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    chamber.prctl(chamber.PR_SET_PDEATHSIG, signal.SIGKILL)
    given = json.loads(_read_line(sys.stdin.fileno()) or b"{}")
    if given.get("agent") != os.getppid():  # it died before that was asked for
        return
    cloud = CloudSettings.from_json(given["settings"])
    host = cloud.host(given["host"])
    _log_to(cloud.log_path / f"{function_host(host.name)}.log")
    try:
        uvloop.run(FunctionHostProcess(cloud, host, given["door"]).run())
    except Exception:
        log.exception("the function host ends")
        sys.exit(1)


if __name__ == "__main__":
    main()
