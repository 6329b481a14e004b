"""The documents that SNS sends: notification, subscription confirmation, unsubscribe confirmation; and what is signed.

Source: SNS guide, "Parsing message formats" and "Verifying the signatures of Amazon SNS messages". A document is made
when it is handed out, from the message and its *origin*, a few bytes that the publisher put beside it:

    kind 1 | message id 16 | milliseconds 8 | signature version 1 | subject length 2 | subject | topic ARN

Signature version 1 is SHA1 with RSA, 2 is SHA256 with RSA, over name and value lines of the fields below, in their
order. Messages of FIFO topics have a sequence number and no signature.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, urlencode

from minicloud.topic import ids
from minicloud.topic.message import Attribute
from minicloud.topic.ports import Signer

KINDS = ("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HEAD = struct.Struct(">B16sQBH")
_SEQUENCE_BASE = 10**19  # 20 digits from the first message on


class Origin(NamedTuple):
    """Where a message comes from. `sent_ms`: Unix milliseconds."""

    kind: str
    message_id: bytes
    sent_ms: int
    signature_version: int
    subject: str
    topic_arn: str

    @property
    def id_text(self) -> str:
        return ids.to_text(self.message_id)


def pack(origin: Origin) -> bytes:
    subject = origin.subject.encode()
    kind = KINDS.index(origin.kind)
    head = _HEAD.pack(kind, origin.message_id, origin.sent_ms, origin.signature_version, len(subject))
    return head + subject + origin.topic_arn.encode()


def unpack(data: bytes) -> Origin:
    kind, message_id, sent_ms, version, length = _HEAD.unpack_from(data)
    at = _HEAD.size + length
    return Origin(KINDS[kind], message_id, sent_ms, version, data[_HEAD.size : at].decode(), data[at:].decode())


def pack_many(message_ids: Iterable[bytes], origin: Origin) -> list[bytes]:
    """The same origin for many messages."""
    whole = pack(origin)
    head, tail = whole[:1], whole[17:]
    return [head + one + tail for one in message_ids]


def sequence_number(serial: int) -> str:
    """20 digits, increasing within a topic."""
    return str(_SEQUENCE_BASE + serial)


def timestamp(sent_ms: int) -> str:
    """2012-05-02T00:54:06.655Z"""
    text = datetime.fromtimestamp(sent_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{sent_ms % 1000:03d}Z"


def string_to_sign(fields: Mapping[str, str]) -> str:
    """Of a document with `Type`."""
    names = _SIGNED[fields["Type"]]
    return "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)


class Renderer:
    """Makes documents. `base_url`: where this broker's links are served, without a slash at its end."""

    def __init__(self, signer: Signer, base_url: str) -> None:
        self._signer = signer
        self._base_url = base_url

    @property
    def certificate_url(self) -> str:
        return f"{self._base_url}/{self._signer.certificate_name}"

    def notification(
        self, origin: Origin, ref: bytes, attributes: Mapping[str, Attribute], body: bytes, serial: int = 0
    ) -> bytes:
        """For the subscription with these 16 bytes. serial: of a message of a FIFO topic, else 0."""
        fields = {
            "Type": "Notification",
            "MessageId": origin.id_text,
            **({"SequenceNumber": sequence_number(serial)} if serial else {}),
            "TopicArn": origin.topic_arn,
            **({"Subject": origin.subject} if origin.subject else {}),
            "Message": body.decode("utf-8", "replace"),
            "Timestamp": timestamp(origin.sent_ms),
        }
        if not origin.topic_arn.endswith(".fifo"):
            self._sign(fields, origin)
        fields["UnsubscribeURL"] = self._unsubscribe_url(f"{origin.topic_arn}:{ids.to_text(ref)}")
        return _document(fields, attributes)

    def function_event(
        self, origin: Origin, subscription: tuple[str, bytes], attributes: Mapping[str, Attribute], body: bytes
    ) -> bytes:
        """What a function is given. subscription: its ARN and its 16 bytes. Source: guide, "Using Lambda with SNS"."""
        told = json.loads(self.notification(origin, subscription[1], attributes, body))
        for ours, theirs in (("SigningCertURL", "SigningCertUrl"), ("UnsubscribeURL", "UnsubscribeUrl")):
            told[theirs] = told.pop(ours)
        told.setdefault("Subject", None)
        told.setdefault("MessageAttributes", {})
        record = {"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": subscription[0], "Sns": told}
        return json.dumps({"Records": [record]}, separators=(",", ":")).encode()

    def confirmation(self, origin: Origin, token: str, subscription_arn: str) -> bytes:
        """A SubscriptionConfirmation or UnsubscribeConfirmation, by the origin's kind."""
        subscribing = origin.kind == "SubscriptionConfirmation"
        if subscribing:
            text = (
                f"You have chosen to subscribe to the topic {origin.topic_arn}.\n"
                "To confirm the subscription, visit the SubscribeURL included in this message."
            )
        else:
            text = (
                f"You have chosen to deactivate subscription {subscription_arn}.\n"
                "To cancel this operation and restore the subscription, "
                "visit the SubscribeURL included in this message."
            )
        query = {"Action": "ConfirmSubscription", "TopicArn": origin.topic_arn, "Token": token}
        fields = {
            "Type": origin.kind,
            "MessageId": origin.id_text,
            "Token": token,
            "TopicArn": origin.topic_arn,
            "Message": text,
            "SubscribeURL": f"{self._base_url}/?{urlencode(query, quote_via=quote, safe=':')}",
            "Timestamp": timestamp(origin.sent_ms),
        }
        self._sign(fields, origin)
        return _document(fields, {})

    def _sign(self, fields: dict[str, str], origin: Origin) -> None:
        signature = self._signer.sign(string_to_sign(fields).encode(), origin.signature_version)
        fields["SignatureVersion"] = str(origin.signature_version)
        fields["Signature"] = base64.b64encode(signature).decode()
        fields["SigningCertURL"] = self.certificate_url

    def _unsubscribe_url(self, subscription_arn: str) -> str:
        return f"{self._base_url}/?Action=Unsubscribe&SubscriptionArn={subscription_arn}"


def _document(fields: Mapping[str, str], attributes: Mapping[str, Attribute]) -> bytes:
    """JSON in SNS's own layout."""
    lines = [f'  "{name}" : {json.dumps(value, ensure_ascii=False)}' for name, value in fields.items()]
    if attributes:
        inner = ",\n".join(f"    {json.dumps(name)} : {_value(one)}" for name, one in attributes.items())
        lines.append('  "MessageAttributes" : {\n' + inner + "\n  }")
    return ("{\n" + ",\n".join(lines) + "\n}").encode()


def _value(attribute: Attribute) -> str:
    kind, value = attribute
    text = base64.b64encode(value).decode() if kind.startswith("Binary") else value.decode("utf-8", "replace")
    return json.dumps({"Type": kind, "Value": text}, ensure_ascii=False, separators=(",", ":"))
