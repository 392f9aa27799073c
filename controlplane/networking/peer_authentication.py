"""Which connections a workload takes in on a port: the effective mode of its PeerAuthentications."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Workload
from controlplane.model.snapshot import Config
from controlplane.networking.memo import memoized
from controlplane.resources.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from protos.type_urls import ENDPOINT, LISTENER

Policies = tuple[Config[PeerAuthentication], ...]


def mutual_tls_mode(
    policies: Policies,
    mesh_config: MeshConfig,
    namespace: str,
    labels: Mapping[str, str],
    port: int | None,
) -> MutualTLSMode:
    """The nearest level that sets a mode: port, workload, namespace, mesh; none does: PERMISSIVE.

    ``port`` is the workload's own number; None asks for ports that no policy names.
    """
    by_namespace = _by_namespace(policies)
    in_namespace = by_namespace.get(namespace, ())
    workload = next((policy for policy in in_namespace if _selects(policy, labels)), None)
    levels = [
        workload.port_level_mtls.get(port) if workload and port is not None else None,
        workload.mtls if workload else None,
        _of_whole_namespace(in_namespace),
        _of_whole_namespace(by_namespace.get(mesh_config.root_namespace, ())),
    ]
    modes = (level.mode for level in levels if level)
    return next((mode for mode in modes if mode is not MutualTLSMode.UNSET), MutualTLSMode.PERMISSIVE)


def ports_with_own_mode(policies: Policies, namespace: str, labels: Mapping[str, str]) -> tuple[int, ...]:
    """The ports that the workload's policy names one by one."""
    in_namespace = _by_namespace(policies).get(namespace, ())
    workload = next((policy for policy in in_namespace if _selects(policy, labels)), None)
    return tuple(sorted(workload.port_level_mtls)) if workload else ()


def covers_workload(
    policy: PeerAuthentication,
    owner: str,
    mesh_config: MeshConfig,
    namespace: str,
    labels: Mapping[str, str],
) -> bool:
    """Whether a policy of the namespace ``owner`` is at one of the levels that count for a workload."""
    if policy.selector and policy.selector.match_labels:
        return owner == namespace and _selects(policy, labels)
    return owner in (namespace, mesh_config.root_namespace)


def refuses_mesh_tls(policies: Policies, mesh_config: MeshConfig, workload: Workload, port: int) -> bool:
    mode = mutual_tls_mode(policies, mesh_config, workload.namespace, workload.labels, port)
    return mode is MutualTLSMode.DISABLE


@memoized(types=[ENDPOINT, LISTENER])
def _by_namespace(policies: Policies) -> Mapping[str, tuple[PeerAuthentication, ...]]:
    """Oldest first, as they come: the older of two for the same workloads counts."""
    found: dict[str, list[PeerAuthentication]] = defaultdict(list)
    for policy in policies:
        found[policy.key.namespace].append(policy.spec)
    return {namespace: tuple(specs) for namespace, specs in found.items()}


def _selects(policy: PeerAuthentication, labels: Mapping[str, str]) -> bool:
    wanted = policy.selector.match_labels if policy.selector else {}
    return bool(wanted) and wanted.items() <= labels.items()


def _of_whole_namespace(policies: tuple[PeerAuthentication, ...]) -> MutualTLS | None:
    return next(
        (policy.mtls for policy in policies if not (policy.selector and policy.selector.match_labels)),
        None,
    )
