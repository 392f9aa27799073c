"""The HTTP filters of the proxy. To add one: docs/extending.md."""

from __future__ import annotations

from sidecar.filters.chain import FilterRegistry

FILTERS = FilterRegistry()
