"""The tables of supported fields fit the descriptors, and every other field is refused by its path."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest
from envoy.admin.v3 import config_dump_pb2
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2
from google.protobuf import descriptor_pool, message_factory
from validate import validate_pb2

import sidecar
import sidecar.config
from protos import type_urls
from sidecar.config.cluster import ClusterConfig
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.view import check
from tests.support.ads_server import packed
from tests.support.envoy_config import eds_cluster, static_cluster, upstream_tls

# The source of secrets in Istio's clusters and listeners.
SDS_GRPC = {
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    },
    "initial_fetch_timeout": "0s",
    "resource_api_version": "V3",
}
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

    listed = [*support.fields, *support.kept, *support.checked, *support.without_effect]
    assert fields.issuperset(listed)
    assert len(listed) == len(set(listed)), "in one category"
    assert all(support.without_effect.values()), "a reason is given"


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_every_message_in_a_supported_field_is_in_the_table(name: str) -> None:
    for field in POOL.FindMessageTypeByName(name).fields:
        inner = field.message_type
        if field.name not in SUPPORTED[name].accepted or field.name in SUPPORTED[name].without_effect:
            continue
        if inner is None:
            continue
        if inner.GetOptions().map_entry:
            inner = inner.fields_by_name["value"].message_type
        if inner is not None and inner.file.package != "google.protobuf":
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
        check(host, SUPPORTED, "virtual_hosts[0]")
    assert caught.value.path == "virtual_hosts[0].routes[0].route.internal_redirect_policy"
    assert caught.value.reason == "is not supported"


def test_an_unsupported_message_field_is_refused_even_if_it_is_empty() -> None:
    cluster = cluster_pb2.Cluster(name="c", upstream_connection_options={"happy_eyeballs_config": {}})
    with pytest.raises(ConfigError, match="happy_eyeballs_config: is not supported"):
        check(cluster, SUPPORTED)


def test_a_field_of_a_newer_api_is_refused_by_its_number() -> None:
    newer = cluster_pb2.Cluster.FromString(b"\x0a\x01c\xfa\x7f\x01x")
    with pytest.raises(ConfigError, match="has an unknown field, number 2047"):
        check(newer, SUPPORTED)


def test_the_contents_of_a_field_without_effect_are_not_checked() -> None:
    check(bootstrap_pb2.Bootstrap(layered_runtime={"layers": [{"name": ""}]}), SUPPORTED)


def test_the_options_of_a_message_that_is_checked_are_refused_if_they_are_not_supported() -> None:
    trailers = cluster_pb2.Cluster(name="c", http_protocol_options={"enable_trailers": True})
    check(trailers, SUPPORTED)
    with pytest.raises(ConfigError, match=r"http_protocol_options\.accept_http_10: is not supported"):
        check(cluster_pb2.Cluster(name="c", http_protocol_options={"accept_http_10": True}), SUPPORTED)


def test_a_message_that_no_decoder_declares_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"envoy\.admin\.v3\.ConfigDump is not supported"):
        check(config_dump_pb2.ConfigDump(), SUPPORTED)


# That what is decoded has an effect.

SOURCES = Path(sidecar.__file__).parent
# Decoded for balancers that are not supported yet.
FOR_BALANCERS = {
    ("ForwardAction", "hash_policies"),
    ("HashPolicy", "source"),
    ("HashPolicy", "terminal"),
    ("CookieHash", "ttl_s"),
    ("CookieHash", "attributes"),
    ("LoadAssignment", "locality_weights"),
}
# Decoded for spans, which are not reported yet.
FOR_SPANS = {
    ("Tracing", "verbose"),
    ("Tracing", "max_path_tag_length"),
    ("Tracing", "custom_tags"),
    ("Tracing", "spawn_upstream_span"),
    ("RouteTracing", "custom_tags"),
    ("LiteralTag", "tag"),
    ("EnvironmentTag", "tag"),
    ("EnvironmentTag", "variable"),
    ("EnvironmentTag", "default"),
    ("RequestHeaderTag", "tag"),
    ("RequestHeaderTag", "header"),
    ("RequestHeaderTag", "default"),
    ("MetadataTag", "tag"),
    ("MetadataTag", "namespace"),
    ("MetadataTag", "default"),
}
# Names that errors and dumps show.
NAMES = {("Ads", "cluster_name"), ("LoadAssignment", "cluster_name")}


def nodes(paths: Iterable[Path]) -> Iterator[ast.AST]:
    for path in sorted(paths):
        yield from ast.walk(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "module",
    [import_module(f"sidecar.config.{found.name}") for found in iter_modules(sidecar.config.__path__)],
)
def test_every_field_that_is_decoded_is_read_by_the_proxy(module: ModuleType) -> None:
    readers = set(SOURCES.rglob("*.py")) - set((SOURCES / "xds" / "decode").rglob("*.py"))
    read = {
        node.attr
        for node in nodes(readers)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        (name, field.name)
        for name, kind in vars(module).items()
        if is_dataclass(kind) and kind.__module__ == module.__name__
        for field in fields(kind)
        if field.name not in read
    }
    assert unread - NAMES - FOR_BALANCERS - FOR_SPANS == set()


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name in sorted(SUPPORTED) for field in SUPPORTED[name].without_effect],
)
def test_a_field_without_effect_is_accepted_unless_the_api_forbids_its_value(name: str, field: str) -> None:
    message = message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))()
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    target = getattr(message, field)
    if descriptor.is_repeated:
        if descriptor.message_type is None:
            target.append(descriptor.enum_type.values[-1].number if descriptor.enum_type else "")
        elif descriptor.message_type.GetOptions().map_entry:
            target["a"]  # an entry, where values are messages
        else:
            target.add()
    elif descriptor.message_type is not None:
        target.SetInParent()
    else:
        setattr(message, field, type(target)(1))
    try:
        check(message, SUPPORTED)
    except ConfigError as error:
        assert "supported" not in error.reason  # noqa: PT017 - fields that are required are not there


def test_the_only_source_of_resources_is_the_aggregated_stream() -> None:
    document = eds_cluster("c", eds_cluster_config={"eds_config": SDS_GRPC})
    with pytest.raises(ConfigError) as caught:
        decode_resource(type_urls.CLUSTER, packed(type_urls.CLUSTER, document).value)
    assert caught.value.path == "eds_cluster_config.eds_config.api_config_source"
    assert caught.value.reason == "only the aggregated stream is supported here; use ads: {}"


def test_the_workloads_own_secrets_may_name_any_source() -> None:
    """istiod names the cluster of its agent."""
    socket = upstream_tls(
        tls_certificate_sds_secret_configs=[{"name": "default", "sds_config": SDS_GRPC}],
        combined_validation_context={
            "default_validation_context": {},
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS_GRPC},
        },
    )
    document = {**static_cluster("c"), "transport_socket": socket}
    found = decode_resource(type_urls.CLUSTER, packed(type_urls.CLUSTER, document).value)
    assert isinstance(found, ClusterConfig)
    assert found.tls is not None
    assert found.tls.parameters.certificate_secret == "default"
    assert found.tls.parameters.validation_secret == "ROOTCA"
