"""The information of a pod about itself: `fieldRef` and `resourceFieldRef` of the downward API."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from tests.support.kubernetes_api import Resource

SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}
ONE_OF = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class DownwardError(Exception):
    """The reference is unknown to the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """A Pod, and its node: its status may not have them yet."""

    pod: Resource
    node: str
    host_address: str
    address: str
    capacity: dict[str, str]  # of the node: the limit of a container that has none

    def field(self, path: str) -> str:
        """The value at a `fieldPath`. Raises DownwardError."""
        metadata = self.pod["metadata"]
        if path in {"metadata.labels", "metadata.annotations"}:
            values = metadata.get(path.removeprefix("metadata."), {})
            return "\n".join(f"{key}={json.dumps(value)}" for key, value in sorted(values.items()))
        if one := ONE_OF.fullmatch(path):
            return str(metadata.get(one[1], {}).get(one[2], ""))
        values = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": self.node,
            "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", "default"),
            "status.podIP": self.address,
            "status.podIPs": self.address,
            "status.hostIP": self.host_address,
            "status.hostIPs": self.host_address,
        }
        if path not in values:
            raise DownwardError(f"unknown fieldPath {path!r}")
        return str(values[path])

    def resource(self, reference: Resource, container: str) -> str:
        """The value of a `resourceFieldRef`, in its divisor's units, rounded up. Raises DownwardError."""
        name = reference.get("containerName") or container
        kind, _, resource = reference["resource"].partition(".")
        spec = self.pod["spec"]
        for each in (*spec["containers"], *spec.get("initContainers", ())):
            if each["name"] == name:
                quantity = each.get("resources", {}).get(kind, {}).get(resource)
                if quantity is None:
                    quantity = self.capacity.get(resource, "0") if kind == "limits" else "0"
                divisor = amount(reference.get("divisor", "1")) or Decimal(1)
                return str((amount(quantity) / divisor).to_integral_value(ROUND_CEILING))
        raise DownwardError(f"resourceFieldRef: no container {name!r}")


def amount(quantity: str) -> Decimal:
    """A Kubernetes quantity such as `500m` or `64Mi`. Raises DownwardError."""
    number = quantity.rstrip("mkKMGTPEi")
    try:
        return Decimal(number) * SUFFIXES[quantity[len(number) :]]
    except (ArithmeticError, KeyError):
        raise DownwardError(f"not a quantity: {quantity!r}") from None
