"""Guests' cables: the netlink requests that every launch needs, encoded here.

pyroute2, which makes everything else, takes 2 ms to make a cable and 2 to plug it in, and several times that while Ray
starts actors on the other core; sent like this they take 0.9 and 0.3. The formats are of the kernel's rtnetlink.h,
if_link.h, if_addr.h and veth.h (man 7 rtnetlink). Every request asks for an acknowledgement, so a refusal is an error
with its number.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable

from minicloud.sandbox import linux

HEADER, ACK = struct.Struct("=IHHII"), struct.Struct("=i")
LINK, ADDRESS, ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBi"), struct.Struct("=BBBBBBBBI")
ATTRIBUTE = struct.Struct("=HH")
NLMSG_ERROR, RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 2, 16, 20, 24
REQUEST, CREATE = 0x1 | 0x4, 0x400 | 0x200  # NLM_F_REQUEST | NLM_F_ACK; NLM_F_CREATE | NLM_F_EXCL
IFF_UP, LOOPBACK = 1, 1  # the flag; lo is the first interface of every namespace
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD = 3, 10, 18, 20, 27, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, RTA_GATEWAY = 1, 2, 5
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
ANSWER_S = 5.0


def make(name: str, group: int, outside: int) -> None:
    """A cable: eth0 in the calling thread's namespace, `name` in that of the descriptor `outside`; lo goes up too.

    Raises OSError.
    """
    peer = _attribute(IFLA_IFNAME, _text(name)) + _attribute(IFLA_GROUP, _number(group))
    peer += _attribute(IFLA_NET_NS_FD, _number(outside))
    data = _attribute(VETH_INFO_PEER, LINK.pack(0, 0, 0, 0, 0) + peer)
    kind = _attribute(IFLA_INFO_KIND, b"veth") + _attribute(IFLA_INFO_DATA, data)
    cable = _attribute(IFLA_IFNAME, _text("eth0")) + _attribute(IFLA_LINKINFO, kind)
    _ask(
        [
            (RTM_NEWLINK, 0, LINK.pack(0, 0, LOOPBACK, IFF_UP, IFF_UP)),
            (RTM_NEWLINK, CREATE, LINK.pack(0, 0, 0, 0, 0) + cable),
        ]
    )


def name_host_end(index: int, alias: str) -> None:
    """What it says of itself. Raises OSError."""
    _ask([(RTM_NEWLINK, 0, LINK.pack(0, 0, index, 0, 0) + _attribute(IFLA_IFALIAS, alias.encode()))])


def plug_host_end(index: int, alias: str, bridge: int) -> None:
    """Up, into the bridge, and what it says of itself. Raises OSError."""
    attributes = _attribute(IFLA_IFALIAS, alias.encode()) + _attribute(IFLA_MASTER, _number(bridge))
    _ask([(RTM_NEWLINK, 0, LINK.pack(0, 0, index, IFF_UP, IFF_UP) + attributes)])


def plug_guest_end(netns_path: str, address: str, prefix: int, gateway: str) -> None:
    """eth0 gets its address, up, and the way out; what is so already stays. Blocks the thread. Raises OSError."""
    own, way_out = socket.inet_aton(address), socket.inet_aton(gateway)
    with linux.inside_netns(netns_path):
        eth0 = socket.if_nametoindex("eth0")
        described = ADDRESS.pack(socket.AF_INET, prefix, 0, 0, eth0)
        route = ROUTE.pack(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0)
        _ask(
            [
                (RTM_NEWADDR, CREATE, described + _attribute(IFA_LOCAL, own) + _attribute(IFA_ADDRESS, own)),
                (RTM_NEWLINK, 0, LINK.pack(0, 0, eth0, IFF_UP, IFF_UP)),
                (RTM_NEWROUTE, CREATE, route + _attribute(RTA_GATEWAY, way_out)),
            ],
            passing=errno.EEXIST,
        )


def _ask(requests: Iterable[tuple[int, int, bytes]], passing: int = 0) -> None:
    """(type, flags, body) each, in the calling thread's namespace, in order. `passing`: an error that is none."""
    messages = [
        HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, number, 0) + body
        for number, (kind, flags, body) in enumerate(requests)
    ]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as line:
        line.settimeout(ANSWER_S)
        line.send(b"".join(messages))
        waiting = len(messages)
        while waiting:
            waiting -= _read_acks(line.recv(65536), passing)


def _read_acks(data: bytes, passing: int) -> int:
    """How many. Raises OSError."""
    count = at = 0
    while at < len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, at)
        if kind == NLMSG_ERROR:
            (code,) = ACK.unpack_from(data, at + HEADER.size)
            if -code not in (0, passing):
                raise OSError(-code, os.strerror(-code))
            count += 1
        at += _aligned(length)
    return count


def _attribute(kind: int, value: bytes) -> bytes:
    return (ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value).ljust(
        _aligned(ATTRIBUTE.size + len(value)), b"\0"
    )


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _aligned(length: int) -> int:
    return (length + 3) & ~3
