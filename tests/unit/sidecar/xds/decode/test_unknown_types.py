"""An Any of an unknown type does harm only where a decoder reads it, in JSON as on the wire."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from sidecar.bootstrap import load, parse_arguments
from sidecar.config.bootstrap import Bootstrap
from sidecar.errors import BootstrapError
from sidecar.xds.decode import bootstrap_json
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.unknown_types import hide, restore
from sidecar.xds.decode.view import check
from tests.support.envoy_config import CHAIN, CLUSTER, HOST, LISTENER, MANAGER, ROUTE, bootstrap, changed

POOL = descriptor_pool.Default()
TYPE = "type.googleapis.com/acme.v1.Unknown"
UNKNOWN = {"@type": TYPE, "key": [1, {"b": None}]}
EXTENSION = {"name": "acme", "typed_config": UNKNOWN}


def places_of_an_any(descriptor: Descriptor, above: tuple[str, ...] = ()) -> Iterator[Any]:
    """JSON of the message with an unknown Any in it, one for each place."""
    if descriptor.full_name == "google.protobuf.Any":
        yield UNKNOWN
        return
    if descriptor.full_name in above or len(above) > 3:
        return
    for field in descriptor.fields:
        message = field.message_type
        if message is None:
            continue
        is_map = message.GetOptions().map_entry
        inner = message.fields_by_name["value"].message_type if is_map else message
        if inner is None:
            continue
        for value in places_of_an_any(inner, (*above, descriptor.full_name)):
            yield {field.json_name: {"a": value} if is_map else [value] if field.is_repeated else value}


@pytest.mark.parametrize(
    "name", sorted(name for name, support in SUPPORTED.items() if support.without_effect)
)
def test_a_field_without_effect_may_hold_an_unknown_type(name: str) -> None:
    descriptor = POOL.FindMessageTypeByName(name)
    for document in places_of_an_any(descriptor):
        (field,) = (field for field in descriptor.fields if field.json_name in document)
        if field.name not in SUPPORTED[name].without_effect:
            continue
        message = GetMessageClass(descriptor)()
        json_format.ParseDict(hide(document, descriptor), message)
        assert restore(message), document
        over_the_wire = message.SerializeToString()
        assert TYPE.encode() in over_the_wire
        assert b"StringValue" not in over_the_wire


def loaded(document: Any) -> Bootstrap:
    return load(parse_arguments(["--config-yaml", json.dumps(document)], {}))


CARES = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("typed_dns_resolver_config", EXTENSION),
        ("typedDnsResolverConfig", EXTENSION),
        ("default_regex_engine", EXTENSION),
        (
            "default_regex_engine",
            {
                "name": "envoy.regex_engines.google_re2",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2"},
            },
        ),
        ("watchdogs", {"main_thread_watchdog": {"actions": [{"config": EXTENSION, "event": "KILL"}]}}),
        ("node.extensions", [{"name": "a"}]),
        ("admin.access_log", [EXTENSION]),
        (f"{LISTENER}.connection_balance_config", {"extend_balance": EXTENSION}),
        (f"{CHAIN}.metadata", {"typed_filter_metadata": {"a": UNKNOWN}}),
        (f"{CLUSTER}.metadata", {"typed_filter_metadata": {"a": UNKNOWN}}),
        (f"{HOST}.metadata", {"typed_filter_metadata": {"a": UNKNOWN}}),
        (f"{ROUTE}.metadata", {"typed_filter_metadata": {"a": UNKNOWN}}),
        (f"{MANAGER}.http_filters[0]", {**EXTENSION, "is_optional": True}),
    ],
)
def test_an_unknown_type_in_a_field_without_effect_is_accepted(path: str, value: object) -> None:
    document = bootstrap()
    if path.startswith(f"{MANAGER}.http_filters"):
        filters = [value, *document_at(document, f"{MANAGER}.http_filters")]
        path, value = f"{MANAGER}.http_filters", filters
    found = loaded(changed(document, path, value))
    assert found.static.listeners.keys() == loaded(document).static.listeners.keys()
    assert json.dumps(bootstrap_json(found.message)), "it can be dumped"


def document_at(document: Any, path: str) -> Any:
    for step in path.replace("]", "").replace("[", ".").split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def test_a_resolver_of_another_kind_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded({**bootstrap(), "typed_dns_resolver_config": EXTENSION})
    assert "typed_dns_resolver_config has no effect" in caplog.text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{MANAGER}.http_filters", [EXTENSION]),
        (f"{CHAIN}.filters", [EXTENSION]),
        (f"{CHAIN}.transport_socket", EXTENSION),
        (f"{CLUSTER}.typed_dns_resolver_config", EXTENSION),
    ],
)
def test_an_unknown_type_in_a_field_that_is_read_is_refused(path: str, value: object) -> None:
    with pytest.raises(BootstrapError, match=r"type acme\.v1\.Unknown is not supported here; use"):
        loaded(changed(bootstrap(), path, value))


def test_the_dump_shows_only_the_type() -> None:
    boot = loaded({**bootstrap(), "default_regex_engine": EXTENSION})
    shown = bootstrap_json(boot.message)["default_regex_engine"]
    assert TYPE in json.dumps(shown)
    assert "key" not in json.dumps(shown)


@pytest.mark.parametrize(
    "value", [3, {"name": "a", "typed_config": [UNKNOWN]}, {"typed_config": {"@type": 3}}]
)
def test_a_value_of_the_wrong_json_type_is_refused(value: object) -> None:
    with pytest.raises(BootstrapError, match=r"default_regex_engine|is not a valid bootstrap file"):
        loaded({**bootstrap(), "default_regex_engine": value})


def test_a_struct_can_have_a_key_that_is_called_type() -> None:
    found = loaded(changed(bootstrap(), "node.metadata", {"a": {"@type": TYPE}}))
    assert found.node_metadata == {"a": {"@type": TYPE}}


def test_an_unknown_type_on_the_wire_is_not_parsed() -> None:
    message = GetMessageClass(POOL.FindMessageTypeByName("envoy.config.bootstrap.v3.Bootstrap"))()
    message.default_regex_engine.name = "a"
    message.default_regex_engine.typed_config.type_url = TYPE
    message.default_regex_engine.typed_config.value = b"\xff"
    check(message, SUPPORTED)
