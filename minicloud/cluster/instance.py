"""The Ray actor that is an instance: it holds the resources of its type on exactly one host, and the guest's life.

Detached and never restarted by Ray: a second life is a new generation, and that is the control plane's decision. The
constructor only starts the thread that does everything (minicloud.cluster.instance_loop); the actor answers no calls of
ours, its guest reports over the host agent's socket. The process ends itself when it is over, which gives its resources
back to Ray at once.
"""

from __future__ import annotations

import os
import threading
import traceback

import ray

from minicloud.cluster.instance_loop import InstanceLoop


class InstanceActor:
    """Arguments are tiny on purpose: they travel through the GCS; the plan comes from the host agent.

    The launcher makes it a Ray class: done here it would be done again in every actor's process, on the launch path.
    """

    def __init__(self, instance_id: str, generation: int, agent_socket: str, secret: str) -> None:
        gpu_ids = tuple(str(gpu) for gpu in ray.get_gpu_ids())
        loop = InstanceLoop(instance_id, generation, agent_socket, secret, gpu_ids)
        threading.Thread(target=_run, args=(loop,), name="instance", daemon=True).start()


def _run(loop: InstanceLoop) -> None:
    """The guest dies with this thread, so the process must not outlive it."""
    status = 1
    try:
        status = loop.run()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)
