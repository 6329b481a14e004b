"""Stand-ins for the composition root: a control plane that only answers HTTP, agents and shards that only wait.

Named in `EntryPoints` by the tests of bringing a cloud up and down, which are about processes, not about instances.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from http.server import ThreadingHTTPServer

from minicloud.cluster.nodes import NodeState, watch_nodes
from minicloud.rpc.http import SHUTDOWN, TOKEN_HEADER, internal_token
from minicloud.settings import CloudSettings, HostSettings, read_secret


def run_control_plane(settings: CloudSettings) -> None:
    """Health, the nodes as `watch_nodes` tells them with the time of each change, and the shutdown request."""
    changes: list[tuple[float, list[NodeState]]] = []
    stop = threading.Event()

    def on_change(nodes: list[NodeState]) -> None:
        changes.append((time.time(), nodes))

    threading.Thread(target=watch_nodes, args=(on_change, stop), daemon=True).start()
    token = internal_token(read_secret(settings))
    asked = settings.data_path / "was-asked"
    asked.unlink(missing_ok=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            alive = [[at, sorted(node.host_name for node in nodes if node.alive)] for at, nodes in changes]
            status = "stopped" if asked.exists() else "ok"
            self._answer(200, {"pid": os.getpid(), "alive": alive, "status": status})

        def do_POST(self) -> None:
            allowed = self.path == SHUTDOWN and self.headers[TOKEN_HEADER] == token
            if allowed:
                asked.touch()
            self._answer(202 if allowed else 403, {})

        def _answer(self, status: int, body: dict[str, object]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

    Server((settings.control_host, settings.control_http_port), Handler).serve_forever()


def run_shard(_settings: CloudSettings, _number: int) -> None:
    """Waits."""
    threading.Event().wait()


def run_host_agent(settings: CloudSettings, host: HostSettings, ray_node_id: str) -> None:
    """Leaves a line for each life: which process, on which Ray node."""
    with open(settings.log_path / f"{host.name}.lives", "a") as file:
        file.write(f"{os.getpid()} {ray_node_id} {time.time()}\n")
    threading.Event().wait()
