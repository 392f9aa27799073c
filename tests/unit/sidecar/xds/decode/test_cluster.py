from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.cluster import (
    CircuitBreakers,
    ClusterConfig,
    Discovery,
    LbPolicy,
    OutlierDetection,
    ServiceMetadata,
    SubsetConfig,
    SubsetFallback,
    SubsetSelector,
)
from sidecar.config.codec_type import CodecType
from sidecar.config.tls import AutoNames
from sidecar.errors import ConfigError
from tests.support.decoded import cluster_with
from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    eds_cluster,
    load_assignment,
    static_cluster,
    upstream_tls,
)


def test_the_defaults_of_a_cluster_are_envoys() -> None:
    found = cluster_with({"name": "c"})
    assert found == ClusterConfig(name="c", discovery=Discovery.STATIC, load_assignment=found.load_assignment)
    assert found.circuit_breakers == CircuitBreakers(
        max_connections=1024, max_pending_requests=1024, max_requests=1024, max_retries=3
    )
    assert cluster_with(static_cluster("c"), "outlier_detection", {}).outlier_detection == OutlierDetection()


def test_the_share_of_hosts_that_may_be_ejected() -> None:
    share = {"max_ejection_percent": 0, "always_eject_one_host": True, "base_ejection_time": "400s"}
    assert cluster_with(
        static_cluster("c"), "outlier_detection", share
    ).outlier_detection == OutlierDetection(
        max_ejection_percent=0, always_eject_one_host=True, base_ejection_time_s=400, max_ejection_time_s=400
    )


@pytest.mark.parametrize("sni", [".a", "a" * 64, "a\0b"])
def test_an_sni_that_is_not_a_host_name_is_refused(sni: str) -> None:
    tls = upstream_tls()
    tls["typed_config"]["sni"] = sni
    with pytest.raises(ConfigError, match=r"sni.*is not a host name"):
        cluster_with(eds_cluster("a", transport_socket=tls))


