"""The workload of this sidecar: its labels in metrics, its SPIFFE id, and the certificate that proves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protos import node
from protos.spiffe import SpiffeId
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.cluster import ClusterConfig
from sidecar.errors import BootstrapError, IdentityRefusedError
from sidecar.grpc.call_stats import ClusterCalls, OwnCalls
from sidecar.identity.rotation import SvidRotation
from sidecar.identity.svid import Svid
from sidecar.observability.request_metrics import LocalWorkload
from sidecar.signing import SigningClient, ca_socket_address, token_from_file


def spiffe_id(settings: Settings, bootstrap: Bootstrap) -> SpiffeId:
    """The identity that the token should prove. Raises `BootstrapError`."""
    metadata = bootstrap.node_metadata
    try:
        return SpiffeId(
            settings.trust_domain,
            str(metadata.get(node.NAMESPACE, "")),
            str(metadata.get(node.SERVICE_ACCOUNT, "")),
        )
    except ValueError as error:
        raise BootstrapError(
            f"node.metadata: a certificate needs a namespace and a service account: {error}"
        ) from error


def local_workload(settings: Settings, bootstrap: Bootstrap) -> LocalWorkload:
    """The labels of this workload in metrics. Raises `BootstrapError`."""
    metadata = bootstrap.node_metadata
    given = metadata.get(node.LABELS)
    labels = given if isinstance(given, Mapping) else {}
    known = {
        "name": metadata.get(node.WORKLOAD_NAME),
        "namespace": metadata.get(node.NAMESPACE),
        "app": labels.get("service.istio.io/canonical-name") or labels.get("app"),
        "version": labels.get("service.istio.io/canonical-revision") or labels.get("version"),
        "cluster": metadata.get(node.CLUSTER_ID),
        "principal": spiffe_id(settings, bootstrap) if settings.ca_address else None,
    }
    return LocalWorkload(**{name: str(value) for name, value in known.items() if value})


def token_reader(settings: Settings) -> Callable[[], str] | None:
    """Reads the token of this workload, each time again; None without a token."""
    if settings.token_file is not None:
        file = settings.token_file
        return lambda: token_from_file(file)
    return (lambda: settings.token) if settings.token else None


def svid_rotation(
    settings: Settings,
    bootstrap: Bootstrap,
    use_svid: Callable[[Svid], None],
    own_calls: OwnCalls | None = None,
) -> SvidRotation | None:
    """Renews the workload's certificate; None without a CA address. ``own_calls`` counts the calls of the CA,
    if a static cluster leads to it. Raises `BootstrapError`."""
    if not settings.ca_address:
        return None
    if settings.ca_cert is None:
        raise BootstrapError("--ca-address needs --ca-cert, the roots of the CA")
    token = token_reader(settings)
    if token is None:
        raise BootstrapError("--ca-address needs --token-file, or OUTRIGGER_TOKEN")
    cluster = ca_cluster(settings.ca_address, bootstrap)
    signer = SigningClient(
        address=settings.ca_address,
        root_certificate_file=settings.ca_cert,
        token=token,
        lifetime_s=settings.certificate_lifetime_s,
        provider=settings.ca_provider,
        cluster_id=str(bootstrap.node_metadata.get(node.CLUSTER_ID, "")),
        cluster=cluster,
        calls=own_calls.to(cluster.name) if own_calls is not None and cluster is not None else ClusterCalls(),
    )
    return SvidRotation(signer, spiffe_id(settings, bootstrap), use_svid)


def ca_cluster(ca_address: str, bootstrap: Bootstrap) -> ClusterConfig | None:
    """The static cluster that has an endpoint at the address of the CA; its other endpoints are replicas.
    None without one, and for an invalid address, which the first call refuses."""
    try:
        address = ca_socket_address(ca_address)
    except IdentityRefusedError:
        return None
    for cluster in bootstrap.static.clusters.values():
        assignment = cluster.load_assignment
        if assignment is not None and any(endpoint.address == address for endpoint in assignment.endpoints):
            return cluster
    return None
