"""Bookinfo under a real istiod: half of the pods with the sidecar, half with a stock Envoy.

productpage, reviews-v1, ratings: sidecar        details, reviews-v2, reviews-v3: Envoy
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
import yaml

from outrigger.demo.bookinfo import principal
from outrigger.demo.observe import Hop, read_hops, read_requests
from tests.support.injected_mesh import BOOKINFO
from tests.support.istiod_mesh import REVISIONS, IstiodMesh
from tests.support.istiod_pods import ENVOY, under_istiod
from tests.support.kubernetes_api import Resource

pytestmark = pytest.mark.timeout(300)

NAMESPACE = "bookinfo"
ENVOYS = ("details-v1", "reviews-v2", "reviews-v3")
DEADLINE_S = 30.0
_REFUSALS = re.compile(r"^(\w+_update_rejected)\{.*\} ([1-9]\d*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def mesh(istiod: IstiodMesh) -> IstiodMesh:
    """All pods are ready."""
    documents = list(yaml.safe_load_all(istiod.kubectl("kustomize", BOOKINFO)))
    for document in documents:
        if document["metadata"]["name"] in ENVOYS:
            document["spec"]["template"]["metadata"]["annotations"] = dict(ENVOY)
    istiod.apply(*map(under_istiod, documents))
    for name in ("security", "destination-rules"):
        istiod.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")
    istiod.rolled_out(NAMESPACE)
    return istiod


@pytest.fixture
def productpage(mesh: IstiodMesh) -> Iterator[httpx.Client]:
    """A client outside the mesh."""
    with httpx.Client(base_url=f"http://{address(mesh, 'productpage')}:9080", trust_env=False) as client:
        yield client


def test_plaintext_is_refused_by_both_proxies(mesh: IstiodMesh) -> None:
    """The mode is STRICT, except at the entry."""
    for pod in mesh.pods(NAMESPACE):
        if pod["metadata"]["labels"]["app"] != "productpage":
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                httpx.get(f"http://{pod['status']['podIP']}:9080/", trust_env=False)


def test_virtual_service_shifts_traffic(mesh: IstiodMesh, productpage: httpx.Client) -> None:
    route(mesh, "reviews-90-10")
    eventually(lambda: versions(productpage, 30).keys() <= {"v1", "v2"}, "no request goes to v3")
    seen = versions(productpage, 200)
    assert seen.keys() == {"v1", "v2"}
    assert 4 < seen["v2"] < 45, "20 are expected: chance alone exceeds this once in many thousand runs"


def test_every_hop_is_mutual_tls_with_the_spiffe_id_of_its_caller(
    mesh: IstiodMesh, productpage: httpx.Client
) -> None:
    """From the sidecar to itself and to an Envoy, and from an Envoy to the sidecar."""
    route(mesh, "reviews-50-50")
    eventually(lambda: versions(productpage, 30).keys() == {"v1", "v2"}, "both versions answer")
    for service, caller in (("reviews", "productpage"), ("ratings", "reviews")):
        version = "v1"
        hops = read_hops(metrics(mesh, service, version), service)
        assert hops.keys() == {Hop(principal(caller), service, "mutual_tls")}
    sent = {labels["destination_workload"]: labels for labels in requests(mesh, "productpage", "source")}
    for workload in ("details-v1", "reviews-v1", "reviews-v2"):
        assert sent[workload]["destination_principal"] == principal(workload.partition("-")[0])


def test_both_ends_count_a_request_with_the_names_of_both(
    mesh: IstiodMesh, productpage: httpx.Client
) -> None:
    page(productpage)
    ends = [("productpage", "source"), ("reviews", "destination")]
    for app, reporter in ends:
        counted = [
            labels
            for labels in requests(mesh, app, reporter)
            if labels["destination_workload"] == "reviews-v1"
        ]
        assert counted
        for labels in counted:
            assert labels["source_workload"] == "productpage-v1"
            assert labels["source_canonical_service"] == "productpage"
            assert labels["source_cluster"] == labels["destination_cluster"] == "Kubernetes"
            assert labels["destination_service"] == f"reviews.{NAMESPACE}.svc.cluster.local"
            assert labels["destination_version"] == "v1"


@pytest.mark.parametrize(("service", "seen"), [("details", "418"), ("ratings", "502")])
def test_a_fault_is_injected_by_the_proxy_of_the_caller(
    mesh: IstiodMesh, productpage: httpx.Client, service: str, seen: str
) -> None:
    """The caller of details is productpage, which has the sidecar; those of ratings have Envoys, and answer
    productpage with a 502."""
    abort = {"percentage": {"value": 100}, "httpStatus": 418}
    routes = [{"fault": {"abort": abort}, "route": [{"destination": {"host": service}}]}]
    mesh.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {"hosts": [service], "http": routes},
        }
    )
    eventually(
        lambda: any(seen in productpage.get("/productpage").text for _ in range(10)),
        "productpage sees the fault",
    )
    mesh.kubectl("delete", "virtualservice", service, "--namespace", NAMESPACE)
    eventually(
        lambda: all(productpage.get("/productpage").is_success for _ in range(10)), "the fault has ended"
    )


def test_no_configuration_was_refused(mesh: IstiodMesh) -> None:
    for revision in REVISIONS:
        page = mesh.istiod_metrics(revision)
        assert "pilot_xds_pushes" in page
        assert not [line for line in page.splitlines() if line.startswith("pilot_total_xds_rejects")]
    for pod in mesh.pods(NAMESPACE):
        assert not _REFUSALS.findall(metrics_of(pod)), pod["metadata"]["name"]


def route(mesh: IstiodMesh, name: str) -> None:
    mesh.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")


def page(productpage: httpx.Client) -> Resource:
    answer: Resource = productpage.get("/productpage").raise_for_status().json()
    return answer


def versions(productpage: httpx.Client, count: int) -> Counter[str]:
    """Of reviews, in the answers to many requests, which must all succeed."""
    return Counter(page(productpage)["reviews"]["version"] for _ in range(count))


def eventually(condition: Callable[[], bool], what: str) -> None:
    """istiod does not tell when all proxies have a resource."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"{what}: not within {DEADLINE_S:g} s"


def address(mesh: IstiodMesh, app: str) -> str:
    (pod,) = mesh.pods(NAMESPACE, f"app={app}")
    return str(pod["status"]["podIP"])


def requests(mesh: IstiodMesh, app: str, reporter: str) -> list[dict[str, str]]:
    """The labels of the series of version v1."""
    read = read_requests(metrics(mesh, app, "v1"))
    return [labels for labels, _ in read if labels["reporter"] == reporter]


def metrics(mesh: IstiodMesh, app: str, version: str) -> str:
    (pod,) = mesh.pods(NAMESPACE, f"app={app},version={version}")
    return metrics_of(pod)


def metrics_of(pod: Resource) -> str:
    return httpx.get(f"http://{pod['status']['podIP']}:15020/stats/prometheus", trust_env=False).text
