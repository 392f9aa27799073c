"""A user who may read the debug API from anywhere."""

from __future__ import annotations

from tests.support.kubernetes_api import KubernetesApi
from tests.support.manifests import apply
from tests.support.service_account_tokens import API_AUDIENCE, request_token

_GROUP = "rbac.authorization.k8s.io"


async def debug_reader(api: KubernetesApi, namespace: str) -> str:
    """A token of the namespace's service account `default`, which gets the permission."""
    role = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "outrigger-debug"},
        "rules": [{"nonResourceURLs": ["/debug/*"], "verbs": ["get"]}],
    }
    binding = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"outrigger-debug-{namespace}"},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": "outrigger-debug"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    await apply(api, [role, binding])
    return await request_token(api, namespace, audience=API_AUDIENCE)
