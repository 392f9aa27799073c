"""Bookinfo as plain Deployments, which do not know about the mesh, in a labelled namespace: with REDIRECT,
then with TPROXY, and then with a stock Envoy in two of its pods."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum

import httpx
import pytest
import yaml

from outrigger.demo.bookinfo import CALLERS, principal
from outrigger.demo.observe import Hop, read_hops, read_requests
from tests.support.injected_mesh import BOOKINFO, InjectedMesh, injected_mesh
from tests.support.kubernetes_api import Resource

pytestmark = pytest.mark.timeout(300)

NAMESPACE = "bookinfo"
PROXY_CALLS_FROM = "127.0.0.6"
OWN_LABELS = ("workload", "app", "version", "canonical_service", "canonical_revision")
TRANSPARENT = {"sidecar.istio.io/interceptionMode": "TPROXY"}
ENVOY = {"outrigger.dev/proxy": "envoy"}


class Stage(Enum):
    REDIRECT = "redirect"
    TPROXY = "tproxy"
    ENVOY = "envoy"

    def annotations(self, deployment: str) -> Mapping[str, str]:
        """Of the pods of a Deployment."""
        if self is Stage.ENVOY and deployment == "reviews-v2":
            return ENVOY
        if self is Stage.ENVOY and deployment == "reviews-v3":
            return {**ENVOY, **TRANSPARENT}
        return {} if self is Stage.REDIRECT else TRANSPARENT


@pytest.fixture(scope="module")
def mesh() -> Iterator[InjectedMesh]:
    with injected_mesh() as mesh:
        mesh.create_namespace(NAMESPACE, istio_injection="enabled")
        yield mesh


@pytest.fixture(scope="module", params=Stage, ids=lambda stage: stage.value)
def stage(mesh: InjectedMesh, request: pytest.FixtureRequest) -> Stage:
    """All pods are ready."""
    stage: Stage = request.param
    documents = list(yaml.safe_load_all(mesh.kubectl("kustomize", BOOKINFO)))
    for document in documents:
        if document["kind"] == "Deployment":
            metadata = document["spec"]["template"]["metadata"]
            metadata["annotations"] = stage.annotations(document["metadata"]["name"])
    mesh.apply(*documents)
    for name in ("security", "destination-rules"):
        mesh.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")
    mesh.rolled_out(NAMESPACE)
    return stage


@pytest.fixture
def productpage(mesh: InjectedMesh, stage: Stage) -> Iterator[httpx.Client]:
    """A client outside the mesh."""
    url = f"http://{address(mesh, 'app=productpage')}:9080"
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def test_pods_are_ready_with_their_sidecar(mesh: InjectedMesh, stage: Stage) -> None:
    for pod in mesh.pods(NAMESPACE):
        envoy = ENVOY.items() <= pod["metadata"]["annotations"].items()
        names = [each["name"] for each in pod["spec"]["initContainers"]]
        assert names == ["outrigger-init", *["outrigger-agent"] * envoy, "outrigger-sidecar"]
        conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True", pod["metadata"]["name"]


def test_every_hop_is_mtls_with_the_spiffe_id_of_its_caller(
    mesh: InjectedMesh, stage: Stage, productpage: httpx.Client
) -> None:
    """Envoy has no such metrics, but lets nothing else in."""
    route(mesh, "reviews-50-50")
    assert versions(productpage, 50).keys() == {"v1", "v2"}
    for service, caller in CALLERS.items():
        hops = sum((hops_into(pod, service) for pod in mesh.pods(NAMESPACE, f"app={service}")), Counter())
        assert hops.keys() == {Hop(principal(caller), service, "mutual_tls")}


def test_plaintext_is_refused_except_by_the_entry(mesh: InjectedMesh, stage: Stage) -> None:
    """The mode is STRICT."""
    for pod in mesh.pods(NAMESPACE):
        if pod["metadata"]["labels"]["app"] != "productpage":
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                httpx.get(f"http://{pod['status']['podIP']}:9080/", trust_env=False)


def test_the_application_sees_the_clients_address_with_tproxy_only(
    mesh: InjectedMesh, stage: Stage, productpage: httpx.Client
) -> None:
    route(mesh, "reviews-jason-v3")
    answer = page(productpage, "jason")
    callers = {
        "details": "app=productpage",
        "reviews": "app=productpage",
        "ratings": "app=reviews,version=v3",
    }
    clients = {
        "details": answer["details"]["client"],
        "reviews": answer["reviews"]["client"],
        "ratings": answer["reviews"]["ratings"]["client"],
    }
    assert clients == {
        service: PROXY_CALLS_FROM if stage is Stage.REDIRECT else address(mesh, caller)
        for service, caller in callers.items()
    }
    assert (answer["client"] == PROXY_CALLS_FROM) is (stage is Stage.REDIRECT)


def test_virtual_service_shifts_traffic_and_back(
    mesh: InjectedMesh, stage: Stage, productpage: httpx.Client
) -> None:
    route(mesh, "reviews-90-10")
    seen = versions(productpage, 200)
    assert seen.keys() == {"v1", "v2"}
    assert 4 < seen["v2"] < 45, "20 are expected: chance alone exceeds this once in many thousand runs"
    route(mesh, "reviews-v1")
    assert versions(productpage, 20).keys() == {"v1"}


def test_metrics_have_the_labels_of_their_own_workload(
    mesh: InjectedMesh, stage: Stage, productpage: httpx.Client
) -> None:
    page(productpage)
    for service, reporter in (("productpage", "source"), ("details", "destination")):
        (pod,) = mesh.pods(NAMESPACE, f"app={service}")
        own = {
            tuple(labels[f"{reporter}_{name}"] for name in OWN_LABELS)
            for labels, _ in read_requests(metrics(pod))
            if labels["reporter"] == reporter
        }
        assert own == {(f"{service}-v1", service, "v1", service, "v1")}


def test_pods_end_cleanly(mesh: InjectedMesh) -> None:
    """Their proxies, too: none has to be killed."""
    pods = mesh.pods(NAMESPACE)
    mesh.kubectl("delete", "deployments", "--namespace", NAMESPACE, "--all", "--cascade=foreground")
    log = mesh.node.own_log.read_text()
    for pod in pods:
        name, spec = pod["metadata"]["name"], pod["spec"]
        codes = dict(re.findall(rf"{NAMESPACE}/{name}/([\w-]+): .*exit code (\d+)", log))
        containers = [each["name"] for each in (*spec["initContainers"], *spec["containers"])]
        assert codes == dict.fromkeys(containers, "0"), name


def route(mesh: InjectedMesh, name: str) -> None:
    """Returns when all sidecars have it."""
    mesh.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")
    condition = "--for=condition=Programmed"
    mesh.kubectl("wait", condition, "virtualservice/reviews", "--namespace", NAMESPACE, "--timeout=30s")


def page(productpage: httpx.Client, user: str = "") -> Resource:
    headers = {"end-user": user}
    answer: Resource = productpage.get("/productpage", headers=headers).raise_for_status().json()
    return answer


def versions(productpage: httpx.Client, count: int) -> Counter[str]:
    """Of reviews, in the answers to many requests, which must all succeed."""
    return Counter(page(productpage)["reviews"]["version"] for _ in range(count))


def address(mesh: InjectedMesh, labels: str) -> str:
    (pod,) = mesh.pods(NAMESPACE, labels)
    return str(pod["status"]["podIP"])


def hops_into(pod: Resource, service: str) -> Counter[Hop]:
    return read_hops(metrics(pod), service)


def metrics(pod: Resource) -> str:
    return httpx.get(f"http://{pod['status']['podIP']}:15020/stats/prometheus", trust_env=False).text
