from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.errors import SettingsError
from controlplane.mesh_config_file import load_mesh_config
from controlplane.model.mesh_config import MeshConfig


def load(tmp_path: Path, text: str) -> MeshConfig:
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    return load_mesh_config(path)


def test_every_field_is_read_by_istios_name(tmp_path: Path) -> None:
    text = """
        trustDomain: example.org
        rootNamespace: mesh-system
        proxyListenPort: 16001
        proxyInboundListenPort: 16006
        proxyHttpPort: 16080
        outboundTrafficPolicy: {mode: REGISTRY_ONLY}
        enableAutoMtls: false
        h2UpgradePolicy: UPGRADE
        connectTimeout: 3s
        defaultHttpRetryPolicy: {attempts: 0}
    """
    assert load(tmp_path, text) == MeshConfig(
        trust_domain="example.org",
        root_namespace="mesh-system",
        outbound_port=16001,
        inbound_port=16006,
        proxy_http_port=16080,
        allow_any_outbound=False,
        enable_auto_mtls=False,
        h2_upgrade=True,
        connect_timeout=timedelta(seconds=3),
        default_retry_attempts=0,
    )


@pytest.mark.parametrize("text", ["", "{}", "# nothing but a comment\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == MeshConfig()


def test_an_unsupported_istio_field_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = load(tmp_path, "trustDomain: example.org\nenableTracing: true\n")
    assert mesh.trust_domain == "example.org"
    assert "the Istio field enableTracing is not supported and ignored" in caplog.text


def test_the_settings_of_injected_proxies_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mesh = load(
        tmp_path, "defaultConfig: {holdApplicationUntilProxyStarts: true, tracing: {}, drainDuration: 5s}\n"
    )
    assert mesh.default_config.hold_application_until_proxy_starts is True
    assert mesh.default_config.drain_time == timedelta(seconds=5)
    assert "the Istio field defaultConfig.tracing is not supported and ignored" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("proxyHttpPrt: 1", r"MeshConfig.proxyHttpPrt: unknown field; did you mean `proxyHttpPort`\?"),
        ("proxyListenPort: many", r"MeshConfig.proxyListenPort: should be an integer, not 'many'"),
        ("proxyListenPort: 70000", r"MeshConfig.proxyListenPort: should be less than or equal to 65535"),
        ("trustDomain: Example", r"MeshConfig.trustDomain: not a trust domain: 'Example'"),
        (
            "outboundTrafficPolicy: {mode: OPEN}",
            r"MeshConfig.outboundTrafficPolicy.mode: 'OPEN' is not one of",
        ),
        ("connectTimeout: 3", r"MeshConfig.connectTimeout: 3 is not a duration"),
        ("- a list", r"mesh.yaml: expected the fields of a MeshConfig"),
        ("1: 2", r"mesh.yaml: expected the fields of a MeshConfig"),
        ("a: [", r"mesh.yaml is not YAML: while parsing"),
        ("a: \x00", r"mesh.yaml is not YAML"),
    ],
)
def test_an_error_is_one_line_with_the_fields_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as refusal:
        load(tmp_path, text)
    assert "\n" not in str(refusal.value)
