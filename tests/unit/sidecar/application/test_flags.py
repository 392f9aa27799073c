from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.application.flags import parse_app_probers, parse_prometheus_scrape
from sidecar.config.application import (
    AppProber,
    GrpcAction,
    HttpGetAction,
    PrometheusScrape,
    TcpSocketAction,
)


def prober(path: str = "/app-health/web/livez", **fields: Any) -> AppProber:
    return parse_app_probers(json.dumps({path: fields}))[path]


def test_each_kind_of_probe_is_read() -> None:
    text = json.dumps(
        {
            "/app-health/web/livez": {
                "httpGet": {
                    "path": "/live?full=1",
                    "port": 8080,
                    "scheme": "HTTPS",
                    "httpHeaders": [
                        {"name": "X-Key", "value": "a b"},
                        {"name": "Host", "value": "web.example"},
                    ],
                },
                "timeoutSeconds": 7,
            },
            "/app-health/web/readyz": {"tcpSocket": {"port": 5432, "host": "10.0.0.9"}},
            "/app-health/api/startupz": {"grpc": {"port": 9000, "service": "api"}, "timeoutSeconds": 2},
        }
    )
    assert parse_app_probers(text) == {
        "/app-health/web/livez": AppProber(
            action=HttpGetAction(
                port=8080,
                path="/live?full=1",
                https=True,
                authority=b"web.example",
                headers=((b"x-key", b"a b"),),
            ),
            timeout_s=7.0,
        ),
        "/app-health/web/readyz": AppProber(
            action=TcpSocketAction(port=5432, host="10.0.0.9"), timeout_s=1.0
        ),
        "/app-health/api/startupz": AppProber(action=GrpcAction(port=9000, service="api"), timeout_s=2.0),
    }


def test_only_a_probe_has_a_timeout_by_default() -> None:
    hook = {"httpGet": {"port": 80}}
    assert prober("/app-health/web/readyz", **hook).timeout_s == 1.0
    for path in ("/app-health/web/prestopz", "/app-health/web/poststartz"):
        assert prober(path, **hook).timeout_s is None
        assert prober(path, **hook, timeoutSeconds=3).timeout_s == 3.0


def test_an_empty_text_has_no_probes() -> None:
    assert parse_app_probers("") == {}


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("", "/"),
        ("health", "/health"),
        ("/a b\r\nX: é#f", "/a%20b%0D%0AX:%20%C3%A9"),
        ("/%41?q=%20", "/%41?q=%20"),
    ],
)
def test_a_path_cannot_break_out_of_the_request_line(path: str, sent: str) -> None:
    action = prober(httpGet={"port": 80, "path": path}).action
    assert isinstance(action, HttpGetAction)
    assert action.path == sent


def test_headers_that_frame_a_message_are_left_to_the_codec() -> None:
    headers = [
        {"name": name, "value": "1"} for name in ("Content-Length", "Connection", "Transfer-Encoding", "A")
    ]
    action = prober(httpGet={"port": 80, "httpHeaders": headers}).action
    assert isinstance(action, HttpGetAction)
    assert action.headers == ((b"a", b"1"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
        ("[]", "the document: should be an object"),
        ('{"/other": {"tcpSocket": {"port": 1}}}', "'/other': should be /app-health/CONTAINER/"),
        ('{"/app-health/a/b/livez": {"tcpSocket": {"port": 1}}}', "should be /app-health/CONTAINER/"),
    ],
)
def test_a_document_of_another_shape_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_app_probers(text)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "exactly one of httpGet, tcpSocket, grpc"),
        ({"exec": {"command": ["true"]}}, "exactly one of"),
        ({"tcpSocket": {"port": 1}, "grpc": {"port": 1}}, "exactly one of"),
        ({"tcpSocket": {"port": "http"}}, "tcpSocket.port: 'http' should be a port number"),
        ({"tcpSocket": {"port": True}}, "tcpSocket.port: True"),
        ({"tcpSocket": {}}, "tcpSocket.port: None"),
        ({"grpc": {"port": 65536}}, "grpc.port: 65536"),
        ({"grpc": {"port": 1, "service": 2}}, "grpc.service: 2 should be a string"),
        ({"httpGet": {"port": 1, "scheme": "FTP"}}, "httpGet.scheme: 'FTP' should be HTTP or HTTPS"),
        ({"httpGet": {"port": 1, "host": "a b"}}, "httpGet.host: invalid host"),
        ({"httpGet": {"port": 1, "method": "POST"}}, "httpGet.method: is not supported"),
        ({"httpGet": {"port": 1, "httpHeaders": {}}}, "httpHeaders: should be a list"),
        ({"httpGet": {"port": 1, "httpHeaders": [{"name": "a:b", "value": ""}]}}, "invalid header name"),
        (
            {"httpGet": {"port": 1, "httpHeaders": [{"name": "a", "value": "x\r\nb: c"}]}},
            "invalid characters",
        ),
        ({"tcpSocket": {"port": 1}, "timeoutSeconds": "1"}, "timeoutSeconds: '1' should be a number above 0"),
        ({"tcpSocket": {"port": 1}, "timeoutSeconds": -1}, "timeoutSeconds: -1"),
    ],
)
def test_an_invalid_probe_is_refused_with_its_path_and_field(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^/app-health/web/livez: .*{reason}"):
        prober(**fields)


@pytest.mark.parametrize(
    ("text", "scrape"),
    [
        ("", None),
        ("{}", PrometheusScrape(port=80, path="/metrics")),
        ('{"scrape": "true", "path": "m?x=1", "port": "9090"}', PrometheusScrape(port=9090, path="/m?x=1")),
        ('{"scrape": "false", "port": "9090"}', None),
        ('{"scrape": "0"}', None),
    ],
)
def test_where_the_application_serves_metrics(text: str, scrape: PrometheusScrape | None) -> None:
    assert parse_prometheus_scrape(text) == scrape


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"port": 9090}', "port: 9090 should be a string"),
        ('{"port": "http"}', "port: 'http' should be a port number"),
        ('{"port": "99999999"}', "port: '99999999' should be a port number"),
        ('{"scheme": "https"}', "scheme: is not supported"),
    ],
)
def test_an_invalid_scrape_is_refused_with_its_field(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_prometheus_scrape(text)
