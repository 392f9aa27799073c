from __future__ import annotations

from sidecar.config.listener import ForwardClientCert, HttpConnectionManager
from tests.support.decoded import manager_with


def test_the_defaults_of_a_connection_manager_are_envoys() -> None:
    found = manager_with("server_name", "")
    assert found == HttpConnectionManager(stat_prefix="http", rds_name="r", http_filters=found.http_filters)


def test_client_certificates_upgrades_and_limits() -> None:
    assert manager_with("forward_client_cert_details", "APPEND_FORWARD").forward_client_cert is (
        ForwardClientCert.APPEND_FORWARD
    )
    details = manager_with("set_current_client_cert_details", {"subject": True, "dns": True, "uri": True})
    assert details.client_cert_details == {"Subject", "DNS", "URI"}
    upgrades = [{"upgrade_type": "WebSocket"}, {"upgrade_type": "CONNECT", "enabled": False}]
    assert manager_with("upgrade_configs", upgrades).upgrades == {"websocket"}
    assert manager_with("max_request_headers_kb", 16).max_request_headers_bytes == 16 * 1024
    assert manager_with("stream_idle_timeout", "0s").stream_idle_timeout_s == 0.0
    assert manager_with("common_http_protocol_options", {"idle_timeout": "1.5s"}).idle_timeout_s == 1.5
    assert manager_with("rds.config_source.initial_fetch_timeout", "0s").rds_initial_fetch_timeout_s == 0.0
