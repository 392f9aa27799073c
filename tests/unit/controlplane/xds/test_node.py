from __future__ import annotations

from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.json_format import ParseDict

from controlplane.errors import ProxyError
from controlplane.model.proxy import InterceptionMode, ProxyType
from controlplane.xds.node import proxy_of, version_of

ID = "sidecar~10.0.0.7~reviews-v1.bookinfo~bookinfo.svc.cluster.local"


def node(node_id: str = ID, metadata: dict[str, Any] | None = None, **fields: Any) -> Node:
    return ParseDict({"id": node_id, "metadata": metadata or {}, **fields}, Node())


def test_a_sidecar_is_read_from_its_node() -> None:
    proxy = proxy_of(
        node(
            metadata={
                "NAMESPACE": "bookinfo",
                "LABELS": {"app": "reviews"},
                "SERVICE_ACCOUNT": "reviews",
                "HTTP_PROXY_PORT": "15007",
                "INTERCEPTION_MODE": "NONE",
                "IDENTITY_DIR": "/var/run/outrigger/identity/",
            },
        )
    )
    assert proxy.id == ID
    assert proxy.type is ProxyType.SIDECAR
    assert (proxy.namespace, proxy.workload, proxy.ip) == ("bookinfo", "reviews-v1", "10.0.0.7")
    assert proxy.labels == {"app": "reviews"}
    assert proxy.service_account == "reviews"
    assert proxy.http_proxy_port == 15007
    assert proxy.interception_mode is InterceptionMode.NONE
    assert proxy.identity_dir == "/var/run/outrigger/identity"


def test_ports_may_be_numbers() -> None:
    assert proxy_of(node(metadata={"HTTP_PROXY_PORT": 15007})).http_proxy_port == 15007


@pytest.mark.parametrize(
    ("value", "captured"), [("true", True), (True, True), ("False", False), (False, False), ("", False)]
)
def test_dns_capture_may_be_text_or_a_boolean(value: str | bool, captured: bool) -> None:
    assert proxy_of(node(metadata={"DNS_CAPTURE": value})).captures_dns is captured


@pytest.mark.parametrize(
    "grpc", [node(metadata={"GENERATOR": "grpc"}), node(userAgentName="gRPC C-core linux")]
)
def test_grpcs_own_client_is_recognized(grpc: Node) -> None:
    assert proxy_of(grpc).type is ProxyType.GRPC


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (node(""), "node.id: .*expected <type>~<ip>"),
        (node("envoy-1"), "node.id: .*'envoy-1'"),
        (node("sidecar~1.2.3.4~nodots~x.svc.cluster.local"), "<workload>.<namespace>"),
        (node(metadata={"NAMESPACE": "other"}), "NAMESPACE is 'other'"),
        (node(metadata={"NAMESPACE": 7}), "NAMESPACE: expected a string"),
        (node(metadata={"LABELS": ["a"]}), "LABELS: expected a map"),
        (node(metadata={"LABELS": {"a": {}}}), "metadata.a: expected a string"),
        (node(metadata={"HTTP_PROXY_PORT": 1.5}), "HTTP_PROXY_PORT: expected a port"),
        (node(metadata={"HTTP_PROXY_PORT": -1}), "HTTP_PROXY_PORT: expected a port"),
        (node(metadata={"HTTP_PROXY_PORT": 70000}), "HTTP_PROXY_PORT: expected a port"),
        (node(metadata={"HTTP_PROXY_PORT": "9" * 5000}), "HTTP_PROXY_PORT: expected a port"),
        (
            node(metadata={"INTERCEPTION_MODE": "MAGIC"}),
            "expected one of REDIRECT, TPROXY, NONE, found 'MAGIC'",
        ),
        (node(metadata={"DNS_CAPTURE": "yes"}), "DNS_CAPTURE: expected true or false, found 'yes'"),
        (node(metadata={"DNS_CAPTURE": 1}), "DNS_CAPTURE: expected a string"),
        (node(metadata={"IDENTITY_DIR": "identity"}), "IDENTITY_DIR: expected a path, found 'identity'"),
        (node(metadata={"IDENTITY_DIR": "/" * 300}), "IDENTITY_DIR: expected a path"),
        (node(metadata={"LABELS": {"a": "x" * 70_000}}), "exceed the limit of 65536"),
    ],
)
def test_an_invalid_node_is_rejected_with_the_reason(wrong: Node, words: str) -> None:
    with pytest.raises(ProxyError, match=words):
        proxy_of(wrong)


def test_an_invalid_number_is_not_a_port() -> None:
    wrong = Node(id=ID)
    wrong.metadata.fields["HTTP_PROXY_PORT"].number_value = float("nan")
    with pytest.raises(ProxyError, match="expected a port"):
        proxy_of(wrong)


def test_versions_are_short() -> None:
    build = {"version": {"majorNumber": 1, "minorNumber": 40, "patch": 0}}
    assert version_of(node(userAgentName="envoy", userAgentBuildVersion=build)) == "envoy 1.40.0"
    assert version_of(node(userAgentName="outrigger", userAgentVersion="0.1.0")) == "outrigger 0.1.0"
    assert version_of(node()) == "unknown"
    assert len(version_of(node(userAgentName="x" * 1000))) <= 64
