from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.errors import InvalidResourceError, ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.resources.core import Service
from controlplane.resources.virtual_service import VirtualService
from tests.support.documents import destination, document, service, virtual_service


def faults(resource: object) -> list[str]:
    with pytest.raises(ResourceError) as caught:
        KINDS.parse(resource)
    error = caught.value
    return [str(each) for each in error.errors] if isinstance(error, InvalidResourceError) else [str(error)]


def test_a_valid_document_becomes_its_kinds_model() -> None:
    resource = KINDS.parse(virtual_service("reviews", ["reviews"], destination("reviews")))
    assert isinstance(resource.spec, VirtualService)
    assert resource.spec.hosts == ("reviews",)
    assert resource.metadata.name == "reviews"


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_version_of_istios_networking_group_is_read(version: str) -> None:
    resource = virtual_service("reviews", ["reviews"], destination("reviews"))
    assert KINDS.parse({**resource, "apiVersion": f"networking.istio.io/{version}"}).kind == "VirtualService"


def test_status_and_metadata_of_kubectl_are_ignored() -> None:
    resource = virtual_service("reviews", ["reviews"], destination("reviews"), uid="x", resourceVersion="7")
    resource["metadata"] |= {"creationTimestamp": None, "labels": None, "annotations": {"a": "b"}}
    assert KINDS.parse({**resource, "status": {"anything": 1}}).metadata.labels == {}


@pytest.mark.parametrize("name", ["a" * 253, f"{'a' * 100}.b-c.d"])
def test_a_name_may_be_as_long_as_kubernetes_lets_it(name: str) -> None:
    resource = virtual_service(name, ["reviews"], destination("reviews"))
    assert KINDS.parse(resource).metadata.name == name
    assert "metadata.name" in faults(virtual_service(f"{name}{'a' * 253}", ["a"], destination("a")))[0]


def test_an_external_name_may_end_with_a_dot() -> None:
    spec = KINDS.parse(service("a", type="ExternalName", externalName="example.com.")).spec
    assert isinstance(spec, Service)
    assert spec.external_name == "example.com"


def test_an_unknown_field_is_named_with_its_path_and_the_nearest_known_one() -> None:
    spec = {"hosts": ["reviews"], "http": [{"rout": [], "timeout": "1s"}]}
    assert "spec.http[0].rout: unknown field; did you mean `route`?" in faults(
        document("VirtualService", "reviews", spec)
    )


def test_unknown_fields_of_a_newer_kubernetes_are_ignored_if_served() -> None:
    ports = [{"name": "http", "port": 80, "newInPorts": 1}]
    newer = service("a", ports=ports, newInSpec={"a": "b"})
    newer["metadata"]["newInMetadata"] = "x"
    spec = KINDS.parse(newer, served=True).spec
    assert isinstance(spec, Service)
    assert [port.port for port in spec.ports] == [80]
    assert len(faults(newer)) == 3  # by hand, each may be a slip


def test_an_author_of_a_mesh_resource_may_slip_in_a_cluster_too() -> None:
    resource = document("VirtualService", "a", {"hosts": ["a"], "htp": []}, newInMetadata="x")
    with pytest.raises(InvalidResourceError) as caught:
        KINDS.parse(resource, served=True)
    assert [error.path for error in caught.value.errors] == ["spec.htp"]


def test_unknown_fields_are_found_at_any_depth() -> None:
    match = {"headers": {"end-user": {"exat": "jason"}}, "uri": {"prefx": "/"}}
    spec = {"hosts": ["a"], "http": [{"match": [match], "redirect": {"uri": "/"}}]}
    found = faults(document("VirtualService", "a", spec))
    assert "spec.http[0].match[0].headers.end-user.exat: unknown field; did you mean `exact`?" in found
    assert "spec.http[0].match[0].uri.prefx: unknown field; did you mean `prefix`?" in found


def test_all_faults_of_a_resource_are_reported_at_once() -> None:
    spec = {"hosts": [], "http": [{"timeout": "soon", "retries": {"attempts": -1}, "route": []}]}
    found = faults({**document("VirtualService", "a", spec), "stat": 1})
    assert [each.split(":")[0] for each in found] == [
        "stat",
        "spec.hosts",
        "spec.http[0].timeout",
        "spec.http[0].retries.attempts",
    ]


