from __future__ import annotations

from datetime import UTC, datetime

from tests.support.kubernetes_api import KubernetesApi, Resource
from tests.support.node_agent.tokens import PodTokens

POD = {
    "metadata": {"name": "web-0", "namespace": "shop", "uid": "u"},
    "spec": {"serviceAccountName": "web"},
}
START_S = 1_700_000_000.0


class Issuer(KubernetesApi):
    """Numbers the tokens, and grants the lifetime that is asked for, from its clock's time on."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.requests: list[tuple[str, Resource]] = []

    async def create(self, path: str, body: Resource) -> Resource:
        self.requests.append((path, body["spec"]))
        expires = datetime.fromtimestamp(self.now_s + body["spec"]["expirationSeconds"], UTC)
        expiry = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"status": {"token": f"t{len(self.requests)}", "expirationTimestamp": expiry}}


async def test_a_token_is_renewed_at_four_fifths_of_its_life() -> None:
    issuer = Issuer()
    tokens = PodTokens(issuer, POD, lambda: issuer.now_s)
    assert await tokens.token("ca", 600) == "t1"
    issuer.now_s = START_S + 479
    assert await tokens.token("ca", 600) == "t1"
    issuer.now_s = START_S + 480
    assert await tokens.token("ca", 600) == "t2"
    assert await tokens.token("ca", 600) == "t2"


async def test_a_token_is_the_pods_own_and_for_one_audience() -> None:
    issuer = Issuer()
    tokens = PodTokens(issuer, POD, lambda: issuer.now_s)
    assert await tokens.token("ca", 600) != await tokens.token("", 600)
    (path, for_ca), (_, for_api) = issuer.requests
    assert path == "/api/v1/namespaces/shop/serviceaccounts/web/token"
    assert for_ca["audiences"] == ["ca"]
    assert "audiences" not in for_api  # the API server's own
    assert for_ca["boundObjectRef"] == {"kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": "u"}
