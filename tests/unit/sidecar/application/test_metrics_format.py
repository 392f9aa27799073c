from __future__ import annotations

import pytest

from sidecar.application.metrics_format import merged_type, passed_on, scrape_timeout_s

TEXT = b"text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("content_type", "merged"),
    [
        ("", TEXT),
        ("text/plain", TEXT),
        ("nonsense;;", TEXT),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=x", b"1.0.0"),
        ('application/openmetrics-text;version="0.0.1"', b"0.0.1"),
        ("APPLICATION/OpenMetrics-text", b"0.0.1"),
        ("application/openmetrics-text; version=9.9.9", TEXT),
    ],
)
def test_the_page_has_the_format_of_the_application(content_type: str, merged: bytes) -> None:
    expected = (
        merged if merged is TEXT else b"application/openmetrics-text; version=%b; charset=utf-8" % merged
    )
    assert merged_type(content_type) == expected


def test_protobuf_cannot_be_appended() -> None:
    assert merged_type("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily") is None


def test_the_application_is_not_asked_for_protobuf() -> None:
    accept = b"application/vnd.google.protobuf;q=0.9, application/openmetrics-text;q=0.5,*/*;q=0.1"
    fields = [(b"accept", accept), (b"user-agent", b"Prometheus/3"), (b"authorization", b"secret")]
    assert passed_on(fields) == [
        (b"accept", b"application/openmetrics-text;q=0.5,*/*;q=0.1"),
        (b"user-agent", b"Prometheus/3"),
    ]
    assert passed_on([(b"accept", b"application/vnd.google.protobuf")]) == [(b"accept", b"text/plain")]


@pytest.mark.parametrize(
    ("value", "timeout_s"),
    [(b"2.5", 2.5), (b"1e9", 120.0), (b"0", 10.0), (b"-1", 10.0), (b"nan", 10.0), (b"x", 10.0)],
)
def test_the_timeout_of_prometheus_is_limited(value: bytes, timeout_s: float) -> None:
    assert scrape_timeout_s([(b"x-prometheus-scrape-timeout-seconds", value)]) == timeout_s
    assert scrape_timeout_s([]) == 10.0
