"""The workloads that have a name: the Pods of a cluster, and the WorkloadEntries in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from controlplane.model.service import Workload

WorkloadName = tuple[str, str]  # namespace, name


@dataclass(frozen=True, kw_only=True)
class KnownWorkloads:
    """Immutable. A Pod takes precedence over a WorkloadEntry of its name."""

    pods: Mapping[WorkloadName, Workload] = field(default_factory=dict)
    entries: Mapping[WorkloadName, Workload] = field(default_factory=dict)

    def named(self, namespace: str, name: str) -> Workload | None:
        return self.pods.get((namespace, name)) or self.entries.get((namespace, name))

    def pod_at(self, namespace: str, address: str) -> Workload | None:
        """The one Pod of a namespace with an address. Pods with ``hostNetwork`` share the address of their
        node, which then identifies none of them."""
        found = self._pods_by_address.get((namespace, address), ())
        return found[0] if len(found) == 1 else None

    @cached_property
    def _pods_by_address(self) -> Mapping[tuple[str, str], list[Workload]]:
        """Made on first use: nearly every proxy is found by name."""
        found: dict[tuple[str, str], list[Workload]] = defaultdict(list)
        for (namespace, _), pod in self.pods.items():
            for address in pod.addresses:
                found[namespace, address].append(pod)
        return dict(found)


NO_WORKLOADS = KnownWorkloads()
