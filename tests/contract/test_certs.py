"""`minicloud certs`: what it makes serves TLS to those who trust its CA, and to nobody else."""

from __future__ import annotations

import itertools
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from minicloud.base.errors import Conflict, InvalidParameterCombination, InvalidParameterValue, Unavailable
from minicloud.rpc.certs import ensure_certs
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.tls import channel_credentials, server_credentials

NOW = datetime.now(UTC).timestamp()
DAY = 86_400.0


async def check_health(port: int, name: str, ca: Path) -> None:
    """One call over TLS, as a client that trusts this CA and expects this name."""
    options = (("grpc.ssl_target_name_override", name),)
    credentials = channel_credentials(str(ca))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        call: Any = channel.unary_unary
        await call("/grpc.health.v1.Health/Check")(b"", timeout=10)


async def test_those_who_trust_the_ca_get_in_and_nobody_else(tmp_path: Path) -> None:
    made = ensure_certs(tmp_path / "mine", ["cloud.example", "10.1.2.3", "*.lan"], NOW)
    other = ensure_certs(tmp_path / "other", ["cloud.example"], NOW)
    ids = itertools.count()
    credentials = server_credentials(str(made.cert), str(made.key))
    server = RpcServer([], lambda: str(next(ids)), Listen(credentials=credentials))
    port = await server.start()
    for name in ("localhost", "127.0.0.1", "cloud.example", "10.1.2.3", "box.lan"):
        await check_health(port, name, made.ca)
    for name, ca in (("localhost", other.ca), ("evil.example", made.ca)):
        with pytest.raises(grpc.RpcError) as refused:
            await check_health(port, name, ca)
        assert type(from_rpc_error(refused.value)) is Unavailable
    with pytest.raises(grpc.RpcError):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary
            await call("/grpc.health.v1.Health/Check")(b"", timeout=10)
    await server.stop(0)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "minicloud.internal"])
def test_pythons_own_tls_takes_them_too(tmp_path: Path, name: str) -> None:
    made = ensure_certs(tmp_path, [], NOW)
    context = ssl.create_default_context(cafile=str(made.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.cert, made.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = context.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _, side in itertools.product(range(6), (here, there)):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        done.add(side)
    assert done == {here, there}


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    made = ensure_certs(tmp_path / "new", [], NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.ca.parent.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o644, "server.key": 0o600}
    assert stat.S_IMODE(made.ca.parent.stat().st_mode) == 0o700


def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    first = ensure_certs(tmp_path, ["a.example"], NOW)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = ensure_certs(tmp_path, ["A.example", "localhost"], NOW + DAY)
    assert (first.made, again.made) == (("ca", "server"), ())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert again.names == ("localhost", "127.0.0.1", "::1", "minicloud.internal", "a.example")
    assert again.expires == first.expires


@pytest.mark.parametrize(
    ("names", "later", "made"),
    [
        (["a.example", "b.example"], 0.0, ("server",)),  # asked for other names
        (["a.example"], 340 * DAY, ("server",)),  # the server's near its end
        (["a.example"], 3640 * DAY, ("ca", "server")),  # the CA's near its end
    ],
)
def test_what_no_longer_serves_is_made_again_with_the_same_keys(
    tmp_path: Path, names: list[str], later: float, made: tuple[str, ...]
) -> None:
    ensure_certs(tmp_path, ["a.example"], NOW)
    keys = [(tmp_path / name).read_bytes() for name in ("ca.key", "server.key")]
    again = ensure_certs(tmp_path, names, NOW + later)
    assert again.made == made
    assert again.expires > NOW + later + 300 * DAY
    assert [(tmp_path / name).read_bytes() for name in ("ca.key", "server.key")] == keys
    ca, server = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (again.ca, again.cert))
    server.verify_directly_issued_by(ca)


def test_an_interrupted_first_run_is_finished_by_the_next(tmp_path: Path) -> None:
    ensure_certs(tmp_path, [], NOW)
    for lost in ("ca.pem", "server.pem"):
        (tmp_path / lost).unlink()
    assert ensure_certs(tmp_path, [], NOW).made == ("ca", "server")


@pytest.mark.parametrize("name", ["", "a b", "-a.example", "a..b", "http://a", "x" * 64, "*", "a.*.b", "a" * 300])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameterValue) as wrong:
        ensure_certs(tmp_path / "new", [name], NOW)
    assert wrong.value.field == "names"
    assert not (tmp_path / "new").exists()


def test_files_that_cannot_be_understood_are_left_alone(tmp_path: Path) -> None:
    ensure_certs(tmp_path, [], NOW)
    for name, content in (("server.pem", b"nonsense"), ("ca.key", b"nonsense")):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Conflict):
            ensure_certs(tmp_path, [], NOW)
        assert (tmp_path / name).read_bytes() == content
        (tmp_path / name).write_bytes(kept)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(Conflict):
        ensure_certs(tmp_path, [], NOW)


def test_a_pair_that_does_not_fit_is_refused_before_anybody_connects(tmp_path: Path) -> None:
    one, two = ensure_certs(tmp_path / "1", [], NOW), ensure_certs(tmp_path / "2", [], NOW)
    with pytest.raises(InvalidParameterCombination, match="is not the key of"):
        server_credentials(str(one.cert), str(two.key))
    for cert, key, field in (
        (tmp_path / "absent", one.key, "tls_cert"),
        (one.key, one.key, "tls_cert"),
        (one.cert, one.cert, "tls_key"),
    ):
        with pytest.raises(InvalidParameterValue) as wrong:
            server_credentials(str(cert), str(key))
        assert wrong.value.field == field
    with pytest.raises(InvalidParameterValue):
        channel_credentials(str(tmp_path / "absent"))
