"""The table of what is understood fits the descriptors, and whatever it does not list is refused by name."""

from __future__ import annotations

import re

import pytest
from envoy.admin.v3 import config_dump_pb2
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2
from google.protobuf import descriptor_pool
from validate import validate_pb2

from sidecar.errors import ConfigError
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.types import message_class
from sidecar.xds.decode.view import check

POOL = descriptor_pool.Default()
# What `rules` implements, of the many that a descriptor could state.
RULES = re.compile(
    r"(message\.(required|skip)|(any|duration|timestamp)\.required|enum\.(defined_only|not_in)|bool\.const"
    r"|(float|double|int32|int64|uint32|uint64|duration)\.(gt|gte|lt|lte)|bytes\.(min_len|max_len)"
    r"|string\.(min_len|max_bytes|in|pattern|well_known_regex|strict|ignore_empty)"
    r"|repeated\.(min_items|max_items|unique)|map\.(min_pairs|no_sparse|keys\.string\.min_len)"
    r"|repeated\.items\.(uint32|enum|string|message)\.\w+)\Z"
)


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_every_name_in_the_table_exists(name: str) -> None:
    descriptor = POOL.FindMessageTypeByName(name)
    fields = {field.name for field in descriptor.fields}
    support = SUPPORTED[name]

    assert support.fields <= fields
    assert support.ignored.keys() <= fields
    assert not support.fields & support.ignored.keys()
    assert all(support.ignored.values()), "a reason is given"


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_every_message_in_a_supported_field_is_in_the_table(name: str) -> None:
    for field in POOL.FindMessageTypeByName(name).fields:
        inner = field.message_type
        if field.name not in SUPPORTED[name].fields or inner is None:
            continue
        if inner.file.package != "google.protobuf" and not inner.GetOptions().map_entry:
            assert inner.full_name in SUPPORTED, field.full_name


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_every_rule_of_a_supported_message_is_enforced(name: str) -> None:
    for field in POOL.FindMessageTypeByName(name).fields:
        for rule in rule_names(field.GetOptions().Extensions[validate_pb2.rules]):
            assert RULES.match(rule), f"{field.full_name}: {rule}"


def rule_names(message: object, prefix: str = "") -> list[str]:
    names: list[str] = []
    for field, value in message.ListFields():  # type: ignore[attr-defined]  # a message of any type
        if field.message_type is not None and field.message_type.file.package == "validate":
            names += rule_names(value, f"{prefix}{field.name}.")
        else:
            names.append(prefix + field.name)
    return names


def test_an_unsupported_field_is_refused_by_its_path() -> None:
    host = route_components_pb2.VirtualHost(name="h", domains=["*"])
    host.routes.add(match={"prefix": "/"}, route={"cluster": "c", "internal_redirect_policy": {}})
    with pytest.raises(ConfigError) as caught:
        check(host, "virtual_hosts[0]")
    assert caught.value.path == "virtual_hosts[0].routes[0].route.internal_redirect_policy"
    assert caught.value.reason == "is not supported"


def test_a_field_that_is_set_to_its_default_is_refused_too_when_that_can_be_seen() -> None:
    cluster = cluster_pb2.Cluster(name="c", upstream_connection_options={"happy_eyeballs_config": {}})
    with pytest.raises(ConfigError, match="happy_eyeballs_config: is not supported"):
        check(cluster)


def test_a_field_of_a_newer_api_is_refused_by_its_number() -> None:
    newer = cluster_pb2.Cluster.FromString(b"\x0a\x01c\xfa\x7f\x01x")
    with pytest.raises(ConfigError, match="has an unknown field, number 2047"):
        check(newer)


def test_an_ignored_field_is_not_looked_into() -> None:
    check(bootstrap_pb2.Bootstrap(layered_runtime={"layers": [{"name": ""}]}))


def test_a_message_that_nobody_thought_of_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"envoy\.admin\.v3\.ConfigDump is not supported"):
        check(config_dump_pb2.ConfigDump())
    with pytest.raises(KeyError):
        message_class("envoy.admin.v3.ConfigDump")