def test_an_eds_cluster_of_istio() -> None:
    tls = upstream_tls(tls_certificate_sds_secret_configs=[{"name": "default"}])
    tls["typed_config"]["sni"] = "outbound_.9080_._.a"
    raw = {"@type": f"{TYPE}/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}
    document = eds_cluster(
        "outbound|9080||a",
        lb_policy="LEAST_REQUEST",
        transport_socket_matches=[
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": tls},
            {"name": "tlsMode-disabled", "transport_socket": {"name": "raw", "typed_config": raw}},
        ],
        typed_extension_protocol_options={
            HTTP_OPTIONS: {
                "@type": f"{TYPE}/{HTTP_OPTIONS}",
                "common_http_protocol_options": {
                    "idle_timeout": "60s",
                    "max_connection_duration": "90s",
                    "max_requests_per_connection": 9,
                },
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        circuit_breakers={
            "thresholds": [
                {"priority": "HIGH", "max_connections": 1},
                {"max_connections": 7, "retry_budget": {"budget_percent": {"value": 25}}},
            ]
        },
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        metadata={
            "filter_metadata": {"istio": {"services": [{"host": "a.b", "name": "a", "namespace": "b"}]}}
        },
    )
    found = cluster_with(document)

    assert found.eds_service_name == "outbound|9080||a"
    assert found.lb_policy is LbPolicy.LEAST_REQUEST
    istio, disabled = found.transport_socket_matches
    assert istio.match == {"tlsMode": "istio"}
    assert istio.tls is not None
    assert istio.tls.sni == "outbound_.9080_._.a"
    assert disabled.tls is None
    assert found.codec_type is CodecType.HTTP2
    assert (found.idle_timeout_s, found.max_connection_duration_s) == (60.0, 90.0)
    assert found.max_requests_per_connection == 9
    assert found.circuit_breakers.max_connections == 7
    assert found.circuit_breakers.retry_budget is not None
    assert found.circuit_breakers.retry_budget.budget_percent == 25.0
    assert found.healthy_panic_threshold_percent == 0.0
    assert found.service == ServiceMetadata(host="a.b", name="a", namespace="b")


def test_the_longest_ejection_is_at_least_the_base_ejection_time() -> None:
    found = cluster_with(static_cluster("c"), "outlier_detection", {"base_ejection_time": "600s"})
    assert found.outlier_detection is not None
    assert found.outlier_detection.max_ejection_time_s == 600.0
    with pytest.raises(ConfigError, match="enforcing_success_rate: statistical ejection"):
        cluster_with(static_cluster("c"), "outlier_detection", {"enforcing_success_rate": 100})


def test_connections_have_a_source_address_of_each_family() -> None:
    bind = {
        "source_address": {"address": "127.0.0.6", "port_value": 0},
        "extra_source_addresses": [{"address": {"address": "::6", "port_value": 0}}],
    }
    found = cluster_with(static_cluster("c"), "upstream_bind_config", bind)
    assert found.source_addresses == ("127.0.0.6", "::6")


def test_subsets_and_names() -> None:
    subsets = {
        "fallback_policy": "DEFAULT_SUBSET",
        "default_subset": {"v": "1"},
        "subset_selectors": [{"keys": ["v", "w"]}],
    }
    assert cluster_with(static_cluster("c"), "lb_subset_config", subsets).subsets == SubsetConfig(
        selectors=(SubsetSelector(keys=frozenset(("v", "w"))),),
        fallback=SubsetFallback.DEFAULT_SUBSET,
        default_subset={"v": "1"},
    )
    by_name = {
        "name": "c",
        "type": "STRICT_DNS",
        "load_assignment": load_assignment("c", 80, host="a.example"),
    }
    found = cluster_with(by_name)
    assert found.load_assignment is not None
    assert found.load_assignment.endpoints[0].address.host == "a.example"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("lb_policy", "RING_HASH", "RING_HASH is not supported"),
        ("health_checks", [{"timeout": "1s"}], "is not supported"),
        ("load_balancing_policy", {}, "is not supported"),
        ("common_lb_config.locality_weighted_lb_config", {}, "is not supported"),
        ("preconnect_policy", {}, "is not supported"),
        ("load_assignment.endpoints[0].lb_endpoints[0].endpoint.address", {"pipe": {"path": "/x"}}, ""),
        ("upstream_bind_config.source_address", {"address": "1.2.3.4", "port_value": 9}, "only 0"),
        ("upstream_bind_config.source_address", {"address": "localhost", "port_value": 0}, "not an IP"),
    ],
)
def test_a_field_of_a_cluster_that_is_not_supported_is_refused(path: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cluster_with(static_cluster("c"), path, value)
    assert caught.value.path.startswith(path)
    assert reason in caught.value.reason


def with_names(**options: object) -> dict[str, Any]:
    packed: dict[str, Any] = {"@type": f"{TYPE}/{HTTP_OPTIONS}", "upstream_http_protocol_options": options}
    packed["explicit_http_config"] = {"http_protocol_options": {}}
    return {**static_cluster("c"), "typed_extension_protocol_options": {HTTP_OPTIONS: packed}}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, None),
        ({"override_auto_sni_header": "x-name"}, None),
        ({"auto_sni": True}, AutoNames(sni=True)),
        ({"auto_san_validation": True}, AutoNames(san=True)),
        (
            {"auto_sni": True, "auto_san_validation": True, "override_auto_sni_header": "X-Name"},
            AutoNames(sni=True, san=True, header=b"x-name"),
        ),
    ],
)
def test_the_names_of_hosts_may_come_from_requests(
    options: dict[str, object], names: AutoNames | None
) -> None:
    assert cluster_with(with_names(**options)).auto_names == names


def test_a_pseudo_header_with_the_name_of_the_host_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\.override_auto_sni_header: ':path' is not supported"):
        cluster_with(with_names(auto_sni=True, override_auto_sni_header=":path"))
