"""A resource as the model holds it: converted, with fully qualified host names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controlplane.model.service import Service, Workload
from controlplane.model.snapshot import Config
from controlplane.resources.metadata import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredService:
    """A service, and the endpoints that its declaration lists in addition to those that its selector
    selects."""

    service: Service
    endpoints: tuple[Workload, ...] = ()


# The type determines how the store uses it: it indexes services and workloads, and puts policies (`Config`)
# in the snapshot. Of a Namespace only the metadata matters.
View = tuple[DeclaredService, ...] | Workload | Metadata | Config[Any]
