"""Two accounts behind authentication and TLS: neither sees, uses or reaches what is the other's. And GPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from minicloud.base.errors import AccessDenied, CloudError, LimitExceeded, NotFound, Unauthenticated
from minicloud.client import Client
from tests.real_cloud import RealCloud, real_cloud, until

pytestmark = pytest.mark.timeout(300)
OTHER = "111111111111"


@pytest.fixture(scope="module")
def tls() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mc-tls-") as folder:
        RealCloud(Path(folder)).cli("certs", "--dir", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def cloud(tls: Path) -> Iterator[RealCloud]:
    files = [f"--tls-{kind}={tls / name}" for kind, name in _FILES.items()]
    with real_cloud("--auth", "--gpus", "2", "--overcommit-memory", "4", "--disk-per-host", "500", *files) as made:
        yield made


_FILES = {"cert": "server.pem", "key": "server.key", "ca": "ca.pem"}


def client_of(cloud: RealCloud, tls: Path, key_id: str, secret: str) -> Client:
    return Client(cloud.endpoint, access_key_id=key_id, secret_access_key=secret, ca=str(tls / "ca.pem"))


@pytest.fixture(scope="module")
def admin(cloud: RealCloud, tls: Path) -> Iterator[Client]:
    keys = json.loads((cloud.data / "admin.json").read_text())
    with client_of(cloud, tls, keys["access_key_id"], keys["secret_access_key"]) as made:
        yield made


@pytest.fixture(scope="module")
def other(cloud: RealCloud, tls: Path, admin: Client) -> Iterator[Client]:
    admin.identity.create_account("other", account=OTHER)
    made = admin.identity.create_access_key(account=OTHER)
    with client_of(cloud, tls, made.key.id, made.secret) as client:
        yield client


def test_wrong_and_missing_credentials_are_refused(cloud: RealCloud, tls: Path, other: Client) -> None:
    key = next(iter(other.identity.list_access_keys()))
    for key_id, secret in ((key.id, "wrong"), ("AKIA" + "A" * 16, "wrong")):
        with client_of(cloud, tls, key_id, secret) as stranger, pytest.raises(Unauthenticated):
            list(stranger.instances.list())
    with Client(cloud.endpoint, ca=str(tls / "ca.pem")) as nobody, pytest.raises(Unauthenticated):
        list(nobody.instances.list())


def boto_of(cloud: RealCloud, tls: Path, key_id: str, secret: str) -> Any:
    return boto3.Session().client(
        "sqs",
        endpoint_url=cloud.http,
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        verify=str(tls / "ca.pem"),
    )


def test_aws_requests_are_verified_wherever_they_arrive(cloud: RealCloud, tls: Path, other: Client) -> None:
    made = other.identity.create_access_key()
    with closing(boto_of(cloud, tls, made.key.id, made.secret)) as sqs:
        url = sqs.create_queue(QueueName="signed")["QueueUrl"]
        assert url.endswith(f"/{OTHER}/signed") and url.startswith("https://")
        sqs.send_message(QueueUrl=url, MessageBody="x")
        other.identity.disable_access_key(made.key.id)
        refused = until(lambda: _code(sqs, url), 10)
        assert refused == "InvalidClientTokenId"
    with closing(boto_of(cloud, tls, made.key.id, "wrong")) as sqs:
        assert _code(sqs, url) == "InvalidClientTokenId"
    key = next(one for one in other.identity.list_access_keys() if one.status == "Active")
    with closing(boto_of(cloud, tls, key.id, "wrong")) as sqs:
        assert _code(sqs, url) == "SignatureDoesNotMatch"


def _code(sqs: Any, url: str) -> str:
    """Of the error of a send; '' where there is none."""
    try:
        sqs.send_message(QueueUrl=url, MessageBody="x")
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_accounts_are_walled_off(admin: Client, other: Client) -> None:
    (mine,) = admin.instances.launch("t3.nano", wait=True)
    (theirs,) = other.instances.launch("t3.nano", wait=True)
    assert [one.id for one in other.instances.list()] == [theirs.id]
    unknown = "i-00000000000000000"
    for call in (
        lambda target: other.instances.get(target),
        lambda target: other.instances.terminate(target),
        lambda target: other.instances.exec(target, ["true"]),
        lambda target: other.images.create(target, "stolen"),
        lambda target: other.tags.add(target, {"a": "b"}),
    ):
        texts = []
        for target in (mine.id, unknown):
            with pytest.raises(NotFound) as caught:
                call(target)
            texts.append(str(caught.value).replace(target, "ID"))
        assert texts[0] == texts[1]
    with pytest.raises(AccessDenied):
        other.hosts.drain("host-a")
    with pytest.raises(AccessDenied):
        other.identity.create_account("third")
    if mine.isolation is not None and mine.isolation.network == "bridge":
        _walls_between_guests(admin, other, mine.private_ip, theirs.id)
    admin.instances.terminate(mine.id)
    other.instances.terminate(theirs.id)


def _walls_between_guests(admin: Client, other: Client, address: str, stranger: str) -> None:
    """A guest of the same account reaches the server, one of another account does not."""
    (friend,) = admin.instances.launch("t3.nano", wait=True)
    server = next(one for one in admin.instances.list() if one.private_ip == address)
    reach = f"import socket; socket.create_connection(('{address}', 8081), 2).close()"
    with admin.instances.open_exec(server.id, ["python3", "-m", "http.server", "8081"]):
        again = f"\n try:\n  {reach}; break\n except OSError: time.sleep(0.1)"
        tried = f"import time\nfor _ in range(600):{again}\nelse: raise SystemExit(1)"
        assert admin.instances.exec(friend.id, ["python3", "-c", tried]).exit_code == 0
        assert other.instances.exec(stranger, ["python3", "-c", reach]).exit_code != 0
    admin.instances.terminate(friend.id)


_FROM_A_GUEST = """
import os, socket, ssl, urllib.request
trusting = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
health = os.environ["AWS_ENDPOINT_URL"] + "/_minicloud/health"
print(urllib.request.urlopen(health, timeout=20, context=trusting).status)
host, port = os.environ["MINICLOUD_ENDPOINT"].split(":")
h2 = ssl.create_default_context(cafile=os.environ["MINICLOUD_CA"])
h2.set_alpn_protocols(["h2"])
with h2.wrap_socket(socket.create_connection((host, port), 20), server_hostname=host) as door:
    print(door.selected_alpn_protocol(), os.environ["MINICLOUD_TLS"])
