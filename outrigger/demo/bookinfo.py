"""The demo's application: its pods, and the YAML that describes them to the control plane."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from outrigger.demo.ports import port_of, reserve_port

NAMESPACE = "bookinfo"
TRUST_DOMAIN = "cluster.local"
SERVICE_PORT = 9080

# The hops between sidecars: the calling service by called service.
CALLERS = {"details": "productpage", "reviews": "productpage", "ratings": "reviews"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """A pod's ports. On one machine, pods have different ports instead of different addresses."""

    app: int
    inbound: int
    outbound: int
    admin: int
    status: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One replica: the processes of an application and its sidecar. `protocol` is the application's, as
    Istio's port names have it."""

    name: str
    service: str
    version: str
    ports: Ports
    protocol: str = "http"

    @property
    def service_account(self) -> str:
        return f"bookinfo-{self.service}"

    @property
    def labels(self) -> dict[str, str]:
        return {"app": self.service, "version": self.version}

    def resources(self) -> str:
        """Returns the pod's WorkloadEntry and Sidecar. The Sidecar has explicit listeners, because the demo
        does not redirect traffic."""
        metadata = {"name": self.name, "namespace": NAMESPACE}
        workload_entry = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": metadata,
            "spec": {
                "address": "127.0.0.1",
                "ports": {self.protocol: self.ports.inbound},
                "labels": {**self.labels, "pod": self.name, "security.istio.io/tlsMode": "istio"},
                "serviceAccount": self.service_account,
            },
        }
        sidecar = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": metadata,
            "spec": {
                "workloadSelector": {"labels": {"pod": self.name}},
                "ingress": [
                    {
                        "port": {
                            "number": self.ports.inbound,
                            "protocol": self.protocol.upper(),
                            "name": self.protocol,
                        },
                        "bind": "127.0.0.1",
                        "defaultEndpoint": f"127.0.0.1:{self.ports.app}",
                        "captureMode": "NONE",
                    }
                ],
            },
        }
        return yaml.safe_dump_all([workload_entry, sidecar], sort_keys=False)


def principal(service: str) -> str:
    """Returns the SPIFFE id of a service's pods."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/bookinfo-{service}"


def pods(*, ratings_protocol: str = "http") -> list[Pod]:
    """Returns the seven pods with free ports."""
    replicas = [
        ("productpage-v1", "productpage", "v1"),
        ("details-v1", "details", "v1"),
        ("reviews-v1-a", "reviews", "v1"),
        ("reviews-v1-b", "reviews", "v1"),
        ("reviews-v2", "reviews", "v2"),
        ("reviews-v3", "reviews", "v3"),
        ("ratings-v1", "ratings", "v1"),
    ]
    return [
        Pod(
            name=name,
            service=service,
            version=version,
            ports=ports,
            protocol=ratings_protocol if service == "ratings" else "http",
        )
        for (name, service, version), ports in zip(replicas, pod_ports(len(replicas)), strict=True)
    ]


def pod_ports(count: int) -> list[Ports]:
    """Returns free ports for ``count`` pods."""
    names = [field.name for field in fields(Ports)]
    numbers = iter(free_ports(count * len(names)))
    return [Ports(**{name: next(numbers) for name in names}) for _ in range(count)]


def free_ports(count: int) -> list[int]:
    """Returns distinct TCP ports of 127.0.0.1 that are reserved until this process ends."""
    return [port_of(reserve_port()) for _ in range(count)]


def examples() -> Path:
    """Returns the folder of the example files. Raises `FileNotFoundError` outside a checkout."""
    folder = Path(__file__).resolve().parents[2] / "deploy" / "examples" / "bookinfo"
    if not (folder / "app.py").is_file():
        raise FileNotFoundError(f"{folder} is missing: run the demo from a checkout of the project")
    return folder
