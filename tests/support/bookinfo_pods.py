"""Bookinfo's Deployments for a cluster, their sidecars written into the pod templates by hand.

Nothing redirects traffic: the application names the sidecar as its HTTP proxy, and a Sidecar resource opens
the port that the Service leads to.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from outrigger.installation.chart import Chart
from tests.support.kubernetes_api import Resource
from tests.support.manifests import DEPLOY

NAMESPACE = "bookinfo"
CONTROL_PLANE = "outrigger-controlplane.outrigger-system.svc"
SERVICE_PORT = 9080  # the sidecar's, by the Service
APP_PORT = 9081
HTTP_PROXY_PORT = 15080
METRICS_PORT = 15020
STATUS_PORT = 15021

_BOOTSTRAP = "/etc/outrigger/bootstrap.yaml"
_ROOT = "/var/run/secrets/outrigger/ca/root-cert.pem"
_TOKEN = "/var/run/secrets/outrigger/token/outrigger-token"
_MOUNTS = [
    {"name": "outrigger-bootstrap", "mountPath": "/etc/outrigger"},
    {"name": "outrigger-ca", "mountPath": "/var/run/secrets/outrigger/ca"},
    {"name": "outrigger-token", "mountPath": "/var/run/secrets/outrigger/token"},
]

# Name, service, version, as Bookinfo's own manifests have them.
DEPLOYMENTS = (
    ("productpage-v1", "productpage", "v1"),
    ("details-v1", "details", "v1"),
    ("reviews-v1", "reviews", "v1"),
    ("reviews-v2", "reviews", "v2"),
    ("reviews-v3", "reviews", "v3"),
    ("ratings-v1", "ratings", "v1"),
)


def images() -> Mapping[str, Sequence[str]]:
    """Returns the command lines of the images on this machine."""
    return {
        f"outrigger/controlplane:{Chart().version}": [sys.executable, "-m", "controlplane"],
        "outrigger/sidecar": [sys.executable, "-m", "sidecar"],
        "outrigger/cli": [sys.executable, "-m", "outrigger"],
        "examples/bookinfo": [sys.executable, str(DEPLOY / "examples" / "bookinfo" / "app.py")],
    }


def workloads() -> list[Resource]:
    """Returns ServiceAccounts, Deployments, and the Sidecar resource that opens their ports."""
    services = sorted({service for _, service, _ in DEPLOYMENTS})
    return [
        sidecar_resource(),
        *map(_service_account, services),
        *(deployment(name, service, version) for name, service, version in DEPLOYMENTS),
    ]


def sidecar_resource() -> Resource:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "explicit", "namespace": NAMESPACE},
        "spec": {
            "ingress": [
                {
                    "port": {"number": SERVICE_PORT, "protocol": "HTTP", "name": "http"},
                    "bind": "0.0.0.0",
                    "defaultEndpoint": f"127.0.0.1:{APP_PORT}",
                    "captureMode": "NONE",
                }
            ]
        },
    }


def _service_account(service: str) -> Resource:
    metadata = {"name": f"bookinfo-{service}", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def deployment(name: str, service: str, version: str) -> Resource:
    labels = {"app": service, "version": version}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod(service, version)},
        },
    }


def _pod(service: str, version: str) -> Resource:
    return {
        "serviceAccountName": f"bookinfo-{service}",
        "terminationGracePeriodSeconds": 20,
        "initContainers": [_bootstrap_container(service, version), _sidecar_container()],
        "containers": [_app_container(service, version)],
        "volumes": [
            {"name": "outrigger-bootstrap", "emptyDir": {}},
            {"name": "outrigger-ca", "configMap": {"name": "outrigger-ca-root-cert"}},
            {"name": "outrigger-token", "projected": {"sources": [_token_source()]}},
        ],
    }


def _token_source() -> Resource:
    return {
        "serviceAccountToken": {
            "audience": "outrigger-ca",
            "expirationSeconds": 3600,
            "path": "outrigger-token",
        }
    }


def _bootstrap_container(service: str, version: str) -> Resource:
    """Writes the bootstrap file, which contains the pod's identity and the control plane's address."""
    flags = [
        "--name $(POD_NAME) --namespace $(POD_NAMESPACE) --ip $(POD_IP)",
        f"--service-account bookinfo-{service} --label app={service} --label version={version}",
        f"--xds-address {CONTROL_PLANE}:15012 --ca-cert {_ROOT}",
        f"--interception NONE --http-proxy-port {HTTP_PROXY_PORT}",
    ]
    return {
        "name": "outrigger-bootstrap",
        "image": "outrigger/cli",
        "command": ["sh", "-c", f"outrigger bootstrap {' '.join(flags)} > {_BOOTSTRAP}"],
        "env": [
            _field("POD_NAME", "metadata.name"),
            _field("POD_NAMESPACE", "metadata.namespace"),
            _field("POD_IP", "status.podIP"),
            {"name": "PATH", "value": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        ],
        "volumeMounts": _MOUNTS,
    }


def _sidecar_container() -> Resource:
    """A native sidecar: it is ready before the application starts, and ends after it."""
    ready = {"httpGet": {"path": "/healthz/ready", "port": STATUS_PORT}, "periodSeconds": 1}
    return {
        "name": "outrigger-sidecar",
        "image": "outrigger/sidecar",
        "restartPolicy": "Always",
        "args": [
            f"--config-path={_BOOTSTRAP}",
            "--cache-dir=/var/lib/outrigger",
            f"--ca-address={CONTROL_PLANE}:15012",
            f"--ca-cert={_ROOT}",
            f"--token-file={_TOKEN}",
        ],
        "startupProbe": {**ready, "failureThreshold": 60},
        "readinessProbe": ready,
        "volumeMounts": _MOUNTS,
    }


def _app_container(service: str, version: str) -> Resource:
    return {
        "name": service,
        "image": "examples/bookinfo",
        "args": [service, "--version", version, "--host", "0.0.0.0", "--port", str(APP_PORT)],
        "env": [
            _field("POD_NAME", "metadata.name"),
            {"name": "HTTP_PROXY", "value": f"http://127.0.0.1:{HTTP_PROXY_PORT}"},
        ],
        "readinessProbe": {"tcpSocket": {"port": APP_PORT}, "periodSeconds": 1},
        # It serves requests until its callers know that it stops.
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
    }


def _field(name: str, path: str) -> Resource:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
