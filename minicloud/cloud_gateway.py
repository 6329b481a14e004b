"""How a process of the cloud gets its AWS face: who may come in, who owns what, and the HTTP server around both.

    face = AwsFace([Door("sqs", ...), ...], entrance(cloud, Place(BROKER, number)))
    port = await face.start({"/_minicloud/": of_asgi(app)})      # what else answers on this port, by path
    await face.stop()

Authentication off: credentials.py reads the account from the access key id. On: signature.py verifies, with the keys
that the control plane has itself and streams to all other processes.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from minicloud import settings
from minicloud.aws import services
from minicloud.aws.call import Door
from minicloud.aws.credentials import claims, key_of, open_admit
from minicloud.aws.forward import Forwarder, Place
from minicloud.aws.gateway import Admit, Gateway, Way
from minicloud.aws.http import Handler, HttpServer, Welcome, serve
from minicloud.aws.signature import Key, Verifier
from minicloud.aws.wire import Request
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.session import Sessions
from minicloud.proxy.front_door import LOOPBACK, known_names
from minicloud.rpc.http import known_host
from minicloud.rpc.key_ring import KeyRing
from minicloud.settings import CloudSettings
from minicloud.wire import fleet_pb2

FindKey = Callable[[str], Key | None]
# The part of settings that each owner's processes are in.
PARTS = {
    services.BROKER: "brokers",
    services.BALANCER: "balancers",
    services.AUTOSCALER: "autoscalers",
    services.FUNCTIONS: "functions",
}


@dataclass(frozen=True, slots=True)
class Entrance:
    """`ring`: of keys that come by a stream; `forwarder`: the way to other processes; who is not `welcome` gets 403."""

    admit: Admit
    host: str = LOOPBACK
    port: int = 0
    ring: KeyRing[Key] | None = None
    forwarder: Forwarder | None = None
    welcome: Welcome | None = None
    claimed: Callable[[Request], str] = key_of


def entrance(cloud: CloudSettings, place: Place, find_key: FindKey | None = None) -> Entrance:
    """Of a process of this cloud. `find_key`: the control plane's own keys; other processes ask it by a stream."""
    host, port = cloud.control_host, cloud.control_http_port
    if place.owner != services.CONTROL:
        host, port = LOOPBACK, getattr(cloud, PARTS[place.owner])[place.number].http_port
    ring: KeyRing[Key] | None = None
    secret = settings.read_secret(cloud)
    sessions = Sessions(secret)
    opened = open_admit(cloud.region, lambda token, key, asked: sessions.opened(token, key, time.time(), asked))
    admit: Admit = opened
    claimed = claims(opened)
    if cloud.auth:
        if find_key is None:
            address = f"{cloud.control_host}:{cloud.control_port}"
            ring = KeyRing(address, secret, f"{place.owner}-{place.number}", opener(secret))
            find_key = ring.find
        verifier = Verifier(find_key, time.time, sessions, cloud.region)
        admit, claimed = verifier, verifier.claimed
    forwarder = Forwarder(place, _ports(cloud), {services.CONTROL: cloud.control_host})
    return Entrance(admit, host, port, ring, forwarder, _welcome(cloud), claimed)


class AwsFace:
    """Compiles the operations of its doors; serves them once it is started."""

    def __init__(self, doors: Sequence[Door], through: Entrance) -> None:
        self._through = through
        self.gateway = Gateway(doors, Way(through.admit, new_request_id, through.forwarder, through.claimed))
        self._server: HttpServer | None = None

    @property
    def port(self) -> int:
        """0 before it is started."""
        return self._server.port if self._server is not None else 0

    async def start(self, others: Mapping[str, Handler] | None = None) -> int:
        """`others`: what answers under paths of minicloud's own. Returns the port. Raises Unavailable (taken)."""
        through = self._through
        if through.ring is not None:
            through.ring.start()
        self._server = await serve(self.gateway, through.host, through.port, others, through.welcome)
        return self._server.port

    async def stop(self, grace_s: float = 2.0) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)
        if self._through.ring is not None:
            await self._through.ring.close()
        if self._through.forwarder is not None:
            await self._through.forwarder.close()


def _ports(cloud: CloudSettings) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {services.CONTROL: (cloud.control_http_port,)}
    for owner, part in PARTS.items():
        ports = tuple(one.http_port for one in getattr(cloud, part, ()))
        if ports and all(ports):
            found[owner] = ports
    return found


def opener(secret: bytes) -> Callable[[fleet_pb2.ActiveKey], Key]:
    """What a streamed key becomes here. `secret`: the cloud's own, under which keys are sealed."""
    seal = AesGcmSeal(secret)
    return lambda one: Key(seal.open(one.sealed, one.id), one.account, one.admin)


def _welcome(cloud: CloudSettings) -> Callable[[Request], bool]:
    """Whether a request can come from no web page of a stranger: the same rules as the front door's."""
    names = frozenset(known_names(cloud))

    def allowed(request: Request) -> bool:
        headers = request.headers
        host = headers.get("host", "")
        if not (known_host(host, names) or host.partition(":")[0].lower().endswith(".localhost")):
            return False
        return headers.get("sec-fetch-site", "").lower() != "cross-site"

    return allowed


def request_ids(rand: random.Random) -> Callable[[], str]:
    """Ids of requests, as UUIDs are written: 74 random bits of this process and a count. No system call a request."""
    head = (
        f"{rand.getrandbits(32):08x}-{rand.getrandbits(16):04x}-4{rand.getrandbits(12):03x}-8{rand.getrandbits(12):03x}"
    )
    numbers = itertools.count(rand.getrandbits(40))
    return lambda: f"{head}-{next(numbers) & 0xFFFFFFFFFFFF:012x}"


new_request_id = request_ids(random.SystemRandom())
