"""Tokens of a test cluster's service accounts: as the API server issues them, or signed by its own key."""

from __future__ import annotations

from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from tests.support.kubernetes_api import KubernetesApi, Resource
from tests.support.kubernetes_cluster import Cluster

AUDIENCE = "outrigger-ca"
ISSUER = "https://kubernetes.default.svc.cluster.local"
API_AUDIENCE = ISSUER


async def request_token(
    api: KubernetesApi,
    namespace: str,
    *,
    audience: str,
    pod: Resource | None = None,
    account: str = "default",
) -> str:
    """A token of one of the namespace's service accounts, bound to the pod if there is one."""
    spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 600}
    if pod is not None:
        metadata = pod["metadata"]
        spec["boundObjectRef"] = {
            "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]
        }  # fmt: skip
    answer = await api.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", {"spec": spec}
    )
    token: str = answer["status"]["token"]
    return token


async def review(api: KubernetesApi, token: str, *, audience: str) -> Resource:
    """The status of a TokenReview."""
    spec = {"token": token, "audiences": [audience]}
    answer = await api.create("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})
    status: Resource = answer["status"]
    return status


def sign_token(cluster: Cluster, account: Resource, *, expires_at: float) -> str:
    """As the API server signs them: `expires_at` is in seconds since the epoch."""
    metadata = account["metadata"]
    claims = {
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
        "exp": int(expires_at),
        "iat": int(expires_at) - 3600,
        "nbf": int(expires_at) - 3600,
        "kubernetes.io": {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        },
    }
    key = ECKey.import_key((cluster.folder / "service-accounts.key").read_bytes())
    return jwt.encode({"alg": "ES256"}, claims, key)
