"""Istio's ``PeerAuthentication``: whether workloads accept mutual TLS, plaintext or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from controlplane.kinds.kind import Kind, Traces, Viewers
from controlplane.model.claim import Claim, namespace_wide
from controlplane.model.kind import policy
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import Config
from controlplane.networking.peer_authentication import covers_workload
from controlplane.resources.kind import ISTIO_SECURITY
from controlplane.resources.peer_authentication import PeerAuthentication
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER

_Config = Config[PeerAuthentication]


def _claims(config: _Config) -> Iterator[Claim]:
    """A policy without a selector claims its namespace, which can have only one."""
    selector = config.spec.selector
    if not (selector and selector.match_labels):
        yield namespace_wide("PeerAuthentication", config.key.namespace, "spec.selector")


def _affected(config: _Config, viewers: Viewers) -> Sequence[ProxyProgress]:
    """The proxies of the workloads that the policy selects."""
    scope, owner = viewers.scope, config.key.namespace
    return [
        each
        for each in viewers.proxies
        if covers_workload(config.spec, owner, scope.mesh_config, scope.namespace, each.proxy.labels)
    ]


def _traces(_: _Config, __: Viewers) -> Traces:
    return Traces(types=frozenset({"lds"}))


PEER_AUTHENTICATION: Final[Kind[PeerAuthentication, _Config]] = Kind(
    name="PeerAuthentication",
    spec=PeerAuthentication,
    api_versions=ISTIO_SECURITY,
    plural="peerauthentications",
    short_names=("pa",),
    columns={"Mode": ".spec.mtls.mode"},
    view=policy(),
    claims=_claims,
    # Clients send plaintext to a port that refuses mesh TLS. The endpoint tells them, or the cluster if it
    # has no load balancing.
    touches=frozenset({CLUSTER, ENDPOINT, LISTENER}),
    affected=_affected,
    traces=_traces,
)
