"""Istio's ``Sidecar``: the imports of the proxies of a namespace, and the listeners of their workloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from controlplane.kinds.declared_services import undeclared_protocol
from controlplane.kinds.kind import ALL_TYPES, Kind, Traces, Viewers
from controlplane.model.claim import Claim, namespace_wide
from controlplane.model.in_force import Findings, InForce
from controlplane.model.kind import HostResolver, policy
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import Config
from controlplane.resources.kind import ISTIO_NETWORKING
from controlplane.resources.sidecar import IstioEgressListener, Sidecar
from protos.type_urls import PUSH_ORDER

_Config = Config[Sidecar]


def _qualify(spec: Sidecar, resolve: HostResolver) -> Sidecar:
    return spec.model_copy(update={"egress": tuple(_qualify_egress(each, resolve) for each in spec.egress)})


def _qualify_egress(listener: IstioEgressListener, resolve: HostResolver) -> IstioEgressListener:
    split = (host.split("/", 1) for host in listener.hosts)
    hosts = tuple(f"{namespace}/{resolve(host)}" for namespace, host in split)
    return listener.model_copy(update={"hosts": hosts})


def _warnings(spec: Sidecar) -> Iterator[str]:
    for index, listener in enumerate(spec.ingress):
        path, port = f"spec.ingress[{index}].port", listener.port
        yield from undeclared_protocol(path, port.name, "protocol", port.protocol, port.number)


def _claims(config: _Config) -> Iterator[Claim]:
    """A Sidecar without a selector claims its namespace, which can have only one."""
    selector = config.spec.workload_selector
    if not (selector and selector.labels):
        yield namespace_wide("Sidecar", config.key.namespace, "spec.workloadSelector")


def _references(config: _Config, in_force: InForce) -> Findings:
    return Findings(warnings=tuple(_unknown_imports(config, in_force)))


def _unknown_imports(config: _Config, in_force: InForce) -> Iterator[str]:
    """Finds imported hosts that no service and no VirtualService of the namespace has."""
    for number, listener in enumerate(config.spec.egress):
        for index, each in enumerate(listener.hosts):
            owner, _, host = each.partition("/")
            owners = in_force.owners_by_host.get(host, set())
            wanted = config.key.namespace if owner == "." else owner
            if "*" not in host and owner != "~" and not (owners if owner == "*" else wanted in owners):
                yield f"spec.egress[{number}].hosts[{index}]: no service in it has the host {host}"


def _affected(config: _Config, viewers: Viewers) -> Sequence[ProxyProgress]:
    """The proxies that the Sidecar covers."""
    return viewers.all_if(viewers.sidecar is config.spec)


def _traces(_: _Config, __: Viewers) -> Traces:
    return Traces(types=ALL_TYPES)


SIDECAR: Final[Kind[Sidecar, _Config]] = Kind(
    name="Sidecar",
    spec=Sidecar,
    api_versions=ISTIO_NETWORKING,
    plural="sidecars",
    view=policy(_qualify),
    warnings=_warnings,
    claims=_claims,
    references=_references,
    # Endpoints too: the new version may import another declaration of the same host.
    touches=frozenset(PUSH_ORDER),
    affected=_affected,
    traces=_traces,
)
