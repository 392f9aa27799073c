"""The fields that the decoders declare are the fields that they read, over messages that use all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from protos import type_urls
from sidecar.errors import ConfigError
from sidecar.xds.decode.bootstrap_message import decode_bootstrap_message
from sidecar.xds.decode.cluster import decode_cluster
from sidecar.xds.decode.endpoint import decode_load_assignment
from sidecar.xds.decode.listener import decode_listener
from sidecar.xds.decode.name_table import decode_name_table
from sidecar.xds.decode.route import decode_route_configuration
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.unknown_types import hide, restore
from sidecar.xds.decode.view import check
from tests.support.ads_server import MESSAGES
from tests.support.recorded_reads import Reads

TESTS = Path(__file__).parents[4]
PARITY = TESTS / "interop" / "parity"
# Resources by kind, as the control plane sends them.
SNAPSHOTS = [TESTS / "golden" / f"bookinfo_{name}.json" for name in ("explicit", "redirected", "strict")]
BOOTSTRAPS = [
    PARITY / f"{name}.yaml"
    for name in ("bootstrap", "access_log", "tcp_bootstrap", "dns_bootstrap", "cors_and_fault_bootstrap")
]
EVERY_FIELD = Path(__file__).with_name("every_field.yaml")
DECODERS: Mapping[str, Any] = {
    type_urls.LISTENER: decode_listener,
    type_urls.ROUTE: decode_route_configuration,
    type_urls.CLUSTER: decode_cluster,
    type_urls.ENDPOINT: decode_load_assignment,
    type_urls.NAME_TABLE: decode_name_table,
}
KINDS = {
    "listeners": type_urls.LISTENER,
    "routes": type_urls.ROUTE,
    "clusters": type_urls.CLUSTER,
    "endpoints": type_urls.ENDPOINT,
    "names": type_urls.NAME_TABLE,
}


class Placeholders(dict[str, str]):
    """Values for the placeholders of a bootstrap file: files by name, and ports."""

    def __missing__(self, name: str) -> str:
        return f"/{name}" if name in ("certificate", "key", "folder") else "1"


def resources() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in SNAPSHOTS:
        for kind, named in json.loads(file.read_text()).items():
            for document in named.values():
                yield KINDS[kind], document
    for kind, documents in yaml.safe_load(EVERY_FIELD.read_text())["resources"].items():
        for document in documents:
            yield KINDS[kind], document


def refused_resources() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, documents in yaml.safe_load(EVERY_FIELD.read_text())["refused"].items():
        for document in documents:
            yield KINDS[kind], document


def bootstraps() -> Iterator[Mapping[str, Any]]:
    for file in BOOTSTRAPS:
        yield yaml.safe_load(Template(file.read_text()).substitute(Placeholders()))
    yield from yaml.safe_load(EVERY_FIELD.read_text())["bootstraps"]


def parsed(type_url: str, document: Mapping[str, Any]) -> Any:
    message = json_format.ParseDict(dict(document), MESSAGES[type_url]())
    check(message, SUPPORTED)
    return message


@pytest.fixture(scope="module")
def read() -> Mapping[str, set[str]]:
    reads = Reads()
    view_class = reads.view_class()
    for type_url, document in resources():
        DECODERS[type_url](view_class(parsed(type_url, document), SUPPORTED))
    for type_url, document in refused_resources():
        message = parsed(type_url, document)
        with pytest.raises(ConfigError):
            DECODERS[type_url](view_class(message, SUPPORTED))
    for document in bootstraps():
        message = bootstrap_pb2.Bootstrap()
        json_format.ParseDict(hide(document, message.DESCRIPTOR), message)
        restore(message)
        check(message, SUPPORTED)
        decode_bootstrap_message(view_class(message, SUPPORTED), message=b"", node_document={})
    return reads.fields


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_the_declared_fields_are_read_and_no_others(name: str, read: Mapping[str, set[str]]) -> None:
    assert read.get(name, set()) == SUPPORTED[name].fields | SUPPORTED[name].kept


def test_no_other_message_is_read(read: Mapping[str, set[str]]) -> None:
    assert read.keys() <= SUPPORTED.keys()
