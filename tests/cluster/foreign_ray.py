"""Somebody else's Ray cluster, for tests that join one: one node, no dashboard; ends when stdin does.

python foreign_ray.py        prints its address once it is up
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    store = 80 * 2**20
    head = {"num_cpus": 1, "memory": 2**30, "object_store_memory": store, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
