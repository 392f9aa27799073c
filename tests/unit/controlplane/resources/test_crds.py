from __future__ import annotations

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.resources.crds import Document, crds, is_ours

OWN_KINDS = [name for name, kind in KINDS.items() if not kind.is_core]
BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in crds(KINDS.values())}
KUBERNETES_OWN = {"Namespace", "Service"}


def test_every_kind_but_kubernetes_own_has_one() -> None:
    assert BY_KIND.keys() == KINDS.keys() - KUBERNETES_OWN


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_it_serves_every_version_that_we_read_and_stores_the_first(kind: str) -> None:
    spec = BY_KIND[kind]["spec"]
    served = [f"{spec['group']}/{version['name']}" for version in spec["versions"] if version["served"]]
    assert tuple(served) == KINDS[kind].api_versions
    assert [version["name"] for version in spec["versions"] if version["storage"]] == ["v1"]


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_its_versions_differ_in_nothing_but_their_names(kind: str) -> None:
    first, *others = (
        {**version, "name": "", "storage": False} for version in BY_KIND[kind]["spec"]["versions"]
    )
    assert all(other == first for other in others)


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_every_column_but_the_age_shows_a_field_that_there_is(kind: str) -> None:
    version = BY_KIND[kind]["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    for column in version["additionalPrinterColumns"]:
        if column["name"] in ("Age", "Accepted", "Programmed"):
            continue
        node = schema
        for name in column["jsonPath"].removeprefix(".").split("."):
            node = node["properties"][name]


def test_a_spec_is_required_where_something_in_it_is() -> None:
    def required(kind: str) -> list[str]:
        found: list[str] = BY_KIND[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"].get(
            "required", []
        )
        return found

    assert required("VirtualService") == ["spec"]
    assert required("PeerAuthentication") == []


def test_names_are_istios() -> None:
    names = {crd["metadata"]["name"] for crd in BY_KIND.values()}
    assert names == {
        "virtualservices.networking.istio.io",
        "destinationrules.networking.istio.io",
        "serviceentries.networking.istio.io",
        "workloadentries.networking.istio.io",
        "sidecars.networking.istio.io",
        "peerauthentications.security.istio.io",
    }


def test_ours_are_known_as_ours() -> None:
    assert all(is_ours(crd) for crd in BY_KIND.values())


@pytest.mark.parametrize(
    "crd",
    [
        {},
        {"metadata": None},
        {"metadata": {"name": "virtualservices.networking.istio.io"}},
        {"metadata": {"labels": None}},
        {"metadata": {"labels": {"app": "istio-pilot", "app.kubernetes.io/part-of": "istio"}}},
        {"metadata": {"labels": {"app": "outrigger"}}},
    ],
    ids=str,
)
def test_any_other_is_left_alone(crd: Document) -> None:
    assert not is_ours(crd)
