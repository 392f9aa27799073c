"""The connections that a workload accepts on a port: the effective mode of its PeerAuthentications."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import ServiceEndpoint
from controlplane.model.snapshot import Config
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.resources.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER


class PeerAuthentications:
    """All policies of the mesh, by namespace; ``policies`` are sorted, the oldest first."""

    def __init__(self, policies: Iterable[Config[PeerAuthentication]], root_namespace: str) -> None:
        self._root_namespace: Final = root_namespace
        # The older of two for the same workloads counts.
        self._by_namespace: Final[dict[str, list[PeerAuthentication]]] = defaultdict(list)
        for policy in policies:
            self._by_namespace[policy.key.namespace].append(policy.spec)

    def mode(self, namespace: str, labels: Mapping[str, str], port: int | None) -> MutualTLSMode:
        """Returns the mode of the nearest level that sets one (port, workload, namespace, mesh), or
        PERMISSIVE.

        ``port`` is the workload's own number; None asks for the ports that no policy names.
        """
        in_namespace = self._by_namespace.get(namespace, ())
        workload = self._for_workload(namespace, labels)
        levels = [
            workload.port_level_mtls.get(port) if workload and port is not None else None,
            workload.mtls if workload else None,
            _of_whole_namespace(in_namespace),
            _of_whole_namespace(self._by_namespace.get(self._root_namespace, ())),
        ]
        modes = (level.mode for level in levels if level)
        return next((mode for mode in modes if mode is not MutualTLSMode.UNSET), MutualTLSMode.PERMISSIVE)

    def ports_with_own_mode(self, namespace: str, labels: Mapping[str, str]) -> tuple[int, ...]:
        """The ports that the workload's policy names one by one."""
        workload = self._for_workload(namespace, labels)
        return tuple(sorted(workload.port_level_mtls)) if workload else ()

    def accept_mesh_tls(self, endpoint: ServiceEndpoint) -> bool:
        """Whether the endpoint has a sidecar, and no policy of its workload disables TLS."""
        workload = endpoint.workload
        return workload.mesh_tls and (
            self.mode(workload.namespace, workload.labels, endpoint.port) is not MutualTLSMode.DISABLE
        )

    def _for_workload(self, namespace: str, labels: Mapping[str, str]) -> PeerAuthentication | None:
        in_namespace = self._by_namespace.get(namespace, ())
        return next((policy for policy in in_namespace if _selects(policy, labels)), None)


# The builders of each of these types ask for it.
@cached(types=[CLUSTER, ENDPOINT, LISTENER])
def peer_authentications(
    cache: BuildCache, policies: tuple[Config[PeerAuthentication], ...], root_namespace: str
) -> PeerAuthentications:
    """The same object for as long as the policies are the same."""
    del cache
    return PeerAuthentications(policies, root_namespace)


def covers_workload(
    policy: PeerAuthentication,
    owner: str,
    mesh_config: MeshConfig,
    namespace: str,
    labels: Mapping[str, str],
) -> bool:
    """Whether a policy of the namespace ``owner`` is at a level that applies to a workload."""
    if policy.selector and policy.selector.match_labels:
        return owner == namespace and _selects(policy, labels)
    return owner in (namespace, mesh_config.root_namespace)


def _selects(policy: PeerAuthentication, labels: Mapping[str, str]) -> bool:
    wanted = policy.selector.match_labels if policy.selector else {}
    return bool(wanted) and wanted.items() <= labels.items()


def _of_whole_namespace(policies: Iterable[PeerAuthentication]) -> MutualTLS | None:
    return next(
        (policy.mtls for policy in policies if not (policy.selector and policy.selector.match_labels)),
        None,
    )
