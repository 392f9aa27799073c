"""Bookinfo as plain Deployments, which do not know about the mesh, in a labelled namespace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from outrigger.demo.bookinfo import CALLERS, principal
from outrigger.demo.figures import check_shares
from outrigger.demo.observe import Hop, read_hops
from tests.support.injected_mesh import BOOKINFO, InjectedMesh, injected_mesh

pytestmark = pytest.mark.timeout(300)

NAMESPACE = "bookinfo"
ENOUGH = 200  # requests, to see how they are shared out


@pytest.fixture(scope="module")
def mesh() -> Iterator[InjectedMesh]:
    with injected_mesh() as mesh:
        mesh.create_namespace(NAMESPACE, istio_injection="enabled")
        mesh.kubectl("apply", "--kustomize", BOOKINFO)
        for name in ("security", "destination-rules", "reviews-v1"):
            mesh.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")
        mesh.rolled_out(NAMESPACE)
        yield mesh


@pytest.fixture
def productpage(mesh: InjectedMesh) -> Iterator[httpx.Client]:
    """A client outside the mesh."""
    (pod,) = mesh.pods(NAMESPACE, "app=productpage")
    with httpx.Client(base_url=f"http://{pod['status']['podIP']}:9080", trust_env=False) as client:
        yield client


def test_pods_are_ready_with_their_sidecar(mesh: InjectedMesh) -> None:
    for pod in mesh.pods(NAMESPACE):
        names = [each["name"] for each in pod["spec"]["initContainers"]]
        assert names == ["outrigger-init", "outrigger-sidecar"]
        conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True", pod["metadata"]["name"]


def test_every_hop_is_mtls_with_the_spiffe_id_of_its_caller(
    mesh: InjectedMesh, productpage: httpx.Client
) -> None:
    route(mesh, "reviews-50-50")
    versions(productpage)
    for service, caller in CALLERS.items():
        hops = sum((hops_into(pod, service) for pod in mesh.pods(NAMESPACE, f"app={service}")), Counter())
        assert hops.keys() == {Hop(principal(caller), service, "mutual_tls")}


@pytest.mark.parametrize(
    ("name", "weights"),
    [("reviews-90-10", {"v1": 90, "v2": 10}), ("reviews-v1", {"v1": 100})],
    ids=["canary", "and back"],
)
def test_virtual_service_shifts_traffic(
    mesh: InjectedMesh, productpage: httpx.Client, name: str, weights: dict[str, int]
) -> None:
    route(mesh, name)
    check = check_shares(versions(productpage), weights)
    assert check.ok, check.detail


def route(mesh: InjectedMesh, name: str) -> None:
    """Returns when all sidecars have it."""
    mesh.kubectl("apply", "--filename", BOOKINFO / f"{name}.yaml")
    condition = "--for=condition=Programmed"
    mesh.kubectl("wait", condition, "virtualservice/reviews", "--namespace", NAMESPACE, "--timeout=30s")


def versions(productpage: httpx.Client) -> Counter[str]:
    """Of reviews, in the answers to many requests, which must all succeed."""
    answers = [productpage.get("/productpage").raise_for_status().json() for _ in range(ENOUGH)]
    return Counter(answer["reviews"]["version"] for answer in answers)


def hops_into(pod: dict[str, dict[str, str]], service: str) -> Counter[Hop]:
    url = f"http://{pod['status']['podIP']}:15020/stats/prometheus"
    return read_hops(httpx.get(url, trust_env=False).text, service)
