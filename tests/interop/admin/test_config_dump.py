"""The page ``/config_dump``, compared with Envoy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from envoy.admin.v3 import config_dump_pb2, config_dump_shared_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import message_factory
from google.protobuf.message import Message

from tests.interop.admin.pair import Pair, parsed
from tests.support.admin_client import Page

# Imported so that the messages in a dump can be parsed.
DUMPED = (config_dump_shared_pb2, router_pb2, http_connection_manager_pb2, tcp_proxy_pb2, tls_pb2)


def dump(page: Page) -> Any:
    return parsed(page, config_dump_pb2.ConfigDump())


def test_the_config_dump_has_envoys_sections(pair: Pair) -> None:
    for path in ("/config_dump", "/config_dump?include_eds"):
        envoy, sidecar = (
            [section.TypeName().removeprefix("envoy.admin.v3.") for section in dump(page).configs]
            for page in pair.ask(path)
        )
        envoy.remove("ScopedRoutesConfigDump")
        assert sidecar == envoy


@pytest.mark.parametrize(
    "query",
    [
        "static_clusters",
        "static_listeners",
        "static_route_configs",
        "dynamic_listeners",
        "dynamic_active_clusters",
        "dynamic_route_configs",
        "static_clusters&name_regex=ref.*",
        "static_clusters&name_regex=ref",
        "static_listeners&name_regex=web|raw",
        "static_route_configs&name_regex=web",
        "static_secrets&name_regex=roots",
    ],
)
def test_a_resource_of_the_dump_has_the_same_items(pair: Pair, query: str) -> None:
    envoy, sidecar = (
        sorted(str(without_time(item)) for item in dump(page).configs)
        for page in pair.ask(f"/config_dump?resource={query}")
    )
    assert sidecar == envoy


def without_time(item: Any) -> Message:
    """Ignores the time at which the file was read, and the order of clusters."""
    descriptor = config_dump_shared_pb2.DESCRIPTOR.pool.FindMessageTypeByName(item.TypeName())
    entry = message_factory.GetMessageClass(descriptor)()
    assert item.Unpack(entry)
    entry.ClearField("last_updated")
    return entry


def test_static_endpoints_are_shown_when_asked_for(pair: Pair) -> None:
    names = [
        sorted(entry["endpoint_config"]["cluster_name"] for entry in page.json["configs"])
        for page in pair.ask("/config_dump?include_eds&resource=static_endpoint_configs")
    ]
    assert names[0] == names[1] == ["named", "refusing", "upstream"]


def test_no_private_key_is_in_the_dump(pair: Pair) -> None:
    options = pair.sidecar.ask("/server_info").json["command_line_options"]
    assert "PRIVATE KEY" in Path(options["config_path"]).read_text()
    assert "PRIVATE KEY" not in pair.sidecar.ask("/config_dump?include_eds").body
