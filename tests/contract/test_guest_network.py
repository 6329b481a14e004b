"""Guests on real bridges: what they reach, what they do not, and that nothing is left of it all."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from minicloud.base.errors import InvalidParameterValue
from minicloud.sandbox import cables, linux, netns
from minicloud.sandbox.bridge import BridgeNetwork
from minicloud.sandbox.network import Endpoint, GuestNetwork, NetworkConfig, open_network
from minicloud.sandbox.nftables import Service
from minicloud.sandbox.probe import HostIsolation
from tests.contract.sandbox_bench import Bench, bench, isolation_or_skip, traces

pytestmark = pytest.mark.root

ALICE, BOB = "111111111111", "222222222222"
FRONT_DOOR_PORT, RAY_PORT = 7077, 6379

# argv: "address port" ...; prints what each connection gives: its first line, or how it fails.
CALL = """
import json, socket, sys, threading
said = {}

def call(target):
    address, port = target.split()
    try:
        with socket.create_connection((address, int(port)), timeout=2) as s:
            said[target] = s.makefile().readline().strip()
    except TimeoutError:
        said[target] = "silence"
    except OSError as error:
        said[target] = error.strerror

calls = [threading.Thread(target=call, args=(target,)) for target in sys.argv[1:]]
[one.start() for one in calls]
[one.join() for one in calls]
print(json.dumps(said))
"""
# Serves its name on port 80 of every address, until it is killed.
SERVE = """
import socket, sys
with socket.create_server(("0.0.0.0", 80)) as server:
    open("/run/minicloud/ready", "w").close()
    while True:
        connection, _ = server.accept()
        connection.sendall(sys.argv[1].encode() + b"\\n")
        connection.close()
"""


@dataclass
class HostService:
    """A TCP service of the host that answers with a word and the caller's address."""

    word: str
    address: str
    port: int = 0

    def start(self, stack: ExitStack) -> HostService:
        server = stack.enter_context(socket.create_server((self.address, self.port)))
        self.port = server.getsockname()[1]
        thread = threading.Thread(target=self._serve, args=(server,), daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown, socket.SHUT_RDWR)
        return self

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, peer = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"{self.word} {peer[0]}\n".encode())


@dataclass
class Town:
    """A host with guests of two accounts, its own services, and the cloud's."""

    bench: Bench
    network: GuestNetwork
    open_to_all: HostService  # listens on 0.0.0.0, is nobody's business
    places: dict[str, Endpoint]

    def place(self, account: str, name: str) -> Endpoint:
        self.places[name] = self.network.allocate(account, name)
        return self.places[name]

    def serve(self, account: str, name: str) -> Endpoint:
        place = self.place(account, name)
        ready = self.bench.fifo(name)
        self.bench.start(self.bench.python(name, SERVE, name, netns=place.netns_path))
        ready.read_text()
        return place

    def call(self, account: str, name: str, *targets: str) -> list[str]:
        place = self.place(account, name)
        status, said = self.bench.run(self.bench.python(name, CALL, *targets, netns=place.netns_path))
        assert status == 0, said
        answers = json.loads(said.strip().splitlines()[-1])
        return [answers[target] for target in targets]


@pytest.fixture(scope="module")
def isolation() -> HostIsolation:
    isolation = isolation_or_skip()
    if isolation.network != "bridge":
        missing = isolation.nft if isolation.network_namespaces.works else isolation.network_namespaces
        pytest.skip(f"needs network namespaces and nft: {missing.text}")
    return isolation


@pytest.fixture
def untouched(isolation: HostIsolation) -> Iterator[None]:
    """The machine's network is afterwards what it was before. Other clouds may be up: only what is new is ours."""
    before = traces()
    yield
    after = traces()
    for name in ("links", "namespaces", "tables", "routes"):
        new = [line for line in after[name] if line not in before[name] and not _of_another_cloud(line)]
        assert new == [], name
    if not any("minicloud_" in line for line in (*before["tables"], *after["tables"])):
        assert after["forwarding"] == before["forwarding"]


def _of_another_cloud(line: str) -> bool:
    """Interfaces and tables that a cloud beside this test made meanwhile: not those of this test's names."""
    ours = [config("h-1"), config("h-2")]
    names = [name for c in ours for name in _names_of(c)]
    return ("mc" in line or "minicloud_" in line) and not any(name in line for name in names)


