from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap as BootstrapMessage
from envoy.config.grpc_credential.v3 import file_based_metadata_pb2  # noqa: F401 - registers the typed_config
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401 - the same
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401 - the same
from google.protobuf.json_format import ParseDict

from controlplane.errors import SettingsError
from controlplane.injection.bootstrap_document import Address
from tests.support.bootstrap_documents import bootstrap


def xds_cluster(document: dict[str, Any]) -> dict[str, Any]:
    [cluster] = document["static_resources"]["clusters"]
    return cluster


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"delta": False, "http_proxy_port": 4000},
        {"ca_certificate": Path("/ca.pem"), "identity_dir": Path("/identity"), "labels": {"app": "reviews"}},
        {"ca_certificate": Path("/ca.pem"), "xds_address": Address(host="outrigger.example", port=15012)},
    ],
)
def test_every_bootstrap_is_one_by_envoys_own_schema(changes: dict[str, Any]) -> None:
    message = ParseDict(bootstrap(**changes), BootstrapMessage())
    assert message.node.id == "sidecar~10.0.0.1~reviews-v1.bookinfo~bookinfo.svc.cluster.local"
    assert message.node.cluster == "reviews-v1.bookinfo"
    assert message.dynamic_resources.cds_config.HasField("ads")
    assert message.dynamic_resources.lds_config.HasField("ads")
    [service] = message.dynamic_resources.ads_config.grpc_services
    assert service.envoy_grpc.cluster_name == message.static_resources.clusters[0].name == "xds-grpc"


def test_the_bootstrap_raises_envoys_limit_for_regular_expressions() -> None:
    """With its default limit of 100, Envoy would reject whole route configurations."""
    static, admin = bootstrap()["layered_runtime"]["layers"]
    assert static["static_layer"] == {"re2.max_program_size.error_level": 32768}
    assert admin["admin_layer"] == {}


def test_the_admin_port_is_on_loopback() -> None:
    assert bootstrap(admin_port=15001)["admin"]["address"]["socket_address"] == {
        "address": "127.0.0.1",
        "port_value": 15001,
    }


def test_the_node_identifies_the_workload() -> None:
    metadata = bootstrap(service_account="reviews", labels={"app": "reviews"}, http_proxy_port=4000)["node"][
        "metadata"
    ]
    assert metadata == {
        "NAMESPACE": "bookinfo",
        "SERVICE_ACCOUNT": "reviews",
        "WORKLOAD_NAME": "reviews-v1",
        "LABELS": {"app": "reviews"},
        "INTERCEPTION_MODE": "REDIRECT",
        "HTTP_PROXY_PORT": "4000",
    }


def test_xds_is_incremental_or_state_of_the_world() -> None:
    assert bootstrap()["dynamic_resources"]["ads_config"]["api_type"] == "DELTA_GRPC"
    assert bootstrap(delta=False)["dynamic_resources"]["ads_config"]["api_type"] == "GRPC"


def test_plaintext_has_no_tls_context() -> None:
    assert "transport_socket" not in xds_cluster(bootstrap())


@pytest.mark.parametrize(
    ("host", "san_type", "kind"),
    [
        ("10.1.1.1", "IP_ADDRESS", "STATIC"),
        ("outrigger.example", "DNS", "STRICT_DNS"),
        ("::1", "IP_ADDRESS", "STATIC"),
    ],
)
def test_over_tls_the_control_planes_name_is_checked(host: str, san_type: str, kind: str) -> None:
    """Every workload has a certificate from the same root, so the root alone does not identify the control
    plane."""
    cluster = xds_cluster(
        bootstrap(ca_certificate=Path("/ca.pem"), xds_address=Address(host=host, port=15012))
    )
    tls = cluster["transport_socket"]["typed_config"]
    assert cluster["type"] == kind
    assert tls["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "/ca.pem"},
        "match_typed_subject_alt_names": [{"san_type": san_type, "matcher": {"exact": host}}],
    }
    assert tls.get("sni") == (host if san_type == "DNS" else None)


def test_an_envoy_finds_its_identity_under_istios_secret_names() -> None:
    secrets = bootstrap(identity_dir=Path("/identity"))["static_resources"]["secrets"]
    assert [secret["name"] for secret in secrets] == ["default", "ROOTCA"]
    assert secrets[0]["tls_certificate"] == {
        "certificate_chain": {"filename": "/identity/cert-chain.pem"},
        "private_key": {"filename": "/identity/key.pem"},
    }
    assert secrets[1]["validation_context"]["trusted_ca"] == {"filename": "/identity/root-cert.pem"}


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:http", "host:-1"])
def test_an_invalid_address_is_rejected(text: str) -> None:
    with pytest.raises(SettingsError, match=r"invalid address .*: expected HOST:PORT"):
        Address.parse(text)


def test_an_ipv6_address_loses_its_brackets() -> None:
    assert Address.parse("[::1]:15010") == Address(host="::1", port=15010)


def test_an_envoy_reads_its_token_from_a_file() -> None:
    document = bootstrap(
        ca_certificate=Path("/ca.pem"),
        token_file=Path("/token"),
        xds_address=Address(host="::1", port=15012),
        metadata={"OWNER": "x"},
        node_cluster="reviews.bookinfo",
    )
    message = ParseDict(document, BootstrapMessage())
    [service] = message.dynamic_resources.ads_config.grpc_services
    assert service.google_grpc.target_uri == "[::1]:15012"
    assert service.google_grpc.channel_credentials.ssl_credentials.root_certs.filename == "/ca.pem"
    assert not message.static_resources.clusters
    assert message.node.cluster == "reviews.bookinfo"
    assert message.node.metadata["OWNER"] == "x"
