"""The kinds that the control plane reads. A new kind needs its file and a line here.

The order is that of validation: a Service comes before a ServiceEntry that claims its host.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.kinds.destination_rule import DESTINATION_RULE
from controlplane.kinds.kind import Kind
from controlplane.kinds.namespace import NAMESPACE
from controlplane.kinds.peer_authentication import PEER_AUTHENTICATION
from controlplane.kinds.service import SERVICE
from controlplane.kinds.service_entry import SERVICE_ENTRY
from controlplane.kinds.sidecar import SIDECAR
from controlplane.kinds.virtual_service import VIRTUAL_SERVICE
from controlplane.kinds.workload_entry import WORKLOAD_ENTRY
from controlplane.resources.kind_registry import KindRegistry

KINDS: Final[KindRegistry[Kind[Any, Any]]] = KindRegistry(
    (
        NAMESPACE,
        SERVICE,
        VIRTUAL_SERVICE,
        DESTINATION_RULE,
        SERVICE_ENTRY,
        WORKLOAD_ENTRY,
        SIDECAR,
        PEER_AUTHENTICATION,
    )
)
