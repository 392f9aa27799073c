"""Merges the application's metrics into the proxy's: Prometheus scrapes the proxy, which scrapes the
application.

https://istio.io/latest/docs/ops/integrations/prometheus/#option-1-metrics-merging
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from controlplane.errors import InjectionError
from controlplane.injection import names
from controlplane.injection.dollars import escape
from controlplane.injection.pod import JsonObject, annotations_of, section, serving_container, set_env
from controlplane.injection.settings import PodSettings

_PATH: Final = "/stats/prometheus"
# Prometheus replaces these characters of an annotation's name by "_": all spellings are one name.
_REPLACED: Final = re.compile(r"[^a-zA-Z0-9_]")
_FIELDS: Final = {f"prometheus_io_{field}": field for field in ("scrape", "path", "port")}
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")


def merge_metrics(pod: JsonObject, settings: PodSettings) -> dict[str, str] | None:
    """Replaces the pod's annotations for Prometheus by those of the proxy, which also serves the
    application's metrics. Returns the replaced annotations, or None if they stay. Raises `InjectionError`."""
    proxy = serving_container(pod)
    if proxy is None or not settings.merge_prometheus or not settings.metrics_port:
        return None
    given = _given(annotations_of(pod))
    scrape = {_FIELDS[_normal(name)]: value for name, value in sorted(given.items())}
    if scrape.get("scrape") in _FALSE or scrape.get("port") == str(settings.metrics_port):
        return None
    _check_port(scrape.get("port", ""), settings.metrics_port)
    if scrape:
        set_env(proxy, names.PROMETHEUS_SCRAPE, escape(json.dumps(scrape, separators=(",", ":"))))
    target = section(section(pod, "metadata"), "annotations")
    for name in given:
        del target[name]
    target.update(_ours(settings.metrics_port))
    return given


def restore(pod: JsonObject, replaced: Mapping[str, str]) -> None:
    """Puts the annotations back that an earlier injection has replaced."""
    target = section(section(pod, "metadata"), "annotations")
    for name in _given(target):
        del target[name]
    target.update(replaced)


def _given(pod_annotations: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in pod_annotations.items() if _normal(name) in _FIELDS}


def _normal(name: str) -> str:
    return _REPLACED.sub("_", name)


def _ours(port: int) -> dict[str, str]:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": _PATH}


def _check_port(port: str, own: int) -> None:
    """``own`` is the port of the proxy's metrics. A missing port is valid."""
    if not port:
        return
    number = int(port[:6]) if port.isascii() and port.isdecimal() else 0
    if not 0 < number < 65536:
        raise InjectionError(f"annotation prometheus.io/port: {port!r:.80} is not a port number")
    if number in names.OWN_PORTS or number == own:
        raise InjectionError(f"annotation prometheus.io/port: {port!r} is a port of the proxy")
