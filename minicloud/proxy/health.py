"""Health checks of a backend's servers, as values -> the lines that HAProxy reads. Pure. See config.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minicloud.proxy.checked import HEADER, matching, quote, whole

_EXPECT = re.compile(r"^[0-9]{1,3}([,-][0-9]{1,3})*$")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A request to each server every `interval_ms`; `rise`/`fall` answers in a row change its state.

    `path` '': a connection is enough. `grpc`: a call without a message to the method `path`; `expect` are gRPC codes,
    which are seen of calls that fail at once. `tls`: None as the traffic is. `timeout_ms` 0: the interval. `agent`:
    what it calls itself, `header` what else it sends (name and value). `relay`: a port of this machine at which
    somebody makes the check in HAProxy's stead, of the server that is named to him (relay.py).
    """

    path: str
    interval_ms: int = 2_000
    rise: int = 2
    fall: int = 2
    expect: str = "200-399"
    port: int = 0
    timeout_ms: int = 0
    grpc: bool = False
    tls: bool | None = None
    agent: str = ""
    header: tuple[str, str] = ("", "")
    relay: int = 0

    def backend_lines(self) -> Iterator[str]:
        if self.timeout_ms:
            yield f"timeout check {whole(self.timeout_ms, 1, 10**7, 'timeout_ms')}ms"
        if not self.path:
            return
        codes = matching(_EXPECT, self.expect, "expect")
        yield "option httpchk"
        if self.relay:
            yield "http-check send-state"
            yield "http-check send meth GET uri / ver HTTP/1.1 hdr Host relay"
            yield "http-check expect status 200"
            return
        if self.grpc:
            yield f"http-check send meth POST uri {quote(self.path)} ver HTTP/2 {_GRPC_HEADERS}"
            yield from ("http-check expect status 200", f"http-check expect {_grpc_status(codes)}")
            return
        agent = f" ver HTTP/1.1 hdr User-Agent {quote(self.agent)} hdr Host health" if self.agent else ""
        more = f" hdr {matching(HEADER, self.header[0], 'header')} {quote(self.header[1])}" if self.header[0] else ""
        yield f"http-check send meth GET uri {quote(self.path)}{agent}{more}"
        yield f"http-check expect status {codes}"

    def server_options(self) -> str:
        port = f" port {whole(self.port, 1, 65535, 'port')}" if self.port else ""
        counts = f"rise {whole(self.rise, 1, 100, 'rise')} fall {whole(self.fall, 1, 100, 'fall')}"
        tls = {None: "", True: " check-ssl verify none", False: " no-check-ssl"}[self.tls]
        if self.relay:
            relay = whole(self.relay, 1, 65535, "relay")
            port, tls = f" addr 127.0.0.1 port {relay}", " no-check-ssl check-proto h1"
        return f"check inter {whole(self.interval_ms, 1, 10**7, 'interval_ms')}ms {counts}{port}{tls}"


_GRPC_HEADERS = "hdr content-type application/grpc hdr te trailers hdr Host health"


def _grpc_status(codes: str) -> str:
    spans = [span.partition("-") for span in codes.split(",")]
    numbers = sorted({number for low, _, high in spans for number in range(int(low), int(high or low) + 1)})
    return f"hdr name 'grpc-status' value -m reg {quote(f'^({chr(124).join(map(str, numbers))})$')}"