"""


def test_a_guest_trusts_the_clouds_doors_and_knows_them_by_a_name_in_their_certificate(admin: Client) -> None:
    (one,) = admin.instances.launch("t3.nano", wait=True)
    seen = admin.instances.exec(one.id, ["python3", "-c", _FROM_A_GUEST])
    assert (seen.stdout.split(), seen.exit_code) == ([b"200", b"h2", b"1"], 0), seen.stderr
    admin.instances.terminate(one.id)


def test_a_disabled_key_opens_nothing(cloud: RealCloud, tls: Path, admin: Client) -> None:
    made = admin.identity.create_access_key(account=OTHER)
    with client_of(cloud, tls, made.key.id, made.secret) as client:
        assert client.identity.whoami().account == OTHER
        admin.identity.disable_access_key(made.key.id)
        with pytest.raises(Unauthenticated):
            client.identity.whoami()
    admin.identity.delete_access_key(made.key.id)


def test_quotas_hold_and_are_named(admin: Client, other: Client) -> None:
    admin.identity.set_quota("instances", 0, account=OTHER)
    with pytest.raises(LimitExceeded, match="instances"):
        other.instances.launch("t3.nano")
    admin.identity.set_quota("instances", 10, account=OTHER)


def test_an_accelerated_instance_sees_its_own_gpus_alone(admin: Client) -> None:
    made = [admin.instances.launch("g4dn.xlarge", wait=True)[0] for _ in range(2)]
    seen = [admin.instances.exec(one.id, ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]).stdout.split() for one in made]
    assert sorted(seen) in ([[b"0"], [b"1"]], [[b"0"], [b"0"]]), seen
    assert sorted(admin.instances.get(one.id).gpu_ids for one in made) == [("0",), ("1",)]
    with pytest.raises(CloudError, match=r"(?i)gpu"):
        admin.instances.launch("g4dn.xlarge")
    admin.instances.terminate(*[one.id for one in made])


def test_another_address_than_loopback_demands_both(tmp_path: Path) -> None:
    cloud = RealCloud(tmp_path)
    flags = ("--bind", "0.0.0.0", "--grpc-port", "0", "--http-port", "0")
    done = cloud.cli("up", "--detach", "--data-dir", str(tmp_path), *flags, check=False)
    assert done.returncode == 2 and "TLS is required" in done.stderr
    assert not os.path.exists(tmp_path / "run")