def test_the_number_of_reported_faults_is_bounded() -> None:
    spec = {"hosts": ["a"], "http": [{"nonsense": 1}] * 1000}
    assert len(faults(document("VirtualService", "a", spec))) == 20


@pytest.mark.parametrize("field", ["mirror", "mirrors", "delegate", "mirrorPercentage"])
def test_a_field_of_istios_that_is_not_supported_yet_is_named(field: str) -> None:
    route = {"route": [destination("reviews")], field: {"anything": 1}}
    spec = {"hosts": ["reviews"], "http": [route]}
    path = f"spec.http[0].{field}"
    assert faults(document("VirtualService", "reviews", spec)) == [
        f"{path}: is an Istio field that is not supported yet"
    ]


def test_the_error_of_a_misspelt_kind_suggests_the_nearest() -> None:
    assert faults(document("VirtualServic", "a", {})) == [
        "kind: unknown kind 'VirtualServic'; did you mean `VirtualService`?"
    ]


def test_a_kind_of_istios_that_is_not_supported_yet_is_named_so() -> None:
    assert "not supported yet" in faults(document("Gateway", "a", {}))[0]


def test_the_error_of_an_unknown_version_names_the_known_ones() -> None:
    resource = {**service("a"), "apiVersion": "v2"}
    assert faults(resource) == ["apiVersion: 'v2' is not a version of Service; expected v1"]


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a" * 254, 5, None])
def test_a_name_that_kubernetes_refuses_is_refused(name: object) -> None:
    assert faults({**service("a"), "metadata": {"name": name}})[0].startswith("metadata.name: ")


def test_a_label_that_is_a_number_is_refused_with_a_reason() -> None:
    resource = service("a", selector={"version": 1.0})
    assert faults(resource) == ["spec.selector.version: should be a string, not 1.0"]


def test_real_kubernetes_manifests_are_taken_and_their_slips_are_not() -> None:
    spec = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30000}],
    }
    parsed = KINDS.parse(document("Service", "a", spec)).spec
    assert isinstance(parsed, Service)
    assert parsed.ports[0].target_port == "web"
    assert faults(document("Service", "a", spec | {"clusterIp": "None"})) == [
        "spec.clusterIp: unknown field; did you mean `clusterIP`?"
    ]


@pytest.mark.parametrize("target", [0, 65536, "UPPER", "", True, 1.5, ["a"]])
def test_a_target_port_is_a_number_or_a_name(target: object) -> None:
    resource = service("a", ports=[{"port": 80, "targetPort": target}])
    assert faults(resource) == [
        "spec.ports[0].targetPort: should be a port number, or the name of a workload's port"
    ]


@pytest.mark.parametrize(
    "resource", [None, 5, [], "text", {}, {"kind": 5}, {"kind": "Service", "metadata": 3}]
)
def test_a_document_that_is_not_a_resource_is_rejected(resource: object) -> None:
    with pytest.raises(ResourceError):
        KINDS.identify(resource)


def test_a_namespace_has_no_namespace() -> None:
    assert KINDS.identify(document("Namespace", "bookinfo", {}, namespace="x")) == (
        "Namespace",
        "",
        "bookinfo",
    )


def test_a_number_too_long_to_print_is_refused_with_a_reason() -> None:
    assert faults(service("a", type=10**5000))[0].startswith("spec.type: a huge number is not one of ")


FIELDS = sorted(
    {field.alias or name for kind in KINDS.values() for name, field in kind.spec.model_fields.items()}
    | {
        "destination",
        "host",
        "subset",
        "weight",
        "mode",
        "number",
        "name",
        "exact",
        "regex",
        "match",
        "route",
    }
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(10**100), st.binary()
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=5)), inner, max_size=4),
        st.dictionaries(scalars, inner, max_size=2),
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from(FIELDS), values), values)
def test_any_document_raises_only_resource_errors(kind: str, spec: dict[str, Any], metadata: Any) -> None:
    resource = document(kind, "a", spec)
    for candidate in (resource, {**resource, "metadata": metadata}, {**resource, "spec": metadata}, metadata):
        with suppress(ResourceError):
            KINDS.parse(candidate)
