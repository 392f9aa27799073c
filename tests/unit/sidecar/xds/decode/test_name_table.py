from __future__ import annotations

from typing import Any

import pytest

from protos.nds_pb2 import NameTable as NameTableMessage
from protos.type_urls import NAME_TABLE, NAME_TABLE_NAME
from sidecar.config.name_table import NameInfo, NameTable
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource, resource_name
from tests.support.ads_server import packed


def decoded(**table: Any) -> NameTable:
    found = decode_resource(NAME_TABLE, packed(NAME_TABLE, {"table": table}).value)
    assert isinstance(found, NameTable)
    return found


def test_the_type_url_is_that_of_the_message() -> None:
    assert NAME_TABLE.endswith(f"/{NameTableMessage.DESCRIPTOR.full_name}")


def test_the_message_of_istio_is_read() -> None:
    """Field by field, as Istio numbers them: ``table`` is 1; ``ips``, ``registry``, ``shortname``
    and ``namespace`` are 1 to 4."""
    info = b"\x0a\x0810.1.2.3" + b"\x0a\x04fd::" + b"\x12\x0aKubernetes" + b"\x1a\x01a" + b"\x22\x01b"
    host = b"a.b.svc.cluster.local"
    entry = b"\x0a" + bytes([len(host)]) + host + b"\x12" + bytes([len(info)]) + info
    body = b"\x0a" + bytes([len(entry)]) + entry
    assert resource_name(NAME_TABLE, body) == NAME_TABLE_NAME
    assert decode_resource(NAME_TABLE, body) == NameTable(
        hosts={
            host.decode(): NameInfo(
                v4=("10.1.2.3",), v6=("fd::",), registry="Kubernetes", shortname="a", namespace="b"
            )
        }
    )


def test_hosts_are_in_lower_case_without_the_last_dot() -> None:
    assert decoded(**{"WWW.Example.com.": {"ips": ["10.0.0.1"]}}).hosts.keys() == {"www.example.com"}


def test_an_empty_table_is_a_table() -> None:
    assert decoded() == NameTable()


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "ä.b",
        "a.*.b",
        "*a.b",
        "a" * 64 + ".b",
        ".".join(["a" * 60] * 5),
    ],
)
def test_a_name_that_no_query_can_have_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is not a host name"):
        decoded(**{host: {"ips": ["10.0.0.1"]}})


def test_an_address_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError) as raised:
        decoded(**{"a.example.com": {"ips": ["10.0.0.1", "10.0.0.0/8"]}})
    assert str(raised.value) == "table[a.example.com].ips[1]: '10.0.0.0/8' is not an IP address"
