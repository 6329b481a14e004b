"""Doors asked by botocore's own models, with values that often exist: whatever is asked, no door fails inside.

Requests are what an SDK would send: each operation's input shape filled at random, most members left out, ids and
names drawn from what earlier answers said, so that operations work on each other's things. A 5xx is a fault, other than
a host that has no room or no agent.
"""

from __future__ import annotations

import base64
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import botocore.session
from botocore.model import OperationModel, Shape
from botocore.serialize import create_serializer

from minicloud.aws.call import Door
from minicloud.aws.credentials import open_admit
from minicloud.aws.gateway import Gateway, Way, served
from minicloud.aws.wire import Answer, Request

_ID = re.compile(rb"\b(?:i|ami|vol|eni|sg|sgr|lt|key|pg|vpc|subnet|igw|rtb|iip-assoc)-[0-9a-f]{8,17}\b")
_KEY = re.compile(rb"AKIA[A-Z2-7]{16}")
_COMMAND = re.compile(rb'"CommandId":"([0-9a-f-]{36})"')
_ARN = re.compile(rb"arn:aws:(?:iam|sts)::[0-9]{12}:[\w/+=,.@-]+")
_NAMES = ("web", "x", "a b", "", "default", "/app/url", "base", "1", "$Latest", "0.0.0.0/0", "tcp", "-1", "cluster")
_FEW = ("web", "app", "x1")
# What a member is asked for with, most of the time: by the end of its name, the beginning of an id, or some words.
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ImageId", ("ami-",)),
    ("InstanceId", ("i-",)),
    ("InstanceIds", ("i-",)),
    ("VolumeIds", ("vol-",)),
    ("SubnetId", ("subnet-",)),
    ("VpcId", ("vpc-",)),
    ("LaunchTemplateId", ("lt-",)),
    ("SecurityGroupRuleIds", ("sgr-",)),
    ("SecurityGroupRuleId", ("sgr-",)),
    ("SecurityGroupIds", ("sg-",)),
    ("GroupId", ("sg-", "pg-")),
    ("Groups", ("sg-",)),
    ("AssociationId", ("iip-assoc-",)),
    ("Resources", ("i-", "vol-", "sg-", "lt-", "key-")),
    ("PolicyArn", ("arn:",)),
    ("RoleArn", ("arn:",)),
    ("CommandId", ("command:",)),
    ("AccessKeyId", ("AKIA",)),
)
_OFTEN = ("RunInstances", "AuthorizeSecurityGroupIngress", "CreateLaunchTemplate", "CreatePolicy", "SendCommand")
_WORDS = {
    "InstanceType": ("t3.nano", "t3.nano", "t3.micro", "m5.large", "x"),
    "DocumentName": ("AWS-RunShellScript",),
    "VersionId": ("v1", "v2"),
    "Version": ("1", "2", "$Latest"),
    "DefaultVersion": ("1", "2"),
    "SourceVersion": ("1", "2"),
    "Versions": ("1", "2", "$Latest"),
    "IpProtocol": ("tcp", "udp", "-1", "icmp", "50", "x"),
    "CidrIp": ("0.0.0.0/0", "10.0.0.0/8", "x/1"),
    "CidrIpv4": ("0.0.0.0/0", "10.0.0.0/8"),
    "AvailabilityZone": ("us-east-1a", "us-east-1z"),
    "Strategy": ("cluster", "spread", "partition"),
    "ResourceType": ("instance", "volume", "security-group", "launch-template", "role"),
    "Type": ("String", "SecureString", "StringList"),
    "Path": ("/", "/app/", "/x"),
}
_DOCUMENT = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Principal":"*"}]}'
_ODD = (
    '{"Statement":[{"Effect":"Deny","NotAction":["a:b"],"Condition":{"StringEquals":{"a":1}},"Resource":"${aws:x}"}]}'
)
_EXPECTED = (b"InsufficientInstanceCapacity", b"ServiceUnavailable", b"InsufficientHostCapacity")


