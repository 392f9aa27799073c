from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, Resolution, Service, Workload
from controlplane.networking import build_clusters
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import Specs, external_service, mesh, port, service, sidecar_proxy, workload

REVIEWS = "reviews.default.svc.cluster.local"
SUBSETS = {"host": REVIEWS, "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]}


def clusters(
    target: Service | None = None, *workloads: Workload, rules: Specs | None = None, **mesh_config: Any
) -> dict[str, Cluster]:
    snapshot = mesh((target or service("reviews"), workloads), destination_rules=rules, **mesh_config)
    return build_clusters(BuildCache(), snapshot, sidecar_proxy())


def with_tls(host: str = REVIEWS, **tls: Any) -> Specs:
    return {"rule": {"host": host, "trafficPolicy": {"tls": tls}}}


def tls_context(socket: Any) -> UpstreamTlsContext:
    context = UpstreamTlsContext()
    assert socket.typed_config.Unpack(context)
    return context


def test_one_for_each_port_and_each_subset() -> None:
    target = service("reviews", port(9080), port(9443, Protocol.TLS))
    outbound = [name for name in clusters(target, rules={"reviews": SUBSETS}) if name.startswith("outbound|")]
    assert outbound == [
        f"outbound|{number}|{subset}|{REVIEWS}" for number in (9080, 9443) for subset in ("", "v1", "v2")
    ]


def test_endpoints_come_over_the_aggregated_stream() -> None:
    name = f"outbound|9080|v1|{REVIEWS}"
    built = clusters(rules={"reviews": SUBSETS})[name]
    assert built.type == Cluster.EDS
    assert built.eds_cluster_config.service_name == name
    assert built.eds_cluster_config.eds_config.HasField("ads")


def test_metrics_learn_the_service_from_the_metadata() -> None:
    built = clusters()[f"outbound|9080||{REVIEWS}"]
    (entry,) = built.metadata.filter_metadata["istio"]["services"]
    assert dict(entry) == {"host": REVIEWS, "name": "reviews", "namespace": "default"}


def test_unknown_destinations_have_clusters_of_istios_names() -> None:
    built = clusters()
    assert built["BlackHoleCluster"].type == Cluster.STATIC
    assert not built["BlackHoleCluster"].load_assignment.endpoints
    assert built["PassthroughCluster"].type == Cluster.ORIGINAL_DST


class TestAutoMtlsByAddress:
    """No endpoint is chosen, so none can be asked: they must be alike."""

    def built(self, *workloads: Workload, rules: Specs | None = None, **options: Any) -> Cluster:
        target = options.pop("target", None)
        name = f"outbound|9080||{target.hostname if target else REVIEWS}"
        if rules is None:
            policy = {"loadBalancer": {"simple": "PASSTHROUGH"}}
            rules = {"rule": {"host": REVIEWS, "trafficPolicy": policy}}
        found = clusters(target, *workloads, rules=rules, **options)[name]
        assert found.type == Cluster.ORIGINAL_DST
        assert not found.transport_socket_matches
        return found

    def test_it_is_mesh_tls_where_every_endpoint_has_a_sidecar(self) -> None:
        found = self.built(workload("reviews", "10.1.0.1"), workload("reviews", "10.1.0.2", "v2"))
        context = tls_context(found.transport_socket)
        assert context.sni == f"outbound_.9080_._.{REVIEWS}"
        validation = context.common_tls_context.combined_validation_context.default_validation_context
        (name,) = validation.match_typed_subject_alt_names
        assert name.matcher.exact == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"

    @pytest.mark.parametrize("with_sidecar", [[], [False], [True, False]])
    def test_it_is_plaintext_without_endpoints_or_if_one_has_no_sidecar(
        self, with_sidecar: list[bool]
    ) -> None:
        workloads = [
            workload("reviews", f"10.1.0.{index}", f"v{index}", mesh_tls=mesh_tls)
            for index, mesh_tls in enumerate(with_sidecar, start=1)
        ]
        assert not self.built(*workloads).HasField("transport_socket")

    def test_it_is_plaintext_where_a_policy_of_the_endpoints_refuses_tls(self) -> None:
        off = {"off": {"mtls": {"mode": "DISABLE"}}}
        found = self.built(workload("reviews", "10.1.0.1"), peer_authentications=off)
        assert not found.HasField("transport_socket")

    def test_it_may_be_turned_off(self) -> None:
        found = self.built(workload("reviews", "10.1.0.1"), enable_auto_mtls=False)
        assert not found.HasField("transport_socket")

    def test_a_service_outside_the_mesh_has_none(self) -> None:
        target = external_service("a.example.com", port(9080), resolution=Resolution.NONE)
        assert not self.built(target=target, rules={}).HasField("transport_socket")

    def test_a_subset_that_passes_through_has_it_too(self) -> None:
        subset = {**SUBSETS["subsets"][0], "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}  # type: ignore[dict-item]
        built = clusters(
            None, workload("reviews", "10.1.0.1"), rules={"rule": {"host": REVIEWS, "subsets": [subset]}}
        )
        assert built[f"outbound|9080|v1|{REVIEWS}"].HasField("transport_socket")
        assert built[f"outbound|9080||{REVIEWS}"].transport_socket_matches


def test_auto_mtls_asks_each_endpoint() -> None:
    instance = workload("reviews", "10.1.0.1", service_account="reviews-sa")
    built = clusters(None, instance, rules={"reviews": SUBSETS})[f"outbound|9080|v1|{REVIEWS}"]
    mutual, plain = built.transport_socket_matches
    assert dict(mutual.match) == {"tlsMode": "istio"}
    assert dict(plain.match) == {}
    assert plain.transport_socket.name == "envoy.transport_sockets.raw_buffer"
    context = tls_context(mutual.transport_socket)
    common = context.common_tls_context
    assert context.sni == f"outbound_.9080_.v1_.{REVIEWS}"
    assert list(common.alpn_protocols) == ["istio"]
    assert common.tls_params.tls_minimum_protocol_version == TlsParameters.TLSv1_3
    assert common.tls_params.tls_maximum_protocol_version == TlsParameters.TLSv1_3
    (own,) = common.tls_certificate_sds_secret_configs
    assert own.name == "default"
    assert not own.HasField("sds_config")
    validation = common.combined_validation_context
    assert validation.validation_context_sds_secret_config.name == "ROOTCA"
    (name,) = validation.default_validation_context.match_typed_subject_alt_names
    assert name.matcher.exact == "spiffe://cluster.local/ns/default/sa/reviews-sa"


def identities(*workloads: Workload, **mesh_config: Any) -> list[str]:
    built = clusters(None, *workloads, **mesh_config)[f"outbound|9080||{REVIEWS}"]
    context = tls_context(built.transport_socket_matches[0].transport_socket)
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    return [each.matcher.exact for each in validation.match_typed_subject_alt_names]


def test_every_service_account_of_the_endpoints_may_answer() -> None:
    found = identities(
        workload("reviews", "10.1.0.1", service_account="b"),
        workload("reviews", "10.1.0.2", service_account="a"),
        workload("reviews", "10.1.0.3", service_account="a"),
        trust_domain="example.org",
    )
    assert found == [f"spiffe://example.org/ns/default/sa/{account}" for account in ("a", "b")]


def test_an_account_that_no_certificate_can_name_is_left_out() -> None:
    found = identities(
        workload("reviews", "10.1.0.1", service_account="../admin"),
        workload("reviews", "10.1.0.2", service_account="a"),
    )
    assert found == ["spiffe://cluster.local/ns/default/sa/a"]


def test_http2_ports_offer_it_in_mesh_tls() -> None:
    built = clusters(service("reviews", port(9080, Protocol.GRPC)))[f"outbound|9080||{REVIEWS}"]
    context = tls_context(built.transport_socket_matches[0].transport_socket)
    assert list(context.common_tls_context.alpn_protocols) == ["istio", "h2"]


def test_auto_mtls_can_be_turned_off() -> None:
    built = clusters(enable_auto_mtls=False)[f"outbound|9080||{REVIEWS}"]
    assert not built.transport_socket_matches
    assert not built.HasField("transport_socket")


def test_tls_mode_disable_is_plaintext_for_all() -> None:
    built = clusters(rules=with_tls(mode="DISABLE"))[f"outbound|9080||{REVIEWS}"]
    assert not built.transport_socket_matches
    assert not built.HasField("transport_socket")


def test_tls_mode_istio_mutual_is_mesh_tls_for_all() -> None:
    built = clusters(rules=with_tls(mode="ISTIO_MUTUAL"))[f"outbound|9080||{REVIEWS}"]
    assert not built.transport_socket_matches
    assert tls_context(built.transport_socket).sni == f"outbound_.9080_._.{REVIEWS}"


def test_tls_mode_simple_checks_the_hosts_name_against_the_systems_roots() -> None:
    target = external_service("api.example.com", port(443, Protocol.HTTP))
    built = clusters(target, rules=with_tls("api.example.com", mode="SIMPLE"))[
        "outbound|443||api.example.com"
    ]
    context = tls_context(built.transport_socket)
    validation = context.common_tls_context.validation_context
    assert context.sni == "api.example.com"
    assert validation.trusted_ca.filename
    assert [each.matcher.exact for each in validation.match_typed_subject_alt_names] == ["api.example.com"]
    assert not context.common_tls_context.tls_certificate_sds_secret_configs


def test_tls_mode_simple_checks_the_names_that_the_service_entry_lists() -> None:
    target = external_service("api.example.com", port(443), subject_alt_names=("eu.example.com",))
    built = clusters(target, rules=with_tls("api.example.com", mode="SIMPLE"))[
        "outbound|443||api.example.com"
    ]
    validation = tls_context(built.transport_socket).common_tls_context.validation_context
    assert [each.matcher.exact for each in validation.match_typed_subject_alt_names] == ["eu.example.com"]


def test_tls_mode_simple_can_skip_verification() -> None:
    built = clusters(rules=with_tls(mode="SIMPLE", insecureSkipVerify=True))[f"outbound|9080||{REVIEWS}"]
    assert not tls_context(built.transport_socket).common_tls_context.HasField("validation_context")


def test_tls_mode_mutual_shows_the_named_certificate() -> None:
    built = clusters(
        rules=with_tls(
            mode="MUTUAL",
            clientCertificate="/c.pem",
            privateKey="/k.pem",
            caCertificates="/ca.pem",
            sni="other.example.com",
            subjectAltNames=["spiffe://x/y"],
        )
    )[f"outbound|9080||{REVIEWS}"]
    context = tls_context(built.transport_socket)
    (own,) = context.common_tls_context.tls_certificates
    assert (own.certificate_chain.filename, own.private_key.filename) == ("/c.pem", "/k.pem")
    validation = context.common_tls_context.validation_context
    assert validation.trusted_ca.filename == "/ca.pem"
    assert validation.match_typed_subject_alt_names[0].matcher.exact == "spiffe://x/y"
    assert context.sni == "other.example.com"


def test_external_hosts_get_no_mesh_tls_by_themselves() -> None:
    built = clusters(external_service("api.example.com", port(80)))["outbound|80||api.example.com"]
    assert not built.transport_socket_matches


def addresses(built: Cluster) -> list[tuple[str, int]]:
    return [
        (each.endpoint.address.socket_address.address, each.endpoint.address.socket_address.port_value)
        for locality in built.load_assignment.endpoints
        for each in locality.lb_endpoints
    ]


def test_a_dns_service_resolves_its_own_name() -> None:
    built = clusters(external_service("api.example.com", port(80)))["outbound|80||api.example.com"]
    assert built.type == Cluster.STRICT_DNS
    assert addresses(built) == [("api.example.com", 80)]


def test_a_dns_service_resolves_its_endpoints_names() -> None:
    instance = workload("api", "eu.example.com", mesh_tls=False)
    built = clusters(external_service("api.example.com", port(80)), instance)["outbound|80||api.example.com"]
    assert addresses(built) == [("eu.example.com", 80)]


def test_a_dns_service_speaks_no_mesh_tls_to_an_endpoint_whose_policy_refuses_it() -> None:
    vms = external_service("vm.example.com", port(80), mesh_external=False)
    places = [workload("vm", "a.example.com"), workload("vm", "b.example.com", "v2")]
    refusing = {"v2": {"selector": {"matchLabels": {"version": "v2"}}, "mtls": {"mode": "DISABLE"}}}
    snapshot = mesh((vms, places), peer_authentications=refusing)
    found = build_clusters(BuildCache(), snapshot, sidecar_proxy())["outbound|80||vm.example.com"]
    (locality,) = found.load_assignment.endpoints
    in_mesh_tls = [
        "envoy.transport_socket_match" in each.metadata.filter_metadata for each in locality.lb_endpoints
    ]
    assert in_mesh_tls == [True, False]


def test_an_external_name_is_resolved() -> None:
    target = external_service("db.default.svc.cluster.local", port(80), external_name="db.example.com")
    built = clusters(target)["outbound|80||db.default.svc.cluster.local"]
    assert addresses(built) == [("db.example.com", 80)]


def test_dns_round_robin_is_logical_dns_where_there_is_one_name() -> None:
    target = external_service("api.example.com", port(80), resolution=Resolution.DNS_ROUND_ROBIN)
    assert clusters(target)["outbound|80||api.example.com"].type == Cluster.LOGICAL_DNS
    two = [workload("api", f"{zone}.example.com") for zone in ("eu", "us")]
    assert clusters(target, *two)["outbound|80||api.example.com"].type == Cluster.STRICT_DNS


def test_resolution_none_dials_the_original_destination() -> None:
    target = external_service("*.example.com", port(443, Protocol.TLS), resolution=Resolution.NONE)
    built = clusters(target)["outbound|443||*.example.com"]
    assert built.type == Cluster.ORIGINAL_DST
    assert not built.HasField("load_assignment")


def test_names_choose_some_of_them() -> None:
    snapshot = mesh((service("reviews"), []))
    found = build_clusters(BuildCache(), snapshot, sidecar_proxy(), names=["BlackHoleCluster", "unknown"])
    assert list(found) == ["BlackHoleCluster"]


def test_without_interception_nothing_passes_inbound_to_an_original_destination() -> None:
    redirected = build_clusters(BuildCache(), mesh(), sidecar_proxy())
    explicit = build_clusters(BuildCache(), mesh(), sidecar_proxy(interception_mode=InterceptionMode.NONE))
    assert "InboundPassthroughCluster" in redirected
    assert "InboundPassthroughCluster" not in explicit
