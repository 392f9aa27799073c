"""A pod's own service account tokens, by TokenRequest, each renewed before it expires."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tests.support.kubernetes_api import KubernetesApi, Resource
from tests.support.node_agent.objects import patiently

RENEWED_AT = 0.8  # of its life, as the kubelet does


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Times are seconds since the epoch."""

    value: str
    issued_at_s: float
    expires_at_s: float

    def is_due(self, now_s: float) -> bool:
        return now_s >= self.issued_at_s + RENEWED_AT * (self.expires_at_s - self.issued_at_s)


class PodTokens:
    """Bound to the pod: they end with it."""

    def __init__(self, api: KubernetesApi, pod: Resource, clock: Callable[[], float]) -> None:
        self._api = api
        self._pod = pod["metadata"]
        account = pod["spec"].get("serviceAccountName", "default")
        self._path = f"/api/v1/namespaces/{self._pod['namespace']}/serviceaccounts/{account}/token"
        self._clock = clock
        self._tokens: dict[tuple[str, int], Token] = {}

    async def token(self, audience: str, lifetime_s: int) -> str:
        """For the audience, or for the API server where it is empty. Raises KubernetesError."""
        kept = self._tokens.get((audience, lifetime_s))
        if kept is None or kept.is_due(self._clock()):
            kept = self._tokens[audience, lifetime_s] = await self._request(audience, lifetime_s)
        return kept.value

    async def _request(self, audience: str, lifetime_s: int) -> Token:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": self._pod["name"], "uid": self._pod["uid"]}
        spec: Resource = {"expirationSeconds": lifetime_s, "boundObjectRef": bound}
        if audience:
            spec["audiences"] = [audience]
        issued_at_s = self._clock()
        status = (await patiently(lambda: self._api.create(self._path, {"spec": spec})))["status"]
        return Token(
            value=status["token"],
            issued_at_s=issued_at_s,
            expires_at_s=datetime.fromisoformat(status["expirationTimestamp"]).timestamp(),
        )
