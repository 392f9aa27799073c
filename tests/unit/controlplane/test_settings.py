from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.ca.signer_files import SignerFiles
from controlplane.errors import SettingsError
from controlplane.settings import Ports, read_settings
from tests.support.manifests import DEPLOY, manifests


def test_the_defaults_are_istiods(tmp_path: Path) -> None:
    settings = read_settings(["--folder", str(tmp_path)], {})
    assert settings.ports == Ports(xds=15010, xds_tls=15012, webhooks=15017, debug=8080, metrics=15014)
    assert settings.bind_address == "127.0.0.1"
    assert settings.mesh.trust_domain == "cluster.local"
    assert settings.authority.signer is None
    assert settings.authority.default_lifetime_s == 24 * 3600
    assert settings.authority.max_lifetime_s == 90 * 24 * 3600
    assert settings.addresses_file is None


def test_a_flag_wins_over_the_environment_and_that_over_the_default(tmp_path: Path) -> None:
    environment = {
        "OUTRIGGER_FOLDER": str(tmp_path),
        "OUTRIGGER_XDS_PORT": "0",
        "OUTRIGGER_DEBUG_PORT": "9000",
        "OUTRIGGER_WEBHOOK_PORT": "off",
        "OUTRIGGER_WORKLOAD_CERT_TTL": "5s",
    }
    settings = read_settings(["--debug-port", "9001"], environment)
    assert settings.folder == tmp_path
    assert settings.ports == Ports(xds=0, xds_tls=15012, webhooks=None, debug=9001, metrics=15014)
    assert settings.authority.default_lifetime_s == 5


def test_the_control_planes_own_namespace_is_its_pods_unless_a_flag_says_otherwise() -> None:
    assert read_settings([], {}).system_namespace == "outrigger-system"
    assert read_settings([], {"POD_NAMESPACE": "mesh"}).system_namespace == "mesh"
    assert (
        read_settings(["--system-namespace", "other"], {"POD_NAMESPACE": "mesh"}).system_namespace == "other"
    )


def test_the_deployment_serves_plaintext_on_loopback_only() -> None:
    (deployment,) = [each for each in manifests(DEPLOY / "outrigger.yaml") if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # The file is in a volume of the pod.
    arguments = [each for each in container["args"] if not each.startswith("--mesh-config=")]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    settings = read_settings(arguments, {**variables, "POD_NAMESPACE": "outrigger-system"})
    assert settings.injection_config == Path("/etc/outrigger/injection/config")
    assert (settings.source, settings.bind_address) == ("kubernetes", "0.0.0.0")
    assert settings.ports == Ports(xds=None, xds_tls=15012, webhooks=15017, debug=8080, metrics=15014)


def test_a_revision_has_its_own_service() -> None:
    assert read_settings([], {}).services == ("outrigger-controlplane",)
    services = read_settings(["--revision", "canary"], {}).services
    assert services == ("outrigger-controlplane", "outrigger-controlplane-canary")


def test_the_trust_domain_flag_wins_over_the_mesh_configuration(tmp_path: Path) -> None:
    mesh_config = tmp_path / "mesh.yaml"
    mesh_config.write_text("trustDomain: from.file\nproxyHttpPort: 15080\n")
    argv = ["--folder", str(tmp_path), "--mesh-config", str(mesh_config)]
    assert read_settings(argv, {}).mesh.trust_domain == "from.file"
    overridden = read_settings(
        [*argv, "--trust-domain", "from.flag", "--domain", "example.internal"], {}
    ).mesh
    assert overridden.trust_domain == "from.flag"
    assert overridden.dns_domain == "example.internal"
    assert overridden.proxy_http_port == 15080


def test_in_a_cluster_the_control_planes_own_namespace_is_the_root_namespace() -> None:
    argv = ["--source", "kubernetes", "--system-namespace", "mesh-system"]
    assert read_settings(argv, {}).mesh.root_namespace == "mesh-system"
    assert read_settings(argv[2:], {}).mesh.root_namespace == "istio-system"  # Istio's default, for a folder


def test_the_mesh_configuration_can_set_the_root_namespace(tmp_path: Path) -> None:
    mesh_config = tmp_path / "mesh.yaml"
    argv = ["--source", "kubernetes", "--mesh-config", str(mesh_config), "--system-namespace", "mesh-system"]
    mesh_config.write_text("rootNamespace: policies\n")
    settings = read_settings(argv, {})
    assert (settings.system_namespace, settings.mesh.root_namespace) == ("mesh-system", "policies")
    mesh_config.write_text("trustDomain: example.com\n")
    assert read_settings(argv, {}).mesh.root_namespace == "mesh-system"


def test_a_given_authority_is_read_from_its_files(tmp_path: Path) -> None:
    flags = [
        "--signing-cert",
        "c.pem",
        "--signing-key",
        "k.pem",
        "--signing-chain",
        "chain.pem",
        "--root-cert",
        "r.pem",
    ]
    authority = read_settings(["--folder", str(tmp_path), *flags], {}).authority
    assert authority.signer == SignerFiles(
        certificate=Path("c.pem"), key=Path("k.pem"), chain=Path("chain.pem"), roots=Path("r.pem")
    )


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--signing-cert", "c.pem"], "--signing-cert and --signing-key must be used together"),
        (["--signing-key", "k.pem"], "--signing-cert and --signing-key must be used together"),
        (["--signing-chain", "c.pem"], "--signing-chain requires --signing-cert"),
        (
            ["--workload-cert-ttl", "2h", "--max-workload-cert-ttl", "1h"],
            "longer than --max-workload-cert-ttl",
        ),
        (["--mesh-config", "/nowhere.yaml"], "cannot read /nowhere.yaml: No such file"),
    ],
)
def test_invalid_settings_are_rejected_with_the_reason(tmp_path: Path, flags: list[str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_settings(["--folder", str(tmp_path), *flags], {})


@pytest.mark.parametrize(
    ("flags", "environment", "reason"),
    [
        (["--xds-port", "65536"], {}, "invalid port '65536': expected 0 to 65535"),
        (["--xds-port", "-1"], {}, "invalid port '-1'"),
        ([], {"OUTRIGGER_METRICS_PORT": "http"}, "argument --metrics-port: invalid port 'http'"),
        (["--bind-address", "localhost"], {}, "invalid IP address 'localhost'"),
        (["--system-namespace", "../kube-system"], {}, "not a namespace: '../kube-system'"),
        (["--trust-domain", "UPPER"], {}, "not a trust domain: 'UPPER'"),
        (["--workload-cert-ttl", "soon"], {}, "'soon' is not a duration"),
        (["--workload-cert-ttl", "10ms"], {}, "'10ms' is shorter than one second"),
        (["--log-format", "xml"], {}, "invalid value 'xml': expected one of text, json"),
        (["--webhook-port", "on"], {}, "argument --webhook-port: invalid port 'on'"),
        (["--revision", "v1.2"], {}, "invalid revision 'v1.2': expected at most 40"),
        (["--revision", ""], {}, "invalid revision ''"),
        (["--source", "consul"], {}, "invalid value 'consul': expected one of files"),
        (["--colour"], {}, "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_flag_ends_with_code_2_and_its_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    environment: dict[str, str],
    reason: str,
) -> None:
    with pytest.raises(SystemExit) as end:
        read_settings(["--folder", str(tmp_path), *flags], environment)
    assert end.value.code == 2
    assert reason in capsys.readouterr().err
