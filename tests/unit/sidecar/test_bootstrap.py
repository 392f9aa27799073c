from __future__ import annotations

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from sidecar.bootstrap import AdsVariant, load, parse_arguments
from sidecar.config.bootstrap import CaProvider
from sidecar.config.endpoint import SocketAddress
from sidecar.config.tls import DataSource, SanMatch, SanMatchKind
from sidecar.errors import BootstrapError
from sidecar.usable_cores import usable_cores
from sidecar.xds.decode import bootstrap_json
from tests.support.envoy_config import LISTENER, address, bootstrap, changed, static_cluster, upstream_tls

SOURCE = {"ads": {}, "resource_api_version": "V3"}


def written(folder: Path, text: str) -> list[str]:
    path = folder / "bootstrap.yaml"
    path.write_text(text)
    return ["-c", str(path)]


def with_ads(**ads_cluster: Any) -> dict[str, Any]:
    cluster = {**static_cluster("xds", 15010), "http2_protocol_options": {}, **ads_cluster}
    document = changed(bootstrap(), "static_resources.clusters[2]", cluster)
    document["dynamic_resources"] = {
        "cds_config": SOURCE,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [
                {
                    "envoy_grpc": {"cluster_name": "xds"},
                    "initial_metadata": [{"key": "X-Mesh", "value": "m"}],
                }
            ],
        },
    }
    return document


def loaded(document: dict[str, Any], *arguments: str) -> Any:
    return load(parse_arguments(["--config-yaml", json.dumps(document), *arguments], {}))


def refusal(*arguments: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(BootstrapError) as caught:
        load(parse_arguments(arguments, environ or {}))
    message = str(caught.value)
    assert "\n" not in message, "one line"
    return message


def test_the_command_line_comes_before_the_environment_and_that_before_the_default(tmp_path: Path) -> None:
    environ = {"OUTRIGGER_STATUS_PORT": "1", "OUTRIGGER_METRICS_PORT": "2", "OUTRIGGER_TOKEN": " t \n"}
    settings = parse_arguments(["-c", "f", "--status-port", "3", "--cache-dir", str(tmp_path)], environ)

    assert settings.status_port == 3
    assert settings.metrics_port == 2
    assert settings.trust_domain == "cluster.local"
    assert settings.cache_dir == tmp_path
    assert settings.token == "t"
    assert "t \n" not in repr(settings), "a token is not shown"
    assert parse_arguments(["-c", "f", "--status-port", "off"], {}).status_port is None


@pytest.mark.parametrize(
    ("arguments", "environ", "captures"),
    [
        ([], {}, False),
        (["--dns-capture", "true"], {}, True),
        ([], {"OUTRIGGER_DNS_CAPTURE": "TRUE"}, True),
        (["--dns-capture", "false"], {"OUTRIGGER_DNS_CAPTURE": "true"}, False),
    ],
)
def test_dns_is_captured_on_demand(arguments: list[str], environ: dict[str, str], captures: bool) -> None:
    settings = parse_arguments(["-c", "f", *arguments], environ)
    assert settings.dns_capture is captures
    assert settings.dns_port == 15053


@pytest.mark.parametrize(
    ("arguments", "requested_s"), [([], 0.0), (["--certificate-lifetime", "3600s"], 3600.0)]
)
def test_the_control_plane_decides_how_long_certificates_live_unless_a_flag_asks(
    arguments: list[str], requested_s: float
) -> None:
    """0 in a request means its default, which `--workload-cert-ttl` sets."""
    assert parse_arguments(["-c", "f", *arguments], {}).certificate_lifetime_s == requested_s


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a bootstrap file is required"),
        (["-c", "f", "--concurrency", "257"], "'257': expected a number from 0 to 256"),
        (["-c", "f", "--concurrency", "-1"], "'-1': expected a number from 0 to 256"),
        (["-c", "f", "--concurrency", "two"], "'two': expected a number from 0 to 256"),
        (["-c", "f", "--status-port", "65536"], "invalid port"),
        (["-c", "f", "--dns-capture", "yes"], "'yes': expected true or false"),
        (["-c", "f", "--dns-port", "off"], "invalid port 'off'"),
        (["-c", "f", "--drain-time-s", "-1"], "must be 0 or more"),
        (["-c", "f", "--drain-time-s", "nan"], "must be 0 or more"),
        (["-c", "f", "--certificate-lifetime", "0.5"], "the minimum is 1 second"),
        (["-c", "f", "--access-log", "loud"], "invalid choice"),
        (["-c", "f", "--nonsense"], "unrecognized arguments"),
        (["-c", "/does/not/exist"], "/does/not/exist: cannot be read: No such file"),
    ],
)
def test_a_bad_command_line_is_one_clear_line(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)


