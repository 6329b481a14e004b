"""Documents as SNS writes them, and signatures as AWS says they are verified."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from minicloud.topic.envelope import Origin, Renderer, pack, pack_many, timestamp, unpack
from minicloud.topic.message import Attribute

ARN = "arn:aws:sns:us-east-1:000000000000:news"
ID = bytes(range(16))
REF = bytes(range(16, 32))
SUBSCRIPTION = f"{ARN}:{uuid.UUID(bytes=REF)}"
URL = "http://127.0.0.1:4566/_minicloud/sns"


class Key:
    """A signer that keeps its key at hand."""

    certificate_name = "SimpleNotificationService-abc.pem"

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(self, text: bytes, version: int) -> bytes:
        return self.key.sign(text, padding.PKCS1v15(), hashes.SHA1() if version == 1 else hashes.SHA256())


KEY = Key()
RENDERER = Renderer(KEY, URL)


def origin(**changes: object) -> Origin:
    return Origin("Notification", ID, 1_335_920_046_655, 1, "Hi", ARN)._replace(**changes)  # type: ignore[arg-type]


def verify(document: dict[str, str], names: list[str]) -> None:
    """The guide's steps: name and value lines of the fields that are there, then the hash and the public key."""
    text = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
    algorithm = {"1": hashes.SHA1, "2": hashes.SHA256}[document["SignatureVersion"]]()
    signature = base64.b64decode(document["Signature"])
    KEY.key.public_key().verify(signature, text.encode(), padding.PKCS1v15(), algorithm)


NOTIFICATION = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
CONFIRMATION = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("subject", ["", "Grüße"])
def test_a_notification_and_its_signature(version: int, subject: str) -> None:
    body = 'line one\n"quoted" \\ ünïcode 🙂'
    raw = RENDERER.notification(origin(signature_version=version, subject=subject), REF, {}, body.encode())
    document = json.loads(raw)
    assert list(document) == [
        "Type", "MessageId", "TopicArn", *(["Subject"] if subject else []), "Message", "Timestamp", "SignatureVersion",
        "Signature", "SigningCertURL", "UnsubscribeURL",
    ]  # fmt: skip
    assert document["Message"] == body
    assert document["MessageId"] == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert document["Timestamp"] == "2012-05-02T00:54:06.655Z"
    assert document["SigningCertURL"] == f"{URL}/SimpleNotificationService-abc.pem"
    assert document["UnsubscribeURL"] == f"{URL}/?Action=Unsubscribe&SubscriptionArn={SUBSCRIPTION}"
    verify(document, NOTIFICATION)


def test_the_layout_is_snss_own() -> None:
    attributes = {"store": Attribute("String", b"a\"b"), "price": Attribute("Number", b"1.5"),
                  "raw": Attribute("Binary", b"\x00\xff")}  # fmt: skip
    raw = RENDERER.notification(origin(), REF, attributes, b"x").decode()
    assert raw.startswith('{\n  "Type" : "Notification",\n  "MessageId" : "0001')
    assert raw.endswith(
        '  "MessageAttributes" : {\n    "store" : {"Type":"String","Value":"a\\"b"},\n'
        '    "price" : {"Type":"Number","Value":"1.5"},\n    "raw" : {"Type":"Binary","Value":"AP8="}\n  }\n}'
    )


def test_messages_of_fifo_topics_have_a_number_and_no_signature() -> None:
    document = json.loads(RENDERER.notification(origin(topic_arn=ARN + ".fifo", subject=""), REF, {}, b"x", serial=7))
    assert list(document) == [
        "Type", "MessageId", "SequenceNumber", "TopicArn", "Message", "Timestamp", "UnsubscribeURL",
    ]  # fmt: skip
    assert document["SequenceNumber"] == "10000000000000000007"


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_confirmations(kind: str) -> None:
    document = json.loads(RENDERER.confirmation(origin(kind=kind), "70cafe", SUBSCRIPTION))
    assert list(document) == [
        "Type", "MessageId", "Token", "TopicArn", "Message", "SubscribeURL", "Timestamp", "SignatureVersion",
        "Signature", "SigningCertURL",
    ]  # fmt: skip
    assert document["SubscribeURL"] == f"{URL}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=70cafe"
    assert (ARN if kind == "SubscriptionConfirmation" else SUBSCRIPTION) in document["Message"]
    verify(document, CONFIRMATION)


def test_origins_go_through_bytes() -> None:
    for one in (origin(), origin(subject="", kind="UnsubscribeConfirmation"), origin(subject="ü" * 100)):
        assert unpack(pack(one)) == one
    ids = [hashlib.md5(bytes([at])).digest() for at in range(3)]
    assert pack_many(ids, origin()) == [pack(origin(message_id=one)) for one in ids]


def test_timestamps_have_milliseconds() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
