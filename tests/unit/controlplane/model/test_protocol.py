from __future__ import annotations

import pytest

from controlplane.model.protocol import select_protocol
from controlplane.model.service import Protocol


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("http", Protocol.HTTP),
        ("http-web", Protocol.HTTP),
        ("HTTP2", Protocol.HTTP2),
        ("grpc", Protocol.GRPC),
        ("grpc-web", Protocol.GRPC_WEB),
        ("grpc-web-admin", Protocol.GRPC_WEB),
        ("https-admin", Protocol.HTTPS),
        ("tls", Protocol.TLS),
        ("tcp-echo", Protocol.TCP),
        ("mongo", Protocol.TCP),
        ("httpx", Protocol.UNSUPPORTED),
        ("web-http", Protocol.UNSUPPORTED),
        ("", Protocol.UNSUPPORTED),
    ],
)
def test_a_ports_name_starts_with_its_protocol(name: str, protocol: Protocol) -> None:
    assert select_protocol(name) is protocol


def test_app_protocol_has_precedence_over_the_name() -> None:
    assert select_protocol("http", "kubernetes.io/h2c") is Protocol.HTTP2
    assert select_protocol("http", "example.com/custom") is Protocol.UNSUPPORTED


@pytest.mark.parametrize(
    ("name", "number", "protocol"),
    [
        ("", 3306, Protocol.TCP),
        ("db", 27017, Protocol.TCP),
        ("http", 3306, Protocol.HTTP),
        ("db", 5432, Protocol.UNSUPPORTED),
    ],
)
def test_some_port_numbers_have_a_protocol_if_the_name_has_none(
    name: str, number: int, protocol: Protocol
) -> None:
    assert select_protocol(name, None, number) is protocol


def test_app_protocol_is_read_as_a_name_is() -> None:
    assert select_protocol("tcp", "http-api") is Protocol.HTTP
    assert select_protocol("", "grpc-web-admin") is Protocol.GRPC_WEB
