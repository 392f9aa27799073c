"""The CRDs in a real API server: accepted and refused resources, and kubectl's columns."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from controlplane.errors import InvalidResourceError
from controlplane.kinds.registry import KINDS
from tests.support.crds import condition, install_crds
from tests.support.kubectl import kubectl
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.random_resources import ResourceMaker

OWN_KINDS = [name for name, kind in KINDS.items() if not kind.is_core]
ROOT = Path(__file__).resolve().parents[2]
EVERY_FIELD = ROOT / "tests" / "interop" / "every_field.yaml"
EXAMPLES = sorted((ROOT / "deploy" / "examples").rglob("*.yaml"))
BROKEN = [path for path in EXAMPLES if path.stem.endswith("-broken")]
VALID = [EVERY_FIELD, *(path for path in EXAMPLES if path not in BROKEN)]
RANDOM_RESOURCES = 40

NOW = "2026-01-01T00:00:00Z"
ACCEPTED = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "message": "It is applied.",
    "lastTransitionTime": NOW,
    "observedGeneration": 1,
}


@pytest.fixture(scope="module", autouse=True)
def installed(cluster: Cluster) -> list[Resource]:
    async def install() -> list[Resource]:
        async with kubernetes_api(cluster.kubeconfig) as administrator:
            return await install_crds(administrator)

    return asyncio.run(install())


def documents(path: Path) -> list[Resource]:
    """Those of our kinds, as JSON has them: the keys of maps are strings."""
    text = path.read_text()
    if path == EVERY_FIELD:
        text = Template(text).substitute(identity="/identity", ingress_port=19080)
    found = (document for document in yaml.safe_load_all(text) if document["kind"] in OWN_KINDS)
    return [json.loads(json.dumps(document)) for document in found]


def collection(namespace: str, kind: str, version: str | None = None) -> str:
    api_version = version or KINDS[kind].api_versions[0]
    return f"/apis/{api_version}/namespaces/{namespace}/{KINDS[kind].plural}"


async def create(api: KubernetesApi, namespace: str, document: Resource, query: str = "") -> Resource:
    body = {**document, "metadata": {**document["metadata"], "namespace": namespace}}
    path = collection(namespace, document["kind"], document["apiVersion"])
    return await api.create(f"{path}?fieldValidation=Strict{query}", body)


def resource(kind: str, spec: Any, name: str = "reviews") -> Resource:
    api_version = KINDS[kind].api_versions[0]
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def virtual_service(**http_route: Any) -> Resource:
    route = [{"destination": {"host": "reviews"}}]
    return resource("VirtualService", {"hosts": ["reviews"], "http": [{"route": route, **http_route}]})


def matching(uri: Any) -> Resource:
    return virtual_service(match=[{"uri": uri}])


async def test_the_api_server_finds_no_fault_with_them(installed: list[Resource]) -> None:
    assert len(installed) == len(OWN_KINDS)
    for crd in installed:
        assert condition(crd, "NonStructuralSchema") is None
        assert condition(crd, "NamesAccepted") == "True"


async def test_the_kinds_are_served_in_every_version_that_we_read(api: KubernetesApi) -> None:
    for kind in (KINDS[name] for name in OWN_KINDS):
        for api_version in kind.api_versions:
            served = (await api.get(f"/apis/{api_version}"))["resources"]
            names = {each["name"]: each for each in served}
            assert names[kind.plural].get("shortNames", []) == list(kind.short_names)
            assert "istio-io" in names[kind.plural]["categories"]
            assert f"{kind.plural}/status" in names


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
async def test_what_we_accept_is_stored_as_it_was_written(
    api: KubernetesApi, namespace: str, path: Path
) -> None:
    for document in documents(path):
        stored = await create(api, namespace, document, "&dryRun=All")
        assert stored["spec"] == document["spec"]
        assert KINDS.parse(stored).spec == KINDS.parse(document).spec


@pytest.mark.parametrize("kind", OWN_KINDS)
async def test_a_valid_resource_is_stored_unchanged(api: KubernetesApi, namespace: str, kind: str) -> None:
    hosts = ["./*", "*/api.example.com"] if kind == "Sidecar" else ["reviews", "api.example.com"]
    maker = ResourceMaker(seed=3, hosts=hosts)
    for _ in range(RANDOM_RESOURCES):
        document = resource(kind, maker.spec(KINDS[kind].spec))
        stored = await create(api, namespace, document, "&dryRun=All")
        assert stored["spec"] == document["spec"]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
async def test_the_broken_example_is_refused_by_the_name_of_its_field(
    api: KubernetesApi, namespace: str, path: Path
) -> None:
    (document,) = documents(path)
    with pytest.raises(KubernetesError, match=r'unknown field \\"spec.http\[0\].rout\\"'):
        await create(api, namespace, document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (virtual_service(timeout=5), "spec.http[0].timeout"),
        (virtual_service(timeout="5 seconds"), "spec.http[0].timeout"),
        (virtual_service(retries={"attempts": "3"}), "spec.http[0].retries.attempts"),
        (virtual_service(directResponse={"status": 99}), "spec.http[0].directResponse.status"),
        (resource("VirtualService", {"http": []}), "spec.hosts: Required value"),
        ({**resource("VirtualService", {}), "spec": None}, "spec"),
        (resource("VirtualService", {"hosts": []}), "spec.hosts"),
        (matching({}), "spec.http[0].match[0].uri"),
        (matching({"exact": "/a", "prefix": "/b"}), "spec.http[0].match[0].uri"),
        (matching({"exakt": "/a"}), "spec.http[0].match[0].uri.exakt"),
        (
            virtual_service(match=[{"headers": {"a": {"exact": "1", "regex": "2"}}}]),
            "spec.http[0].match[0].headers.a",
        ),
        (
            resource("DestinationRule", {"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "BEST"}}}),
            "spec.trafficPolicy.loadBalancer.simple: Unsupported value",
        ),
        (
            resource("DestinationRule", {"host": "a", "subsets": [{"name": "v 1"}]}),
            "spec.subsets[0].name",
        ),
        (resource("ServiceEntry", {"hosts": "a.example.com"}), "spec.hosts"),
        (resource("WorkloadEntry", {"address": "127.1.0.1", "ports": {"http": 70000}}), "spec.ports.http"),
        (resource("PeerAuthentication", {"mtls": {"mode": "MAYBE"}}), "spec.mtls.mode: Unsupported value"),
        (resource("Sidecar", {"ingress": [{"port": {"number": 80}}]}), "spec.ingress[0].port.name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_has_the_wrong_shape_is_refused_by_its_path(
    api: KubernetesApi, namespace: str, document: Resource, words: str
) -> None:
    with pytest.raises(InvalidResourceError):
        KINDS.parse(document)
    with pytest.raises(KubernetesError) as refusal:
        await create(api, namespace, document)
    assert refusal.value.status in (400, 422)
    assert words in str(refusal.value)


async def test_an_unsupported_field_of_istios_arrives_so_that_its_status_can_say_so(
    api: KubernetesApi, namespace: str
) -> None:
    mirror = {"host": "ratings", "port": {"number": 9080}}
    stored = await create(api, namespace, virtual_service(mirror=mirror))
    assert stored["spec"]["http"][0]["mirror"] == mirror
    with pytest.raises(InvalidResourceError, match=r"spec\.http\[0\]\.mirror.*not supported yet"):
        KINDS.parse(stored)


async def test_a_header_may_be_asked_for_by_its_presence(api: KubernetesApi, namespace: str) -> None:
    stored = await create(api, namespace, virtual_service(match=[{"headers": {"end-user": {}}}]))
    assert stored["spec"]["http"][0]["match"] == [{"headers": {"end-user": {}}}]


async def test_what_is_written_in_an_old_version_is_read_in_the_new_one(
    api: KubernetesApi, namespace: str
) -> None:
    old = {**virtual_service(timeout="2s"), "apiVersion": "networking.istio.io/v1alpha3"}
    await create(api, namespace, old)
    read = await api.get(f"{collection(namespace, 'VirtualService')}/reviews")
    assert read["apiVersion"] == "networking.istio.io/v1"
    assert read["spec"] == old["spec"]


async def test_the_status_is_written_apart_from_the_spec(api: KubernetesApi, namespace: str) -> None:
    await create(api, namespace, virtual_service())
    path = f"{collection(namespace, 'VirtualService')}/reviews"
    status = {
        "observedGeneration": 1,
        "conditions": [ACCEPTED],
        "proxies": {"concerned": 3, "acknowledged": 2},
    }
    written = await api.patch(f"{path}/status", {"spec": {"hosts": ["ratings"]}, "status": status})
    assert written["status"] == status
    assert written["spec"] == virtual_service()["spec"]
    assert written["metadata"]["generation"] == 1

    changed = await api.patch(path, {"spec": {"hosts": ["ratings"]}, "status": {"conditions": []}})
    assert changed["status"] == status
    assert changed["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "fault", [{"status": "Maybe"}, {"reason": "not a word"}, {"lastTransitionTime": "now"}], ids=str
)
async def test_a_status_that_programs_cannot_read_is_refused(
    api: KubernetesApi, namespace: str, fault: dict[str, str]
) -> None:
    await create(api, namespace, virtual_service())
    path = f"{collection(namespace, 'VirtualService')}/reviews/status"
    with pytest.raises(KubernetesError, match=rf"status\.conditions\[0\]\.{next(iter(fault))}"):
        await api.patch(path, {"status": {"conditions": [{**ACCEPTED, **fault}]}})


async def test_kubectl_prints_the_columns(cluster: Cluster, api: KubernetesApi, namespace: str) -> None:
    await create(api, namespace, virtual_service())
    path = f"{collection(namespace, 'VirtualService')}/reviews"
    await api.patch(f"{path}/status", {"status": {"conditions": [ACCEPTED]}})
    heading, row = kubectl(cluster.kubeconfig, "get", "vs", "--namespace", namespace).splitlines()
    assert heading.split() == ["NAME", "GATEWAYS", "HOSTS", "ACCEPTED", "PROGRAMMED", "AGE"]
    assert row.split()[:3] == ["reviews", '["reviews"]', "True"]


async def test_kubectl_finds_all_kinds_by_their_category(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    specs = {
        "VirtualService": virtual_service()["spec"],
        "DestinationRule": {"host": "reviews"},
        "ServiceEntry": {"hosts": ["api.example.com"], "resolution": "DNS"},
        "WorkloadEntry": {"address": "127.1.0.1"},
        "Sidecar": {},
        "PeerAuthentication": {"mtls": {"mode": "STRICT"}},
    }
    assert specs.keys() == set(OWN_KINDS)
    for kind, spec in specs.items():
        await create(api, namespace, resource(kind, spec))
    printed = kubectl(cluster.kubeconfig, "get", "istio-io", "--namespace", namespace, "--output", "name")
    assert {name.partition(".")[0] for name in printed.split()} == {kind.lower() for kind in OWN_KINDS}


async def test_kubectl_explains_a_field(cluster: Cluster, api: KubernetesApi) -> None:
    async def explained() -> bool:  # the API server publishes its schemas a little later
        return "VirtualService" in await api.ask("/openapi/v3/apis/networking.istio.io/v1")

    await eventually(explained, "the schemas are published")
    printed = kubectl(cluster.kubeconfig, "explain", "virtualservice.spec.http.timeout")
    assert "such as 10s, 1.5s, 100ms" in " ".join(printed.split())
