"""The formats of Prometheus, and the parts of them that matter for merging. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.admin.answers import PROMETHEUS
from sidecar.http.headers import Headers, get_header

OPEN_METRICS: Final = "application/openmetrics-text"
END_OF_OPEN_METRICS: Final = b"# EOF\n"
_PROTOBUF: Final = "application/vnd.google.protobuf"
_VERSION: Final = re.compile(r"(?:^|;)\s*version=\"?([^\s\";]*)", re.IGNORECASE)
_OPEN_METRICS_VERSIONS: Final = ("0.0.1", "1.0.0")
TIMEOUT: Final = b"x-prometheus-scrape-timeout-seconds"
_DEFAULT_TIMEOUT_S: Final = 10.0  # Prometheus's scrape_timeout
_LONGEST_TIMEOUT_S: Final = 120.0


def merged_type(content_type: str) -> bytes | None:
    """The content type of a page that ends with the application's metrics, as in Istio: OpenMetrics if they
    are, else the text format. None if they cannot be appended to text."""
    media_type, version = _media_type(content_type)
    if media_type == _PROTOBUF:
        return None
    version = version or _OPEN_METRICS_VERSIONS[0]
    if media_type == OPEN_METRICS and version in _OPEN_METRICS_VERSIONS:
        return f"{OPEN_METRICS}; version={version}; charset=utf-8".encode()
    return PROMETHEUS


def _media_type(content_type: str) -> tuple[str, str]:
    """The type in lower case, and its parameter ``version``, empty if it is missing (RFC 9110 8.3.1)."""
    media_type, _, parameters = content_type.partition(";")
    version = _VERSION.search(parameters)
    return media_type.strip().lower(), version[1] if version else ""


def passed_on(headers: Headers) -> Headers:
    """The fields of a scrape that the application gets too. Protobuf is not accepted: our own metrics are
    text."""
    fields: Headers = []
    for name, value in headers:
        if name == b"accept":
            ranges = [each.strip() for each in value.split(b",")]
            accepted = [each for each in ranges if not each.lower().startswith(_PROTOBUF.encode())]
            fields.append((name, b",".join(accepted or [b"text/plain"])))
        elif name in (b"user-agent", TIMEOUT):
            fields.append((name, value))
    return fields


def scrape_timeout_s(headers: Headers) -> float:
    """The header of Prometheus, within limits; a missing or invalid one is the default of Prometheus."""
    try:
        wanted_s = float(get_header(headers, TIMEOUT) or _DEFAULT_TIMEOUT_S)
    except ValueError:
        return _DEFAULT_TIMEOUT_S
    return min(wanted_s, _LONGEST_TIMEOUT_S) if wanted_s > 0 else _DEFAULT_TIMEOUT_S
