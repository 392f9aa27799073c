"""The whole configuration of the data path at one moment. A new snapshot is built while the old one is in
use, and replaces it in one assignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.cluster import ClusterConfig
from sidecar.config.endpoint import LoadAssignment
from sidecar.config.listener import Listener
from sidecar.config.name_table import NameTable
from sidecar.config.route import RouteConfiguration
from sidecar.config.tls import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Resources by name; ``names`` has at most one name table. A resource that did not change is the same
    object as in the snapshot before, so that differences can be found by identity. ``counter_rows``: by
    cluster, where several workers count what its limits are for."""

    listeners: Mapping[str, Listener] = field(default_factory=dict)
    routes: Mapping[str, RouteConfiguration] = field(default_factory=dict)
    clusters: Mapping[str, ClusterConfig] = field(default_factory=dict)
    endpoints: Mapping[str, LoadAssignment] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    names: Mapping[str, NameTable] = field(default_factory=dict)
    counter_rows: Mapping[str, int] = field(default_factory=dict)


EMPTY_SNAPSHOT = Snapshot()