def test_a_bad_environment_variable_is_refused_as_its_flag_would_be() -> None:
    assert "invalid port" in refusal("-c", "f", environ={"OUTRIGGER_STATUS_PORT": "x"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 2, column 1"),
        ("node: {id: a}\nnode: {id: b}", "line 2, column 1: duplicate key 'node'"),
        ("- a", "not a mapping"),
        ("", "not a mapping"),
        ("\x00", "invalid YAML"),
        ("nodes: {}", "nodes: envoy.config.bootstrap.v3.Bootstrap has no such field; did you mean node?"),
        ("static_resources: {listeners: [{nam: x}]}", "static_resources.listeners[0].nam: "),
        ("static_resources: {clusters: [{name: c, connect_timeout: 5}]}", "clusters[0].connect_timeout: "),
        ("static_resources: {clusters: [{name: c, lb_policy: BEST}]}", "clusters[0].lb_policy: "),
        ("static_resources: {clusters: {a: b}}", "static_resources: "),
        ("static_resources: {clusters: [3]}", "static_resources.clusters: "),
        ("node: 3", "node: "),
        ("stats_sinks: [{name: statsd}]", "stats_sinks: is not supported"),
        ("overload_manager: {resource_monitors: [{name: a}]}", "overload_manager: is not supported"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_place(tmp_path: Path, text: str, words: str) -> None:
    arguments = written(tmp_path, text)
    message = refusal(*arguments)

    assert message.startswith(f"{arguments[1]}: ")
    assert words in message


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    document = bootstrap()
    as_json = load(parse_arguments(written(tmp_path, json.dumps(document)), {}))
    assert as_json.static.listeners["l"].address == SocketAddress("127.0.0.1", 0)
    assert as_json == loaded(document)


def test_what_has_no_effect_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded({**bootstrap(), "watchdog": {}})
    assert "watchdog has no effect" in caplog.text


@pytest.mark.parametrize(
    ("layer", "warned"),
    [
        ({"static_layer": {"re2.max_program_size.error_level": 32768}}, False),
        ({"admin_layer": {}}, False),
        ({"static_layer": {"upstream.healthy_panic_threshold": 0}}, True),
        ({"static_layer": {"re2": {"max_program_size": {"error_level": 1}}, "other": 1}}, True),
        ({"rtds_layer": {"name": "r", "rtds_config": {"ads": {}}}}, True),
    ],
)
def test_a_runtime_is_warned_of_unless_it_is_the_printed_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layer: dict[str, Any], warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded({**bootstrap(), "layered_runtime": {"layers": [{"name": "a", **layer}]}})
    assert ("layered_runtime has no effect" in caplog.text) is warned


def test_the_node_comes_from_the_command_line_first() -> None:
    found = loaded(bootstrap(), "--service-node", "other", "--service-cluster", "shop")
    assert (found.node_id, found.node_cluster) == ("other", "shop")
    assert found.node_document["id"] == "other"


def test_the_node_names_this_proxy_and_its_version() -> None:
    node = loaded(bootstrap()).node_document
    assert node["user_agent_name"] == "outrigger"
    assert node["user_agent_version"] == version("outrigger")


def test_the_aggregated_stream_is_resolved_to_its_static_cluster() -> None:
    document = with_ads(connect_timeout="2s")
    options = {"connection_keepalive": {"interval": "20s", "timeout": "3s"}}
    ads = loaded(changed(document, "static_resources.clusters[2].http2_protocol_options", options)).ads

    assert ads.variant is AdsVariant.DELTA
    assert [endpoint.address for endpoint in ads.endpoints] == [SocketAddress("127.0.0.1", 15010)]
    assert ads.metadata == (("x-mesh", "m"),)
    assert (ads.connect_timeout_s, ads.keepalive_interval_s, ads.keepalive_timeout_s) == (2.0, 20.0, 3.0)
    assert ads.clusters
    assert not ads.listeners


def test_tls_of_the_stream_stays_in_its_files_which_must_be_there(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(b"ROOTS")
    name = {"san_type": "DNS", "matcher": {"exact": "istiod"}}
    socket = upstream_tls(
        combined_validation_context={
            "default_validation_context": {"match_typed_subject_alt_names": [name]},
            "validation_context_sds_secret_config": {"name": "roots"},
        }
    )
    document = with_ads(transport_socket=socket)
    secret = {"name": "roots", "validation_context": {"trusted_ca": {"filename": str(roots)}}}
    document["static_resources"]["secrets"] = [secret]
    found = loaded(document)

    validation = found.ads.tls.parameters.validation
    assert validation.trusted_ca == DataSource(filename=str(roots))
    assert validation.match_sans == (SanMatch(kind=SanMatchKind.EXACT, value="istiod", san_type="DNS"),)
    assert found.static.secrets["roots"].validation.trusted_ca == DataSource(filename=str(roots))

    roots.unlink()
    with pytest.raises(BootstrapError, match="cannot be read"):
        loaded(document)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("dynamic_resources.ads_config.api_type", "REST", "REST is not supported"),
        ("dynamic_resources.ads_config.transport_api_version", "AUTO", "only V3"),
        ("dynamic_resources.ads_config.grpc_services", [], "exactly one is supported"),
        ("dynamic_resources.cds_config", {"path": "/x"}, "cds_config.path: is not supported"),
        ("static_resources.clusters[2].http2_protocol_options", None, "must have http2_protocol_options"),
        ("static_resources.clusters[2].load_assignment", {"cluster_name": "x"}, "has no endpoints"),
        ("node.id", "", "--service-node"),
    ],
)
def test_a_stream_that_cannot_be_opened_is_refused(path: str, value: object, words: str) -> None:
    with pytest.raises(BootstrapError, match=words):
        loaded(changed(with_ads(), path, value))


def test_the_document_shows_no_private_key() -> None:
    key = "-----BEGIN PRIVATE KEY-----"
    certificate = {"certificate_chain": {"inline_string": "CHAIN"}, "private_key": {"inline_string": key}}
    document = bootstrap()
    document["static_resources"]["secrets"] = [{"name": "s", "tls_certificate": certificate}]
    found = loaded(document)

    shown = json.dumps(bootstrap_json(found.message))
    assert key not in shown
    assert "[redacted]" in shown
    assert "CHAIN" in shown
    assert found.static.secrets["s"].certificate.private_key.inline == key.encode()


def test_the_admin_server_is_optional() -> None:
    assert loaded(bootstrap()).admin_address is None
    found = loaded({**bootstrap(), "admin": {"address": address(15000)}})
    assert found.admin_address == SocketAddress("127.0.0.1", 15000)


def test_a_static_listener_may_have_no_name() -> None:
    found = loaded(changed(changed(bootstrap(), f"{LISTENER}.name", ""), f"{LISTENER}.address", address(1)))
    assert list(found.static.listeners) == ["127.0.0.1:1"]


def test_there_are_two_workers_or_as_many_as_asked_for_or_as_the_cores_allow() -> None:
    assert parse_arguments(["-c", "f"], {}).concurrency == 2
    assert parse_arguments(["-c", "f", "--concurrency", "3"], {}).concurrency == 3
    assert parse_arguments(["-c", "f"], {"OUTRIGGER_CONCURRENCY": "1"}).concurrency == 1
    assert parse_arguments(["-c", "f", "--concurrency", "0"], {}).concurrency == usable_cores()


def test_the_signing_service_is_ours_or_an_istiods() -> None:
    assert parse_arguments(["-c", "f"], {}).ca_provider is None
    assert parse_arguments(["-c", "f", "--ca-provider", "Citadel"], {}).ca_provider is CaProvider.ISTIOD
    environ = {"OUTRIGGER_CA_PROVIDER": "citadel"}
    assert parse_arguments(["-c", "f"], environ).ca_provider is CaProvider.ISTIOD
    with pytest.raises(BootstrapError, match="'vault': expected one of outrigger, Citadel"):
        parse_arguments(["-c", "f", "--ca-provider", "vault"], {})
