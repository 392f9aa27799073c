"""The HTTP filters of the proxy. To add one: docs/extending.md."""

from __future__ import annotations

from sidecar.filters import header_mutation, health_check
from sidecar.filters.chain import FilterRegistry

FILTERS = FilterRegistry(header_mutation.KIND, health_check.KIND)
