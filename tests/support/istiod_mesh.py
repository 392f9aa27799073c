"""A cluster whose only control plane is the real istiod.

A stock Envoy lacks Istio's own filters (`istio.stats`, `istio.alpn`, the exchange of metadata), and refuses
listeners with them. So there are two revisions of istiod, as during an upgrade of Istio: `default` is as
Istio installs it, `stock` leaves these filters out. They share the root of the mesh and all resources.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.injected_mesh import PROXY_UID, InjectedMesh, empty_cluster
from tests.support.istiod_binary import ISTIOD
from tests.support.istiod_pods import SDS_IMAGE, SYSTEM_NAMESPACE, istio_token, istiod_name
from tests.support.kubernetes_api import Resource

ISTIOD_IMAGE: Final = "istiod"
REVISIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "stock": {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"},
}
_ROOT: Final = Path(__file__).parents[2]


class IstiodMesh(InjectedMesh):
    def istiod_address(self, revision: str = "default") -> str:
        """The address of the pod."""
        (pod,) = self.pods(SYSTEM_NAMESPACE, f"istio.io/rev={revision}")
        return str(pod["status"]["podIP"])

    def istiod_metrics(self, revision: str) -> str:
        return httpx.get(f"http://{self.istiod_address(revision)}:15014/metrics", trust_env=False).text


@contextmanager
def istiod_mesh() -> Iterator[IstiodMesh]:
    """Returns when both revisions of istiod are ready."""
    proxy = {"user": PROXY_UID}
    images = {
        ISTIOD_IMAGE: {"command": [str(ISTIOD.path)], **proxy},
        SDS_IMAGE: {
            "command": [sys.executable, "-m", "tests.support.istio_sds"],
            "environment": {"PYTHONPATH": str(_ROOT)},
            **proxy,
        },
    }
    with empty_cluster(images) as empty:
        mesh = IstiodMesh(empty.cluster, empty.node)
        crds = subprocess.run([ISTIOD.path, "crds"], check=True, capture_output=True, text=True).stdout
        mesh.kubectl("apply", "--server-side", "--filename", "-", text=crds)
        mesh.kubectl("create", "namespace", SYSTEM_NAMESPACE)
        mesh.apply(*_rights())
        for revision, environment in REVISIONS.items():
            mesh.apply(*_istiod(revision, environment))
            # The first one makes the root of the mesh.
            mesh.rolled_out(SYSTEM_NAMESPACE, f"deployment/{istiod_name(revision)}")
        yield mesh


def _rights() -> list[Resource]:
    account = {"kind": "ServiceAccount", "name": "istiod", "namespace": SYSTEM_NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    return [
        _object("v1", "ServiceAccount", "istiod"),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "istiod"},
            "roleRef": role,
            "subjects": [account],
        },
    ]


def _istiod(revision: str, environment: Mapping[str, str]) -> list[Resource]:
    """As Istio's chart installs it."""
    name, labels = istiod_name(revision), {"app": "istiod", "istio.io/rev": revision}
    metrics = ["prometheus"] if revision == "default" else []
    tracing = {"name": "collector", "opentelemetry": {"service": "app.kinds.svc.cluster.local", "port": 90}}
    mesh = {
        "rootNamespace": SYSTEM_NAMESPACE,
        "defaultProviders": {"metrics": metrics},
        "extensionProviders": [tracing],
    }
    ports = [{"name": "https-dns", "port": 15012}, {"name": "http-monitoring", "port": 15014}]
    variables = {
        **environment,
        "REVISION": revision,
        "PILOT_CERT_PROVIDER": "istiod",
        "CLUSTER_ID": "Kubernetes",
    }
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    container = {
        "name": "discovery",
        "image": ISTIOD_IMAGE,
        "args": ["discovery", "--monitoringAddr=:15014", "--domain=cluster.local"],
        "env": [
            *({"name": key, "value": value} for key, value in variables.items()),
            *({"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()),
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "tokens", "mountPath": "/var/run/secrets/tokens"},
            {"name": "local-certs", "mountPath": "/var/run/secrets/istio-dns"},
        ],
    }
    volumes = [
        {"name": "tokens", "projected": {"sources": [istio_token("istio-token")]}},
        {"name": "local-certs", "emptyDir": {}},
    ]
    pod = {"serviceAccountName": "istiod", "containers": [container], "volumes": volumes}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        _object("v1", "ConfigMap", name.replace("istiod", "istio"), data={"mesh": json.dumps(mesh)}),
        _object("v1", "Service", name, spec={"selector": labels, "ports": ports}),
        _object(
            "apps/v1", "Deployment", name, spec={"selector": {"matchLabels": labels}, "template": template}
        ),
    ]


def _object(api_version: str, kind: str, name: str, **fields: Any) -> Resource:
    metadata = {"name": name, "namespace": SYSTEM_NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
