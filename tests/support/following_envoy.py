"""The real Envoy as a proxy of the mesh: started with what `outrigger bootstrap` prints, and asked what it
has made of what it was sent."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.control_plane import RunningControlPlane, create_token, outrigger
from tests.support.envoy import envoy_command
from tests.support.json_api import get_json
from tests.support.processes import Child, child, free_port

# Envoy asks every operator for a limit of connections; that is no matter of what it was sent.
_ABOUT_THE_OPERATOR = "no configured limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowingEnvoy:
    """``http_proxy_port`` takes ``GET http://reviews:9080/``, as clients ask their HTTP proxy."""

    process: Child
    admin_port: int
    http_proxy_port: int

    def admin_json(self, path: str) -> Any:
        return get_json(f"127.0.0.1:{self.admin_port}", path)

    def stats(self, pattern: str) -> dict[str, int]:
        """The counters and gauges whose names match a regular expression."""
        listed = self.admin_json(f"/stats?format=json&filter={pattern}")["stats"]
        return {each["name"]: each["value"] for each in listed if "name" in each}

    def complaints(self) -> list[str]:
        """What it has warned of since it was started."""
        return [line for line in self.process.output.splitlines() if _ABOUT_THE_OPERATOR not in line]

    def in_force(self) -> dict[str, set[str]]:
        """The names of what it serves by now, of what it was sent, by ``cds``, ``eds``, ``lds``, ``rds``."""
        return names_of_dump(self.admin_json("/config_dump?include_eds"))


def names_of_dump(dump: dict[str, Any]) -> dict[str, set[str]]:
    """The names of the resources in an Envoy's configuration dump that came over xDS, and are active."""
    sections = {section["@type"].rpartition(".")[2]: section for section in dump["configs"]}
    clusters = sections["ClustersConfigDump"].get("dynamic_active_clusters", ())
    endpoints = sections["EndpointsConfigDump"].get("dynamic_endpoint_configs", ())
    listeners = sections["ListenersConfigDump"].get("dynamic_listeners", ())
    routes = sections["RoutesConfigDump"].get("dynamic_route_configs", ())
    return {
        "cds": {each["cluster"]["name"] for each in clusters},
        "eds": {each["endpoint_config"]["cluster_name"] for each in endpoints},
        "lds": {each["name"] for each in listeners if "active_state" in each},
        "rds": {each["route_config"]["name"] for each in routes},
    }


def identity(plane: RunningControlPlane, folder: Path, namespace: str, service_account: str) -> Path:
    """A folder with a certificate from the control plane, and the ``token`` that it was asked for with."""
    folder.mkdir()
    token = folder / "token"
    token.write_text(create_token(plane.state_dir, namespace, service_account))
    arguments = ["--ca-address", plane.xds_tls, "--ca-cert", plane.root_certificate, "--token-file", token]
    requested = outrigger("certificate", "request", *arguments, "--out", folder)
    assert requested.returncode == 0, requested.stderr
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedBootstrap:
    """The file that `outrigger bootstrap` printed, and the ports that it names."""

    path: Path
    admin_port: int
    http_proxy_port: int


def printed_bootstrap(
    plane: RunningControlPlane,
    identity_dir: Path,
    workload: str,
    *options: str | Path,
    namespace: str = "default",
) -> PrintedBootstrap:
    """``identity_dir`` is what `identity` returned; the file is put there. ``options`` are more of `outrigger
    bootstrap`; by default the proxy follows in plaintext, captures nothing, and is delta."""
    admin_port, http_proxy_port = free_port(), free_port()
    node = f"sidecar~127.0.0.1~{workload}.{namespace}~{namespace}.svc.cluster.local"
    arguments: list[str | Path] = ["--node", node, "--xds-address", plane.xds, "--interception", "NONE"]
    arguments += ["--identity-dir", identity_dir, "--admin-port", str(admin_port)]
    arguments += ["--http-proxy-port", str(http_proxy_port), *options]
    printed = outrigger("bootstrap", *arguments)
    assert printed.returncode == 0, printed.stderr
    path = identity_dir / f"{workload}.yaml"
    path.write_text(printed.stdout)
    return PrintedBootstrap(path=path, admin_port=admin_port, http_proxy_port=http_proxy_port)


@contextmanager
def following_envoy(
    plane: RunningControlPlane,
    identity_dir: Path,
    workload: str,
    *options: str | Path,
    namespace: str = "default",
) -> Iterator[FollowingEnvoy]:
    """Runs until the block ends; once it is entered, Envoy has acknowledged everything. The arguments are
    those of `printed_bootstrap`."""
    bootstrap = printed_bootstrap(plane, identity_dir, workload, *options, namespace=namespace)
    with child(envoy_command(bootstrap.path), bootstrap.path.with_suffix(".log")) as process:
        process.wait_for(lambda: plane.synced(workload), "everything is acknowledged")
        process.wait_for_port(bootstrap.http_proxy_port)
        yield FollowingEnvoy(
            process=process, admin_port=bootstrap.admin_port, http_proxy_port=bootstrap.http_proxy_port
        )


class ProxyClient:
    """A client with one connection to its HTTP proxy."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def get(self, url: str, body: bytes | None = None) -> tuple[int, Any]:
        """The status, and the body, which is a `tests.support.backends` answer if it is JSON."""
        self._connection.request("GET", url, body)
        response = self._connection.getresponse()
        answer = response.read()
        is_json = response.getheader("content-type") == "application/json"
        return response.status, json.loads(answer) if is_json else answer.decode()

    def version(self, url: str) -> str:
        """Which backend answered. Fails unless the request succeeded."""
        status, answer = self.get(url)
        assert status == 200, (status, answer)
        return str(answer["version"])

    def close(self) -> None:
        self._connection.close()


@contextmanager
def proxy_client(port: int) -> Iterator[ProxyClient]:
    with closing(ProxyClient(port)) as client:
        yield client
