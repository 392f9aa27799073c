"""`make bench-smoke`: the sidecar's CPU and memory for each request, compared with Envoy's, in one run.

Both proxies start from the same static bootstrap file (ports apart) with one worker, and take turns under
the same load, so that other load of the machine affects both. The ratio counts, not the microseconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.bench.load import send
from tests.support.envoy import envoy_command
from tests.support.processes import Child, child, free_port

ROUNDS = 5
ROUND_S = 3.0
CONNECTIONS = 32
HOSTS = 3


def bootstrap(listener_port: int, admin_port: int, upstream_port: int) -> dict[str, Any]:
    """An HTTP listener with a few routes to a cluster of three hosts."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
        "route_config": {
            "name": "bench",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"path": "/healthz"}, "direct_response": {"status": 200}},
                        {"match": {"prefix": "/admin"}, "route": {"cluster": "upstream"}},
                        {
                            "match": {"prefix": "/"},
                            "route": {
                                "cluster": "upstream",
                                "timeout": "15s",
                                "retry_policy": {"retry_on": "5xx,connect-failure", "num_retries": 2},
                            },
                        },
                    ],
                }
            ],
        },
    }
    endpoint = {"endpoint": {"address": _address(upstream_port)}}
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "bench",
                    "address": _address(listener_port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "upstream",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "lb_policy": "LEAST_REQUEST",
                    "outlier_detection": {"consecutive_5xx": 5},
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [{"lb_endpoints": [endpoint] * HOSTS}],
                    },
                }
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Proxy:
    """One of the two under measurement; `us_per_request` gathers a figure per round."""

    def __init__(self, name: str, process: Child, port: int) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.us_per_request: list[float] = []
        self.requests_per_s: list[float] = []

    def measure(self) -> None:
        before_s = self.process.cpu_s()
        requests = send(self.port, connections=CONNECTIONS, seconds=ROUND_S)
        self.us_per_request.append((self.process.cpu_s() - before_s) / requests * 1e6)
        self.requests_per_s.append(requests / ROUND_S)

    def report(self) -> None:
        print(
            f"  {self.name:10} {statistics.median(self.us_per_request):6.1f} us CPU a request "
            f"(min {min(self.us_per_request):.1f}, max {max(self.us_per_request):.1f}), "
            f"{statistics.median(self.requests_per_s):7.0f} requests/s, "
            f"{self.process.resident_bytes() / 2**20:5.0f} MiB resident"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        upstream = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream"], stdout=subprocess.PIPE)
        try:
            assert upstream.stdout is not None
            compare(run_dir, int(upstream.stdout.readline()))
        finally:
            upstream.terminate()
            upstream.communicate()


def compare(run_dir: Path, upstream_port: int) -> None:
    ports, files = [], []
    for name in ("envoy", "sidecar"):
        ports.append(free_port())
        files.append(run_dir / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(bootstrap(ports[-1], free_port(), upstream_port)))
    sidecar_command = [sys.executable, "-m", "sidecar", "--config-path", str(files[1])]
    sidecar_command += ["--status-port", str(free_port()), "--metrics-port", str(free_port())]
    with (
        child(envoy_command(files[0]), run_dir / "envoy.log") as envoy,
        child(sidecar_command, run_dir / "sidecar.log") as sidecar,
    ):
        envoy.wait_for_port(ports[0])
        sidecar.wait_for_port(ports[1])
        proxies = [Proxy("Envoy", envoy, ports[0]), Proxy("Outrigger", sidecar, ports[1])]
        for proxy in proxies:
            send(proxy.port, connections=CONNECTIONS, seconds=1)  # warm
        print(f"HTTP/1.1, {CONNECTIONS} connections, 12 headers, {ROUNDS} rounds of {ROUND_S:g} s each:")
        for _ in range(ROUNDS):
            for proxy in proxies:
                proxy.measure()
        for proxy in proxies:
            proxy.report()
        pairs = zip(proxies[1].us_per_request, proxies[0].us_per_request, strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"  Outrigger's CPU a request is {ratio:.2f} times Envoy's (median of the pairs)")


if __name__ == "__main__":
    main()
