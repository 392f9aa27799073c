"""Services, their names and the API server, as pods of a node reach them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.node_agent.commands import CommandError
from tests.support.node_agent.network import PodInterface, PodNetwork
from tests.support.node_agent.node_network import node_network
from tests.support.node_agent.pod_files import resolv_conf
from tests.support.pod_processes import ECHO_PORT, call, echo, run_with_names

pytestmark = pytest.mark.needs_node

PORT = 80
REFUSED = ["ConnectionRefusedError at once"]


@pytest.fixture
async def network(api: KubernetesApi, cluster: Cluster) -> AsyncIterator[PodNetwork]:
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    server = urlsplit(kubeconfig["clusters"][0]["cluster"]["server"]).netloc
    async with node_network(api, server) as network:
        yield network


@pytest.fixture
async def pods(network: PodNetwork) -> AsyncIterator[list[PodInterface]]:
    """Three that answer with their number, and a fourth that calls them."""
    async with AsyncExitStack() as servers:
        found = [await network.attach(f"pod-{number}") for number in range(4)]
        for number, pod in enumerate(found[:3]):
            await servers.enter_async_context(echo(pod, str(number)))
        yield found


@pytest.fixture
def names(network: PodNetwork, namespace: str, tmp_path: Path) -> Path:
    """The resolv.conf of the namespace's pods."""
    path = tmp_path / "resolv.conf"
    path.write_text(resolv_conf(namespace, network.node_address))
    return path


async def test_a_cluster_ip_spreads_connections_over_the_endpoints(
    api: KubernetesApi, namespace: str, pods: list[PodInterface]
) -> None:
    *servers, caller = pods
    address = await create_service(api, namespace)
    await create_slice(api, namespace, endpoints(servers))
    await answers_come(caller, address)
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        answers = Counter(await call(caller, address, PORT, times=90, kind=kind))
        # That one of them gets less than 10 of 90 happens once in a million times.
        assert set(answers) == {f"{number} saw {caller.address}" for number in range(3)}
        assert min(answers.values()) >= 10


async def test_a_pod_reaches_itself_by_its_service(
    api: KubernetesApi, namespace: str, pods: list[PodInterface]
) -> None:
    address = await create_service(api, namespace)
    await create_slice(api, namespace, endpoints(pods[:1]))
    assert (await answers_come(pods[0], address)).startswith("0 saw ")


async def test_an_endpoint_that_is_removed_gets_no_new_connection(
    api: KubernetesApi, namespace: str, pods: list[PodInterface]
) -> None:
    address = await create_service(api, namespace)
    slice_ = await create_slice(api, namespace, endpoints(pods[:2]))

    async def only_the_second() -> bool:
        return {answer[0] for answer in await call(pods[3], address, PORT, times=20)} == {"1"}

    await answers_come(pods[3], address)
    assert not await only_the_second()
    await api.patch(slice_, {"endpoints": endpoints(pods[1:2])})
    await eventually(only_the_second, "the first endpoint's end")
    assert {answer[0] for answer in await call(pods[3], address, PORT, times=50)} == {"1"}


async def test_without_a_ready_endpoint_connections_are_refused_at_once(
    api: KubernetesApi, namespace: str, pods: list[PodInterface]
) -> None:
    address = await create_service(api, namespace)
    assert await call(pods[3], address, PORT) == REFUSED
    slice_ = await create_slice(api, namespace, endpoints(pods[:1]))
    await answers_come(pods[3], address)
    await api.patch(slice_, {"endpoints": endpoints(pods[:1], ready=False)})

    async def refused() -> bool:
        return await call(pods[3], address, PORT) == REFUSED

    await eventually(refused, "the refusal")


async def test_the_last_endpoint_serves_while_it_terminates(
    api: KubernetesApi, namespace: str, pods: list[PodInterface]
) -> None:
    address = await create_service(api, namespace)
    terminating = endpoints(pods[:1], ready=False, serving=True, terminating=True)
    slice_ = await create_slice(api, namespace, terminating)
    await answers_come(pods[3], address)
    await api.patch(slice_, {"endpoints": terminating + endpoints(pods[1:2])})

    async def only_the_ready_one() -> bool:
        return {answer[0] for answer in await call(pods[3], address, PORT, times=20)} == {"1"}

    await eventually(only_the_ready_one, "the ready endpoint's turn")


