"""DestinationRule, PeerAuthentication, Sidecar, ServiceEntry and WorkloadEntry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.errors import InvalidResourceError
from controlplane.kinds.registry import KINDS
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.peer_authentication import MutualTLSMode, PeerAuthentication
from tests.support.documents import document


def parse(kind: str, spec: dict[str, Any]) -> Message:
    return KINDS.parse(document(kind, "a", spec)).spec


def fault(kind: str, spec: dict[str, Any]) -> str:
    with pytest.raises(InvalidResourceError) as caught:
        parse(kind, spec)
    (error,) = caught.value.errors
    return str(error)


def test_istios_names_with_digits_are_read() -> None:
    policy = {
        "connectionPool": {"http": {"http1MaxPendingRequests": 1, "http2MaxRequests": 2}},
        "outlierDetection": {"consecutive5xxErrors": 3, "baseEjectionTime": "5s"},
    }
    rule = parse("DestinationRule", {"host": "a", "trafficPolicy": policy})
    assert isinstance(rule, DestinationRule)
    assert rule.traffic_policy
    assert rule.traffic_policy.connection_pool
    assert rule.traffic_policy.connection_pool.http
    assert rule.traffic_policy.connection_pool.http.http1_max_pending_requests == 1
    assert rule.traffic_policy.outlier_detection
    assert rule.traffic_policy.outlier_detection.consecutive_5xx_errors == 3
    assert rule.traffic_policy.outlier_detection.base_ejection_time == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("http", "words"),
    [
        ({"h2UpgradePolicy": "ALWAYS"}, "h2UpgradePolicy: 'ALWAYS' is not one of"),
        ({"useClientProtocol": "yes"}, "useClientProtocol: "),
        ({"maxConcurrentStreams": -1}, "maxConcurrentStreams: "),
    ],
)
def test_an_invalid_choice_of_the_http_version_is_refused(http: dict[str, Any], words: str) -> None:
    policy = {"connectionPool": {"http": http}}
    found = fault("DestinationRule", {"host": "a", "trafficPolicy": policy})
    assert found.startswith(f"spec.trafficPolicy.connectionPool.http.{words}")


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"loadBalancer": {"consistentHash": {}}}, "loadBalancer.consistentHash"),
        ({"loadBalancer": {"localityLbSetting": {}}}, "loadBalancer.localityLbSetting"),
        ({"tunnel": {}}, "tunnel"),
        ({"tls": {"mode": "SIMPLE", "credentialName": "a"}}, "tls.credentialName"),
    ],
)
def test_unsupported_fields_of_a_destination_rule_are_named(policy: dict[str, Any], path: str) -> None:
    words = fault("DestinationRule", {"host": "a", "trafficPolicy": policy})
    assert words == f"spec.trafficPolicy.{path}: is an Istio field that is not supported yet"


@pytest.mark.parametrize(
    "tls",
    [
        {"mode": "MUTUAL"},
        {"mode": "SIMPLE", "clientCertificate": "a", "privateKey": "b"},
        {"mode": "ISTIO_MUTUAL", "caCertificates": "a"},
        {"mode": "SIMPLE", "caCertificates": "a", "insecureSkipVerify": True},
    ],
)
def test_certificates_that_do_not_fit_the_tls_mode_are_refused(tls: dict[str, Any]) -> None:
    words = fault("DestinationRule", {"host": "a", "trafficPolicy": {"tls": tls}})
    assert words.startswith("spec.trafficPolicy.tls: ")


def test_the_error_of_an_unknown_load_balancer_names_the_known_ones() -> None:
    words = fault("DestinationRule", {"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "MAGLEV"}}})
    assert words.startswith("spec.trafficPolicy.loadBalancer.simple: 'MAGLEV' is not one of ")
    assert "'ROUND_ROBIN'" in words


def test_two_subsets_of_one_name_are_refused() -> None:
    subsets = [{"name": "v1"}, {"name": "v1"}]
    assert fault("DestinationRule", {"host": "a", "subsets": subsets}) == (
        "spec.subsets: has a duplicate subset name 'v1'"
    )


def test_a_subset_has_a_name_that_can_be_part_of_a_cluster_name() -> None:
    words = fault("DestinationRule", {"host": "a", "subsets": [{"name": "v|1"}]})
    assert words.startswith("spec.subsets[0].name: should match pattern ")
    assert words.endswith(", not 'v|1'")


def test_two_policies_for_one_port_are_refused() -> None:
    settings = [{"port": {"number": 80}}, {"port": {"number": 80}}]
    policy = {"portLevelSettings": settings}
    assert "a duplicate policy for port 80" in fault(
        "DestinationRule", {"host": "a", "trafficPolicy": policy}
    )


def test_port_level_mtls_takes_ports_as_numbers_and_as_json_keys() -> None:
    ports = {"8080": {"mode": "STRICT"}, 9090: {"mode": "DISABLE"}}
    policy = parse("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": ports})
    assert isinstance(policy, PeerAuthentication)
    modes = {port: mtls.mode for port, mtls in policy.port_level_mtls.items()}
    assert modes == {8080: MutualTLSMode.STRICT, 9090: MutualTLSMode.DISABLE}


def test_port_level_mtls_needs_a_selector() -> None:
    assert "needs a `selector`" in fault("PeerAuthentication", {"portLevelMtls": {"80": {"mode": "STRICT"}}})


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9080", "0.0.0.0:80", "[::1]:1", "[::]:65535"])
def test_a_sidecars_default_endpoint_is_the_apps(endpoint: str) -> None:
    listener = {"port": {"number": 1, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": endpoint}
    assert parse("Sidecar", {"ingress": [listener]})


@pytest.mark.parametrize(
    "endpoint", ["10.0.0.1:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "unix:///a"]
)
def test_a_sidecars_default_endpoint_is_nowhere_else(endpoint: str) -> None:
    listener = {"port": {"number": 1, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": endpoint}
    assert fault("Sidecar", {"ingress": [listener]}).startswith("spec.ingress[0].defaultEndpoint: ")


@pytest.mark.parametrize("host", ["reviews", "/reviews", "a b/*", "./", "ns/*.*"])
def test_an_egress_host_is_a_namespace_and_a_host(host: str) -> None:
    assert fault("Sidecar", {"egress": [{"hosts": [host]}]}).startswith("spec.egress[0].hosts[0]: ")


ENTRY: dict[str, Any] = {
    "hosts": ["api.example.com"],
    "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hosts": ["*"]}, "spec.hosts: `*` matches every host"),
        ({"resolution": "DYNAMIC_DNS"}, "spec.resolution: DYNAMIC_DNS is not supported yet"),
        ({"resolution": "DNS", "hosts": ["*.example.com"]}, "cannot be resolved by DNS"),
        ({"resolution": "STATIC", "endpoints": [{"address": "a.example.com"}]}, "needs IP addresses"),
        ({"resolution": "NONE", "endpoints": [{"address": "10.0.0.1"}]}, "are not allowed"),
        ({"ports": [*ENTRY["ports"], {"number": 443, "name": "b"}]}, "a duplicate port number"),
        ({"ports": [{"number": 1, "name": "a", "protocol": "SMTP"}]}, "'SMTP' is not one of HTTP,"),
        ({"addresses": ["10.0.0.0/33"]}, "is not an IP address or a CIDR"),
        ({"workloadSelector": {"labels": {}}}, "needs `labels`"),
    ],
)
def test_a_service_entry_that_contradicts_itself_is_refused(change: dict[str, Any], words: str) -> None:
    assert parse("ServiceEntry", ENTRY)
    assert words in fault("ServiceEntry", ENTRY | change)


@pytest.mark.parametrize("address", ["unix:///run/a.sock", "", "a b", "http://a"])
def test_a_workload_has_an_address(address: str) -> None:
    assert fault("WorkloadEntry", {"address": address}).startswith("spec.address: ")


@pytest.mark.parametrize("bind", ["", "localhost", "10.0.0.0/8", "fe80::1%eth0"])
def test_an_ingress_listener_binds_to_an_ip_address(bind: str) -> None:
    listener = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "bind": bind}
    assert fault("Sidecar", {"ingress": [listener]}) == f"spec.ingress[0].bind: {bind!r} is not an IP address"


@pytest.mark.parametrize("address", ["10.0.0.0/8", "none", "fe80::1%eth0"])
def test_a_cluster_ip_is_an_ip_address_or_none(address: str) -> None:
    words = fault("Service", {"clusterIP": address})
    assert words == f"spec.clusterIP: {address!r} is not an IP address, or None for a headless service"


def test_a_zone_belongs_to_one_machine_and_to_no_service() -> None:
    words = fault("ServiceEntry", {"hosts": ["a.example.com"], "addresses": ["fe80::1%eth0"]})
    assert words == "spec.addresses[0]: 'fe80::1%eth0' is not an IP address or a CIDR"
