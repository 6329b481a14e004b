"""The AWS doors of the control plane, plugged in: EC2, Instance Connect and SSM on compute, IAM and STS on identity."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc

from minicloud.aws.call import Door
from minicloud.compute.aws.base import Ports
from minicloud.compute.aws.connect import InstanceConnectDoor
from minicloud.compute.aws.ec2 import Ec2
from minicloud.compute.aws.parameters import SsmDoor
from minicloud.compute.aws.running import Ended, Run, Runner
from minicloud.compute.aws.ssm import ERR_CHARS_MAX, OUT_CHARS_MAX
from minicloud.host.ticket import TICKET_METADATA
from minicloud.identity.aws import sts
from minicloud.identity.aws.iam import Iam
from minicloud.identity.iam.model import Profile
from minicloud.identity.iam.tables import Tables, no_such
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.tls import channel_credentials
from minicloud.wire import guest_pb2, guest_pb2_grpc

TICKET_S = 60.0
_BYTES_PER_CHAR = 4  # the most that UTF-8 takes


def control_doors(plane: Any) -> list[Door]:
    """For the control plane's gateway, on its loop and after its start. `plane`: a cloud.ControlPlane."""
    ports = Ports(
        quotas=plane.identity_machine,
        page_secret=plane.derived("aws pages"),
        read_console=plane.read_console,
        profile_of=Profiles(plane.identity_machine.iam),
        delete_tar=plane.store.delete,
        wall=time.time,
    )
    runner = Runner(plane.service, plane.ssm, plane.submit_ssm, Guests(plane), time.time)
    return [
        Door("ec2", Ec2(plane.service, ports)),
        Door("ssm", SsmDoor(plane.service, plane.ssm, runner, ports.page_secret, plane.submit_ssm)),
        Door("ec2-instance-connect", InstanceConnectDoor(plane.service)),
        Door("iam", Iam(plane.identity)),
        Door("sts", sts.Sts(plane.identity, sts.Ports(plane.secret, random.SystemRandom(), time.time))),
    ]


@dataclass(frozen=True, slots=True)
class Profiles:
    """Instance profiles, as EC2 asks for them."""

    iam: Tables

    def __call__(self, account: str, text: str) -> tuple[str, str]:
        """ARN and id, by name or ARN. Raises NotFound."""
        profile = self.iam.find(Profile, account, text.rpartition("/")[2])
        if text.startswith("arn:") and profile.arn != text:
            raise no_such(f"Instance Profile {text[:256]} cannot be found.")
        return profile.arn, profile.id


@dataclass(frozen=True, slots=True)
class Guests:
    """Scripts in guests, through their host agents: as `minicloud instance exec` does it."""

    plane: Any

    async def __call__(self, run: Run) -> Ended:
        """Raises CloudError. Cancelled, the command in the guest is ended."""
        proof = self.plane.issue_ticket(run.instance_id, run.account, time.time() + TICKET_S)
        tls = self.plane.cloud.tls
        async with _channel(run.address, channel_credentials(tls.ca) if tls is not None else None) as channel:
            stub: Any = guest_pb2_grpc.GuestServiceStub(channel)  # type: ignore[no-untyped-call]
            try:
                return await _collected(stub.Exec(_asked(run), metadata=((TICKET_METADATA, proof),)))
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, credentials)


async def _asked(run: Run) -> AsyncIterator[guest_pb2.ExecInput]:
    argv = ["/bin/sh", "-c", run.script]
    start = guest_pb2.ExecStart(instance_id=run.instance_id, argv=argv, cwd=run.cwd)
    yield guest_pb2.ExecInput(start=start)
    yield guest_pb2.ExecInput(stdin_eof=True)


async def _collected(call: AsyncIterator[guest_pb2.ExecOutput]) -> Ended:
    """Reads to the end, keeps what is shown later."""
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    most = {"stdout": OUT_CHARS_MAX * _BYTES_PER_CHAR, "stderr": ERR_CHARS_MAX * _BYTES_PER_CHAR}
    code, why = -1, ""
    async for part in call:
        kind = part.WhichOneof("part")
        if kind in kept:
            kept[kind] += getattr(part, kind)[: most[kind] - len(kept[kind])]
        elif kind == "exit":
            code, why = part.exit.code, part.exit.error
    out, err = (bytes(kept[name]).decode("utf-8", "replace") for name in ("stdout", "stderr"))
    return Ended(code, out[:OUT_CHARS_MAX], (err + why)[:ERR_CHARS_MAX])
