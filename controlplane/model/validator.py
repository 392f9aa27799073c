"""Judges all the resources that may contradict each other or refer to others: services first, then what
rules them, then what routes to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Any, cast

from controlplane.model import claims
from controlplane.model.collisions import PortCollisions
from controlplane.model.conflict_resolver import ConflictResolver
from controlplane.model.conversion import DeclaredService
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.record import Record
from controlplane.model.references import ReferenceCheck
from controlplane.model.service import Service
from controlplane.model.snapshot import Config

# The kinds that are judged together, and anew whenever one of them changes.
VALIDATED_TOGETHER = frozenset(
    {"Service", "ServiceEntry", "DestinationRule", "VirtualService", "Sidecar", "PeerAuthentication"}
)


def validate(records: Callable[[str], Collection[Record]], mesh: MeshConfig, now: str) -> None:
    """Puts in force what may be; ``records`` gives those of a kind, ``now`` is RFC 3339."""
    declarations = [*records("Service"), *records("ServiceEntry")]
    # A cluster's own Services come first, so that no ServiceEntry waits for a host that is to be.
    hosts = ConflictResolver(now, claims.service_claims)
    hosts.settle(records("Service"))
    hosts.settle(records("ServiceEntry"))
    rules = ConflictResolver(now, claims.destination_rule_claims)
    rules.settle(records("DestinationRule"))
    services = list(services_in_force(declarations))
    references = ReferenceCheck(
        services,
        configs_in_force(records("DestinationRule")),
        mesh.root_namespace,
    )
    routes = ConflictResolver(now, claims.virtual_service_claims)
    routes.settle(records("VirtualService"))
    ConflictResolver(now, claims.sidecar_claims).settle(records("Sidecar"))
    ConflictResolver(now, claims.peer_authentication_claims).settle(records("PeerAuthentication"))
    for record in (*records("DestinationRule"), *records("VirtualService")):
        record.warnings = tuple(references.warnings(record.in_force)) if record.in_force else ()
    for record in records("VirtualService"):
        record.unresolved = tuple(references.unresolved(record.in_force)) if record.in_force else ()
    routed = configs_in_force(records("VirtualService"))
    for record in records("Sidecar"):
        found = references.unknown_imports(record.in_force, routed) if record.in_force else ()
        record.warnings = tuple(found)
    collisions = PortCollisions(services)
    for record in declarations:
        declared = services_in_force([record])
        record.warnings = tuple(chain.from_iterable(map(collisions.warnings, declared)))
    # In one order for all replicas, since each may write the status.
    for record, words in sorted(chain(hosts.limits(), rules.limits(), routes.limits()), key=itemgetter(1)):
        record.warnings += (words,)


def services_in_force(records: Iterable[Record]) -> Iterator[Service]:
    for record in records:
        if record.in_force is not None:
            for declared in cast("tuple[DeclaredService, ...]", record.in_force.view):
                yield declared.service


def configs_in_force(records: Iterable[Record]) -> tuple[Config[Any], ...]:
    """Oldest first."""
    views = (cast("Config[Any]", record.in_force.view) for record in records if record.in_force)
    return tuple(sorted(views, key=lambda config: config.order))
