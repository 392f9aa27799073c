"""Istio's HTTP filter ``istio.stats``: the sidecar counts these metrics by itself."""

from __future__ import annotations

from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.istio_stats import ISTIO_STATS, check_istio_stats

DECODER = HttpFilterDecoder(type_name=ISTIO_STATS, table={}, decode=check_istio_stats)