async def test_names_resolve(
    api: KubernetesApi, namespace: str, pods: list[PodInterface], names: Path
) -> None:
    address = await create_service(api, namespace)
    await create_service(api, namespace, "bare", clusterIP="None")
    with_names = [{**each, "hostname": f"host-{number}"} for number, each in enumerate(endpoints(pods[:2]))]
    await create_slice(api, namespace, with_names, "bare")
    alias = {"type": "ExternalName", "externalName": f"web.{namespace}.svc.cluster.local"}
    body = {"metadata": {"name": "other"}, "spec": alias}
    await api.create(f"/api/v1/namespaces/{namespace}/services", body)

    async def resolved(name: str) -> set[str]:
        try:
            printed = await run_with_names(pods[3], names, "getent", "ahostsv4", name)
        except CommandError:
            return set()
        return {line.split()[0] for line in printed.splitlines()}

    await eventually(lambda: resolved("host-0.bare"), "the headless Service's names")
    await eventually(lambda: resolved("other"), "the alias")
    for name in ("web", f"web.{namespace}", f"WEB.{namespace}.svc.cluster.local", "other"):
        assert await resolved(name) == {address}, name
    assert await resolved("bare") == {pod.address for pod in pods[:2]}
    assert await resolved("host-1.bare") == {pods[1].address}
    for name in ("absent", f"{namespace}.svc.cluster.local", "web.example", "host-2.bare"):
        assert await resolved(name) == set(), name


async def test_a_pod_reaches_the_api_server(
    api: KubernetesApi, pods: list[PodInterface], names: Path, tmp_path: Path
) -> None:
    roots = await write_roots(api, tmp_path)
    for host in (await kubernetes_service(api), "kubernetes.default.svc"):
        assert '"major"' in await reached(pods[3], names, curl(roots, host))


async def test_the_api_server_s_absence_is_survived(
    api: KubernetesApi,
    cluster: Cluster,
    namespace: str,
    pods: list[PodInterface],
    names: Path,
    tmp_path: Path,
) -> None:
    roots = await write_roots(api, tmp_path)
    command = curl(roots, await kubernetes_service(api))
    await reached(pods[3], names, command)
    address = await create_service(api, namespace)
    slice_ = await create_slice(api, namespace, endpoints(pods[:1]))
    await answers_come(pods[3], address)

    await asyncio.to_thread(cluster.kill_api_server)
    try:
        with pytest.raises(CommandError):
            await run_with_names(pods[3], names, *command)
        assert await call(pods[3], address, PORT) == [f"0 saw {pods[3].address}"]  # what was known is kept
    finally:
        await asyncio.to_thread(cluster.start_api_server)
    assert '"major"' in await run_with_names(pods[3], names, *command)

    await api.patch(slice_, {"endpoints": endpoints(pods[1:2])})

    async def caught_up() -> bool:
        return await call(pods[3], address, PORT) == [f"1 saw {pods[3].address}"]

    await eventually(caught_up, "the endpoint that came after the absence")


async def answers_come(caller: PodInterface, address: str) -> str:
    async def answer() -> str | None:
        (got,) = await call(caller, address, PORT)
        return got if " saw " in got else None

    return await eventually(answer, f"an answer from {address}")


async def reached(pod: PodInterface, names: Path, command: list[str]) -> str:
    async def printed() -> str | None:
        try:
            return await run_with_names(pod, names, *command)
        except CommandError:
            return None

    return await eventually(printed, " ".join(command))


async def create_service(api: KubernetesApi, namespace: str, name: str = "web", **spec: Any) -> str:
    """Without a selector, as its endpoints are written by hand. Its ClusterIP."""
    ports = [{"name": "tcp", "port": PORT}, {"name": "udp", "port": PORT, "protocol": "UDP"}]
    body = {"metadata": {"name": name}, "spec": {"ports": ports, **spec}}
    created = await api.create(f"/api/v1/namespaces/{namespace}/services", body)
    return str(created["spec"]["clusterIP"])


async def create_slice(
    api: KubernetesApi, namespace: str, found: list[Resource], service: str = "web"
) -> str:
    """The slice's path."""
    body = {
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [
            {"name": "tcp", "port": ECHO_PORT},
            {"name": "udp", "port": ECHO_PORT, "protocol": "UDP"},
        ],
        "endpoints": found,
    }
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    await api.create(path, body)
    return f"{path}/{service}"


def endpoints(pods: list[PodInterface], **conditions: bool) -> list[Resource]:
    return [{"addresses": [pod.address], "conditions": conditions} for pod in pods]


async def kubernetes_service(api: KubernetesApi) -> str:
    return str((await api.get("/api/v1/namespaces/default/services/kubernetes"))["spec"]["clusterIP"])


async def write_roots(api: KubernetesApi, folder: Path) -> Path:
    """The certificate by which pods verify the API server."""
    root = await api.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
    path = folder / "ca.crt"
    path.write_text(root["data"]["ca.crt"])
    return path


def curl(roots: Path, host: str) -> list[str]:
    return [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--cacert",
        str(roots),
        f"https://{host}/version",
    ]
