from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.config.snapshot import EMPTY_SNAPSHOT
from sidecar.errors import BootstrapError
from sidecar.identity.svid import Svid
from sidecar.observability.request_metrics import LocalWorkload
from sidecar.workload import ca_cluster, local_workload, spiffe_id, svid_rotation, token_reader

WITH_CA = Settings(ca_address="istiod:15012", ca_cert=Path("/roots.pem"), token="t")


def ignore(svid: Svid) -> None:
    pass


def bootstrap(**metadata: Any) -> Bootstrap:
    return Bootstrap(node_metadata=metadata)


def test_labels_come_from_the_nodes_metadata() -> None:
    metadata = {
        "WORKLOAD_NAME": "reviews-v1",
        "NAMESPACE": "bookinfo",
        "CLUSTER_ID": "west",
        "SERVICE_ACCOUNT": "reviews",
        "LABELS": {"app": "reviews", "service.istio.io/canonical-revision": "v1", "version": "old"},
    }
    assert local_workload(WITH_CA, bootstrap(**metadata)) == LocalWorkload(
        name="reviews-v1",
        namespace="bookinfo",
        app="reviews",
        version="v1",
        cluster="west",
        principal="spiffe://cluster.local/ns/bookinfo/sa/reviews",
    )


@pytest.mark.parametrize("metadata", [{}, {"LABELS": "none"}, {"LABELS": {"app": ""}, "NAMESPACE": None}])
def test_missing_fields_of_the_node_are_unknown(metadata: dict[str, Any]) -> None:
    assert local_workload(Settings(), bootstrap(**metadata)) == LocalWorkload()


def test_a_certificate_needs_a_name_to_be_for() -> None:
    with pytest.raises(BootstrapError, match="a certificate needs a namespace"):
        spiffe_id(Settings(), bootstrap(NAMESPACE="default"))


def test_the_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    read = token_reader(Settings(token_file=file, token="from the environment"))
    assert read is not None
    assert read() == "one"
    file.write_text("two")
    assert read() == "two"
    from_environment = token_reader(Settings(token="t"))
    assert from_environment is not None
    assert from_environment() == "t"
    assert token_reader(Settings()) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(ca_address="istiod:15012"), "--ca-address needs --ca-cert"),
        (Settings(ca_address="istiod:15012", ca_cert=Path("/roots")), "--ca-address needs --token-file"),
    ],
)
def test_missing_settings_for_the_ca_are_named(settings: Settings, words: str) -> None:
    with pytest.raises(BootstrapError, match=words):
        svid_rotation(settings, bootstrap(NAMESPACE="a", SERVICE_ACCOUNT="b"), ignore)


def test_without_a_ca_there_is_nothing_to_rotate() -> None:
    assert svid_rotation(Settings(), bootstrap(), ignore) is None


@pytest.mark.parametrize(
    ("ca_address", "found"),
    [
        ("plane-0:15012", True),
        ("plane-1:15012", True),
        ("plane-0:15010", False),
        ("elsewhere:15012", False),
        ("[", False),
    ],
)
def test_the_ca_has_the_replicas_of_the_static_cluster_with_its_address(ca_address: str, found: bool) -> None:
    endpoints = tuple(Endpoint(address=SocketAddress(f"plane-{number}", 15012)) for number in range(2))
    cluster = ClusterConfig(
        name="xds",
        discovery=Discovery.STRICT_DNS,
        load_assignment=LoadAssignment(cluster_name="xds", endpoints=endpoints),
    )
    other = ClusterConfig(name="other", discovery=Discovery.EDS)
    static = replace(EMPTY_SNAPSHOT, clusters={"other": other, "xds": cluster})
    assert ca_cluster(ca_address, Bootstrap(static=static)) is (cluster if found else None)
