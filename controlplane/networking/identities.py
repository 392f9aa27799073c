"""The SPIFFE ids that a service's endpoints may have."""

from __future__ import annotations

from controlplane.model.service import Service, ServiceEndpoint
from controlplane.networking.build_cache import BuildCache, cached
from protos.spiffe import SpiffeId
from protos.type_urls import CLUSTER


@cached(latest=("endpoints",), types=[CLUSTER])
def server_identities(
    cache: BuildCache, service: Service, trust_domain: str, *, endpoints: tuple[ServiceEndpoint, ...]
) -> frozenset[str]:
    """The ids of the endpoints' service accounts, and those in the ServiceEntry (``subjectAltNames``)."""
    del cache
    accounts = {(endpoint.workload.namespace, endpoint.workload.service_account) for endpoint in endpoints}
    ids = (_spiffe_id(trust_domain, namespace, account) for namespace, account in accounts)
    return frozenset(service.subject_alt_names).union(each for each in ids if each)


def _spiffe_id(trust_domain: str, namespace: str, account: str) -> str:
    """ "" for an account that no certificate can have."""
    try:
        return str(SpiffeId(trust_domain, namespace, account))
    except ValueError:
        return ""
