"""As ``workers.py``, whose flags it takes, on a Ray cluster of two nodes on this machine.

    python benchmarks/workers/ray_nodes.py --workers 8 --measure-ms 15 --studies 18 --trials 60

Each node pretends to have four GPUs, and a core for each worker. Needs the extra ``ray``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

_NODE = {"num_cpus": 4, "num_gpus": 4, "object_store_memory": 100 << 20}


def main() -> int:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args=_NODE)
    cluster.add_node(**_NODE)
    script = Path(__file__).with_name("workers.py")
    words = [sys.executable, str(script), *sys.argv[1:], "--ray-address", cluster.address]
    try:
        return subprocess.run(words, check=False).returncode
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
