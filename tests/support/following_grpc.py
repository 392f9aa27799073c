"""gRPC's own xDS client as a follower of the control plane, without any proxy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import grpc_caller
from tests.support.control_plane import RunningControlPlane
from tests.support.processes import Child, child


@contextmanager
def following_grpc_client(
    plane: RunningControlPlane, work_dir: Path, workload: str, target: str, *, namespace: str = "default"
) -> Iterator[Child]:
    """Calls ``target``, HOST:PORT, all the time until the block ends; see `grpc_caller` for its output."""
    server = {
        "server_uri": plane.xds,
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    node = f"sidecar~127.0.0.1~{workload}.{namespace}~{namespace}.svc.cluster.local"
    config = json.dumps({"xds_servers": [server], "node": {"id": node}})
    command = [sys.executable, grpc_caller.__file__, f"xds:///{target}"]
    with child(command, work_dir / f"{workload}.log", {"GRPC_XDS_BOOTSTRAP_CONFIG": config}) as caller:
        yield caller