def _names_of(config: NetworkConfig) -> list[str]:
    from minicloud.sandbox import nftables, subnets

    seed = subnets.digest(config.cloud, config.host)
    bridges = [nftables.bridge_name(config.cloud, config.host, account) for account in (ALICE, BOB)]
    return [f"mcv{seed % 0x1000000:06x}", f"minicloud_{seed % 0x100000000:08x}", *bridges]


def config(host: str, *services: Service) -> NetworkConfig:
    return NetworkConfig(f"test{os.getpid()}", host, services, spare_count=2)


@pytest.fixture
def town(isolation: HostIsolation, untouched: None, tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        front_door = HostService("front-door", "127.0.0.1").start(stack)
        metadata = HostService("metadata", "127.0.0.1").start(stack)
        open_to_all = HostService("private", "0.0.0.0").start(stack)
        services = (
            Service(FRONT_DOOR_PORT, "127.0.0.1", front_door.port, env="MINICLOUD_ENDPOINT"),
            Service(4566, "127.0.0.1", front_door.port, None, "AWS_ENDPOINT_URL", "https", "minicloud.internal"),
            Service(80, "127.0.0.1", metadata.port, address="169.254.169.254"),
        )
        network = open_network(config("h-1", *services), "bridge")
        stack.callback(network.close)
        town = Town(Bench(isolation, tmp_path, ""), network, open_to_all, {})
        stack.callback(lambda: town.network.cleanup_all())
        town.bench = stack.enter_context(bench(isolation, tmp_path / "guests"))
        yield town


# ------------------------------------------------------------ what guests reach


def test_guests_of_one_account_reach_each_other_on_port_80_and_others_do_not(town: Town) -> None:
    web = town.serve(ALICE, "web")
    assert town.call(ALICE, "friend", f"{web.address} 80") == ["web"]
    assert town.call(BOB, "stranger", f"{web.address} 80") == ["silence"]


def test_an_account_is_one_network_across_hosts_of_a_machine(town: Town) -> None:
    web = town.serve(ALICE, "web")
    other = open_network(config("h-2"), "bridge")
    try:
        first = town.network
        town.network = other
        assert town.call(ALICE, "friend", f"{web.address} 80") == ["web"]
        assert town.call(BOB, "stranger", f"{web.address} 80") == ["silence"]
        town.network = first
    finally:
        other.cleanup_all()
        other.close()


def test_guests_reach_the_clouds_services_and_no_other_port_of_the_host(town: Town) -> None:
    gateway = town.place(ALICE, "curious").gateway
    host = _address_of_the_host()
    private, front_door = town.open_to_all.port, town.place(ALICE, "curious").env["MINICLOUD_ENDPOINT"]
    assert front_door == f"{gateway}:{FRONT_DOOR_PORT}"
    assert town.places["curious"].env["AWS_ENDPOINT_URL"] == "https://minicloud.internal:4566"
    assert town.places["curious"].names == {"minicloud.internal": gateway}
    own = town.places["curious"].address
    with ExitStack() as stack:
        ray = HostService("ray", gateway, RAY_PORT).start(stack)
        assert town.call(
            ALICE,
            "curious",
            f"{gateway} {FRONT_DOOR_PORT}",
            "169.254.169.254 80",
            f"{gateway} {private}",
            f"{host} {private}",
            f"{gateway} {ray.port}",
            "169.254.169.254 8080",
            "127.0.0.1 22",
        ) == [f"front-door {own}", f"metadata {own}", "silence", "silence", "silence", "silence", "Connection refused"]


def test_the_host_reaches_guests(town: Town) -> None:
    web = town.serve(ALICE, "web")
    with socket.create_connection((web.address, 80), timeout=30) as connection:
        assert connection.makefile().readline() == "web\n"


def test_guests_may_ping_their_gateway_and_have_no_ipv6(town: Town) -> None:
    code = (
        "import socket\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM,socket.IPPROTO_ICMP)\n"
        "s.settimeout(20)\n"
        "s.sendto(bytes([8,0,0,0,0,0,0,1])+b'ping',(__import__('sys').argv[1],0))\n"
        "print(s.recv(100)[-4:], open('/proc/net/if_inet6').read())\n"
    )
    place = town.place(ALICE, "i-1")
    spec = town.bench.python("i-1", code, place.gateway, netns=place.netns_path)
    assert town.bench.run(spec) == (0, "b'ping' \n")


@pytest.fixture
def outside(untouched: None) -> Iterator[str]:
    """A machine beyond the host: a namespace at 198.51.100.2, with a route back to guests. Gives its path."""
    name = f"mctest-{os.getpid()}"
    cable = f"mctest{os.getpid() % 100000}"

    def build() -> None:
        with netns.created(name) as host, IPRoute() as inside:
            inside.link("add", ifname="eth0", kind="veth", peer={"ifname": cable, "net_ns_fd": host})
            eth0 = inside.link_lookup(ifname="eth0")[0]
            inside.addr("add", index=eth0, address="198.51.100.2", prefixlen=30)
            inside.link("set", index=eth0, state="up")
            inside.route("add", dst="default", gateway="198.51.100.1")
        with IPRoute() as ip:
            index = ip.link_lookup(ifname=cable)[0]
            ip.addr("add", index=index, address="198.51.100.1", prefixlen=30)
            ip.link("set", index=index, state="up")

    def demolish() -> None:
        with IPRoute() as ip:
            ip.link("del", ifname=cable)  # first: the kernel takes it away with the namespace, a little later
        netns.remove(name)

    run_in_thread(build)
    yield netns.path_of(name)
    run_in_thread(demolish)


def test_guests_reach_the_outside_as_the_host_and_are_not_reached_from_it(outside: str, town: Town) -> None:
    service = HostService("far", "198.51.100.2")
    web = town.serve(ALICE, "web")
    answers: list[str] = []

    def attempt() -> None:
        with linux.inside_netns(outside):
            try:
                socket.create_connection((web.address, 80), timeout=0.7).close()
            except TimeoutError:
                answers.append("silence")

    with ExitStack() as stack:

        def listen() -> None:  # a socket stays in the namespace that it was made in
            with linux.inside_netns(outside):
                service.start(stack)

        run_in_thread(listen)
        assert town.call(ALICE, "curious", f"198.51.100.2 {service.port}") == ["far 198.51.100.1"]
        run_in_thread(attempt)
        assert answers == ["silence"]


def test_a_service_may_be_on_another_machine(outside: str, town: Town) -> None:
    service = HostService("far", "198.51.100.2")
    with ExitStack() as stack:

        def listen() -> None:
            with linux.inside_netns(outside):
                service.start(stack)

        run_in_thread(listen)
        town.network.close()
        town.network = open_network(config("h-1", Service(FRONT_DOOR_PORT, "198.51.100.2", service.port)), "bridge")
        gateway = town.place(ALICE, "i-1").gateway
        assert town.call(ALICE, "i-1", f"{gateway} {FRONT_DOOR_PORT}") == ["far 198.51.100.1"]


# ------------------------------------------------------------ places


def test_a_place_is_kept_until_it_is_released(town: Town) -> None:
    first = town.network.allocate(ALICE, "i-1")
    assert town.network.allocate(ALICE, "i-1") == first
    assert town.network.existing() == [first]
    town.network.release("i-1")
    town.network.release("i-1")
    assert town.network.existing() == []
    assert not Path(first.netns_path or "").exists()
    again = town.network.allocate(ALICE, "i-1", first.address)
    assert again.address == first.address


def test_an_address_that_cannot_be_had_is_refused(town: Town) -> None:
    taken = town.network.allocate(ALICE, "i-1").address
    for address in (taken, "10.1.2.3", "x"):
        with pytest.raises(InvalidParameterValue) as caught:
            town.network.allocate(ALICE, "i-2", address)
        assert caught.value.field == "address"
    other = str(IPv4Address(taken) - 1) if not taken.endswith(".4") else str(IPv4Address(taken) + 1)
    with pytest.raises(InvalidParameterValue, match="release it before"):
        town.network.allocate(ALICE, "i-1", other)


def test_accounts_have_subnets_of_their_own(town: Town) -> None:
    alice, bob = town.network.allocate(ALICE, "i-1"), town.network.allocate(BOB, "i-2")
    assert alice.gateway != bob.gateway


def test_an_agent_that_starts_adopts_what_is_there(town: Town) -> None:
    web = town.serve(ALICE, "web")
    town.network.close()  # the agent dies; its guests do not
    assert isinstance(town.network, BridgeNetwork)
    heir = open_network(config("h-1", Service(FRONT_DOOR_PORT, "127.0.0.1", town.open_to_all.port)), "bridge")
    town.network = heir
    assert [replace(place, env={}) for place in heir.existing()] == [replace(web, env={}, names={})]
    assert town.call(ALICE, "friend", f"{web.address} 80", f"{web.gateway} {FRONT_DOOR_PORT}") == [
        "web",
        f"private {town.places['friend'].address}",
    ]
    assert heir.allocate(ALICE, "web").netns == web.netns
    assert town.call(ALICE, "friend", f"{web.address} 80") == ["web"]


def test_a_crash_between_the_steps_leaves_nothing_that_is_not_found(town: Town) -> None:
    """A namespace without a cable, and a cable without a name: both are of an agent that was killed at work."""
    prefix = _names_of(config("h-1"))[0]
    run_in_thread(lambda: _abandon(f"{prefix}-ff01"))
    heir = open_network(config("h-1"), "bridge")
    try:
        assert heir.existing() == []
        assert f"{prefix}-ff01" not in netns.names(prefix)
    finally:
        heir.cleanup_all()
        heir.close()


def _abandon(name: str) -> None:
    with netns.created(name):
        pass


def run_in_thread(work: object) -> None:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_spares_are_made_ahead_and_used(town: Town) -> None:
    town.network.refill()
    prefix = _names_of(config("h-1"))[0]
    ready = netns.names(prefix)
    assert len(ready) == 2
    assert town.network.allocate(ALICE, "i-1").netns in ready


def test_what_the_kernel_refuses_is_an_error_and_a_place_that_is_there_is_none(outside: str) -> None:
    cable = f"mctest{os.getpid() % 100000}"
    inside = ("198.51.100.2", 30, "198.51.100.1")
    seen: list[str] = []

    def ask() -> None:
        with netns.created(f"{cable}-x") as host:
            for attempt in (lambda: cables.make(cable, 1, host), lambda: cables.make("a" * 16, 1, host)):
                try:
                    attempt()
                except OSError as error:
                    seen.append(errno.errorcode[error.errno or 0])
        netns.remove(f"{cable}-x")
        cables.plug_guest_end(outside, *inside)  # all of it is so already

    run_in_thread(ask)
    assert seen[0] == "EEXIST" and seen[1] in ("EINVAL", "ERANGE")


def test_entering_a_namespace_is_undone() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    seen: list[str] = []

    def visit() -> None:
        name = f"mctest-{os.getpid()}"
        before = os.readlink(linux.THREAD_NETNS)
        with netns.created(name):
            seen.append(os.readlink(linux.THREAD_NETNS))
        with linux.inside_netns(netns.path_of(name)):
            seen.append(os.readlink(linux.THREAD_NETNS))
        netns.remove(name)
        seen.append(before)
        seen.append(os.readlink(linux.THREAD_NETNS))

    run_in_thread(visit)
    created, inside, before, after = seen
    assert created == inside != before == after


# ------------------------------------------------------------ without namespaces


def test_loopback_gives_addresses_and_says_what_it_is() -> None:
    service = Service(
        80, "127.0.0.1", 9999, address="169.254.169.254", env="AWS_EC2_METADATA_SERVICE_ENDPOINT", scheme="http"
    )
    network = open_network(
        NetworkConfig("c", "h", (service, Service(7077, "127.0.0.1", 17077, env="MINICLOUD_ENDPOINT"))), "loopback"
    )
    first = network.allocate(ALICE, "i-1")
    assert IPv4Address(first.address).is_loopback
    assert first.netns_path is None
    assert first.env == {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{first.address}:9999",
        "MINICLOUD_ENDPOINT": "127.0.0.1:17077",
    }
    assert network.allocate(ALICE, "i-1") == first
    assert network.allocate(ALICE, "i-2").address != first.address
    with pytest.raises(InvalidParameterValue, match="in use"):
        network.allocate(ALICE, "i-3", first.address)
    network.release("i-1")
    assert network.allocate(BOB, "i-3", first.address).address == first.address
    assert "share this machine's network" in network.warnings[0]


@pytest.mark.parametrize(("cloud", "field"), [("", "cloud"), ("a b", "cloud"), ("x" * 49, "cloud")])
def test_names_that_no_alias_could_hold_are_refused(cloud: str, field: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        NetworkConfig(cloud, "h")
    assert caught.value.field == field


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(InvalidParameterValue, match="no network driver 'host'"):
        open_network(NetworkConfig("c", "h"), "host")


def _address_of_the_host() -> str:
    """Some address of the host outside of our subnets (no packet is sent: a UDP connect only chooses a route)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("the host has no address but loopback")
        return str(s.getsockname()[0])