class DoorFuzz:
    def __init__(self, doors: Iterable[Door], seed: int, account: str = "000000000000") -> None:
        self.account = account
        self.rand = random.Random(seed)
        doors = list(doors)
        admit = open_admit()
        self._gateway = Gateway(
            doors, Way(lambda request, service: replace(admit(request, service), admin=False), lambda: "request")
        )
        loader = botocore.session.get_session()
        self._models = {door.service: loader.get_service_model(door.service) for door in doors}
        self._operations = [(door.service, name) for door in doors for name in sorted(served(door).methods)]
        self._operations += [one for one in self._operations if one[1] in _OFTEN for _ in range(6)]
        self._serializers = {name: create_serializer(model.protocol, False) for name, model in self._models.items()}
        self.known = [*_NAMES, "ami-0000000000000ba5e", "ami-0abcdef1234567890"]
        self.seen: Counter[str] = Counter()

    async def one(self) -> Answer:
        """One request of a random operation. Raises AssertionError where the door failed."""
        service, name = self.rand.choice(self._operations)
        return await self.ask(service, name, self.params(service, name))

    def params(self, service: str, name: str) -> dict[str, Any]:
        """What to ask of an operation, at random."""
        shape = self._models[service].operation_model(name).input_shape
        return self._members(shape, 0) if shape is not None else {}

    def with_member(self, service: str, member: str) -> list[str]:
        """Operations that are served and have this parameter."""
        model, found = self._models[service], sorted({name for one, name in self._operations if one == service})
        shapes = {name: model.operation_model(name).input_shape for name in found}
        return [name for name, shape in shapes.items() if shape is not None and member in shape.members]

    async def ask(self, service: str, name: str, params: dict[str, Any]) -> Answer:
        operation = self._models[service].operation_model(name)
        answer = await self._gateway.handle(self._request(service, operation, params))
        self._learn(answer)
        self.seen[f"{service}.{name} {answer.status}"] += 1
        body = answer.whole()
        failed = answer.status >= 500 and not any(word in body for word in _EXPECTED)
        assert not failed, (service, name, params, body[:600])
        return answer

    def _learn(self, answer: Answer) -> None:
        body = answer.whole()
        found = [one.decode() for words in (_ID, _ARN, _KEY) for one in words.findall(body)]
        found += [f"command:{one.decode()}" for one in _COMMAND.findall(body)]
        self.known = (self.known + found[:20])[-600:] if found else self.known
        if "ami-0abcdef1234567890" not in self.known:
            self.known += [*_NAMES, "ami-0abcdef1234567890"]

    def _request(self, service: str, operation: OperationModel, params: dict[str, Any]) -> Request:
        made = self._serializers[service].serialize_to_request(params, operation)
        body = made["body"]
        raw = urlencode(body).encode() if isinstance(body, dict) else body if isinstance(body, bytes) else body.encode()
        headers = {name.lower(): str(value) for name, value in made["headers"].items()}
        signing = self._models[service].signing_name
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.account}/20260101/us-east-1/{signing}/aws4_request, "
            "SignedHeaders=host, Signature=0"
        )
        headers["host"] = "localhost"
        return Request(made["method"], made["url_path"], "", headers, raw)

    def _members(self, shape: Shape, depth: int) -> dict[str, Any]:
        rand, found = self.rand, {}
        chance = min(0.3, 1.2 / max(len(shape.members), 1))
        required = set(getattr(shape, "required_members", ()))
        for name, member in shape.members.items():
            if name in required or rand.random() < (chance if depth == 0 else 0.35):
                found[name] = self._value(name, member, depth)
        found.pop("DryRun", None) if rand.random() < 0.8 else None
        return found

    def _value(self, name: str, shape: Shape, depth: int) -> Any:
        rand, kind = self.rand, shape.type_name
        if kind == "structure":
            return self._members(shape, depth + 1) if depth < 4 else {}
        if kind == "list":
            return [self._value(name, shape.member, depth + 1) for _ in range(rand.choice((0, 1, 1, 1, 2)))]
        if kind == "map":
            return {rand.choice(("commands", "k")): self._value(name, shape.value, depth + 1)}
        if kind == "boolean":
            return rand.random() < 0.5
        if kind in ("integer", "long"):
            return rand.choice((0, 1, 1, 1, 2, 5, 22, 80, 900, 3600, -1, 70000, 2**31 - 1))
        if kind in ("float", "double"):
            return rand.choice((0.0, 1.5, -1.0))
        if kind == "timestamp":
            return "2026-01-01T00:00:00Z"
        if kind == "blob":
            return rand.choice((b"", b"#!/bin/sh\ntrue", b"\xff\xfe", b"ssh-ed25519 AAAA x"))
        return self._text(name, shape)

    def _text(self, name: str, shape: Shape) -> str:
        rand = self.rand
        if shape.enum and rand.random() < 0.9:
            return str(rand.choice(shape.enum))
        if name == "UserData":
            return rand.choice((base64.b64encode(b"#!/bin/sh\ntrue").decode(), "%%%", ""))
        if ("Document" in name or name == "PolicyInputList") and "Name" not in name:
            return rand.choice((_DOCUMENT, _DOCUMENT, _ODD, "{", "[]", '{"Statement":1}', '"x"'))
        if name in _WORDS and rand.random() < 0.9:
            return rand.choice(_WORDS[name])
        if name.endswith("Name") and rand.random() < 0.9:
            return rand.choice(_FEW)
        for end, starts in _KINDS:
            if name == end and rand.random() < 0.9:
                start = rand.choice(starts)
                fitting = [one for one in self.known if one.startswith(start)]
                if fitting:
                    return rand.choice(fitting).removeprefix("command:")
        return rand.choice(self.known).removeprefix("command:")
