"""Applications that do not know about the mesh, in injected pods: with REDIRECT and with TPROXY, from their
first instruction to their end, and beside a pod without a sidecar."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.injected_applications import (
    DATAGRAMS,
    LOOPBACK_ONLY,
    MYSQL,
    NAMESPACE,
    POD_ONLY,
    UNNAMED,
    calling,
    job,
    named_ports,
    proxy_config,
    service,
    strict,
    workload,
)
from tests.support.injected_mesh import InjectedMesh, injected_mesh
from tests.support.kubernetes_api import Resource

pytestmark = pytest.mark.timeout(300)

MODES = {"redirect": "REDIRECT", "tproxy": "TPROXY"}
DEADLINE_S = 30.0
WAIT = "--timeout=60s"


def resources() -> Iterator[Resource]:
    yield strict("strict")
    yield strict("members")
    for app, mode in MODES.items():
        yield workload("Deployment", app, annotations={"sidecar.istio.io/interceptionMode": mode})
        ports = {"http": POD_ONLY, "http-loopback": LOOPBACK_ONLY, "mysql": MYSQL}
        yield service(app, app, *named_ports(**ports))
        yield service(f"{app}-unnamed", app, {"port": UNNAMED})
    yield workload("Deployment", "strict")
    yield service("strict", "strict", *named_ports(http=POD_ONLY))
    yield workload("Deployment", "plain", labels={"sidecar.istio.io/inject": "false"})
    yield workload("StatefulSet", "members", replicas=2, serviceName="members")
    yield service("members", "members", *named_ports(http=POD_ONLY, tcp=UNNAMED), clusterIP="None")


@pytest.fixture(scope="module")
def mesh() -> Iterator[InjectedMesh]:
    with injected_mesh() as mesh:
        mesh.create_namespace(NAMESPACE, istio_injection="enabled")
        mesh.apply(*resources())
        mesh.rolled_out(NAMESPACE)
        mesh.rolled_out(NAMESPACE, "statefulset/members")
        yield mesh


def one_pod(mesh: InjectedMesh, labels: str) -> Resource:
    (pod,) = mesh.pods(NAMESPACE, labels)
    return pod


def address(mesh: InjectedMesh, app: str) -> str:
    return str(one_pod(mesh, f"app={app}")["status"]["podIP"])


def call(mesh: InjectedMesh, caller: str, *targets: str) -> list[str]:
    """``caller`` is a Deployment, or another workload such as ``pod/members-0``."""
    caller = caller if "/" in caller else f"deployment/{caller}"
    inside = ("exec", "--namespace", NAMESPACE, caller, "--container", "app", "--")
    return mesh.kubectl(*inside, *calling("app", *targets)["command"]).splitlines()


@pytest.mark.parametrize("caller", MODES)
@pytest.mark.parametrize("app", MODES)
def test_services_are_called_with_mtls_and_tproxy_shows_the_client(
    mesh: InjectedMesh, caller: str, app: str
) -> None:
    """Where caller and application are the same, it calls its own Service."""
    client = address(mesh, caller) if app == "tproxy" else "127.0.0.6"
    targets = (f"GET:{app}:{POD_ONLY}", f"tcp:{app}:{MYSQL}", f"tcp:{app}-unnamed:{UNNAMED}")
    assert call(mesh, caller, *targets) == [f"{client} mTLS", client, client]


@pytest.mark.parametrize("app", MODES)
def test_an_application_on_loopback_is_private_to_its_pod(mesh: InjectedMesh, app: str) -> None:
    other = "redirect" if app == "tproxy" else "tproxy"
    assert call(mesh, other, f"GET:{app}:{LOOPBACK_ONLY}") == ["503"]
    assert call(mesh, app, f"GET:localhost:{LOOPBACK_ONLY}") == ["127.0.0.1 plaintext"]


@pytest.mark.parametrize("app", MODES)
def test_connections_inside_the_pod_and_datagrams_are_direct(mesh: InjectedMesh, app: str) -> None:
    own, other = address(mesh, app), address(mesh, "redirect" if app == "tproxy" else "tproxy")
    assert call(mesh, app, f"GET:{own}:{POD_ONLY}", f"udp:{other}:{DATAGRAMS}") == [f"{own} plaintext", own]


def test_each_member_of_a_headless_statefulset_is_called_by_its_name(mesh: InjectedMesh) -> None:
    """A member's own name is the address of its pod, which it calls directly."""
    calls = (("redirect", "members-0"), ("redirect", "members-1"), ("pod/members-0", "members-1"))
    for caller, member in calls:
        targets = (f"GET:{member}.members:{POD_ONLY}/name", f"tcp:{member}.members:{UNNAMED}")
        deadline = time.monotonic() + DEADLINE_S  # its callers learn of a new member a moment later
        while (answers := call(mesh, caller, *targets)) != [f"{member} mTLS", "127.0.0.6"]:
            assert time.monotonic() < deadline, answers
    itself = f"GET:members-0.members:{POD_ONLY}/name"
    assert call(mesh, "pod/members-0", itself) == ["members-0 plaintext"]


def test_a_pod_without_a_sidecar_is_served_if_plaintext_is_permitted(mesh: InjectedMesh) -> None:
    assert "initContainers" not in one_pod(mesh, "app=plain")["spec"]
    permissive, strict = f"GET:redirect:{POD_ONLY}", f"GET:strict:{POD_ONLY}"
    assert call(mesh, "plain", permissive, strict) == ["127.0.0.6 plaintext", "disconnected"]
    assert call(mesh, "redirect", strict) == ["127.0.0.6 mTLS"]
    own = address(mesh, "plain")
    assert call(mesh, "redirect", f"GET:{own}:{POD_ONLY}") == [f"{address(mesh, 'redirect')} plaintext"]


@pytest.mark.parametrize("data_plane", ["outrigger", "envoy"])
def test_a_job_is_in_the_mesh_from_its_first_instruction_and_completes(
    mesh: InjectedMesh, data_plane: str
) -> None:
    """Its init container, too: a native sidecar runs before it."""
    target, name = f"GET:strict:{POD_ONLY}", f"job-with-{data_plane}"
    prepare, main = calling("prepare", target), calling("app", target)
    annotations = {"outrigger.dev/proxy": data_plane}
    mesh.apply(job(name, main, init_containers=[prepare], annotations=annotations))
    assert outputs(mesh, name) == {"prepare": ["127.0.0.6 mTLS"], "app": ["127.0.0.6 mTLS"]}
    events = mesh.objects("events", NAMESPACE)
    assert "FailedPreStopHook" not in {event["reason"] for event in events}


def test_a_job_with_an_ordinary_sidecar_completes_if_it_ends_the_sidecar(mesh: InjectedMesh) -> None:
    """Its init container calls out before the sidecar runs, and is not in the mesh. The application waits for
    the sidecar."""
    main = calling("app", f"GET:strict:{POD_ONLY}", "POST:127.0.0.1:15020/quitquitquit")
    annotations = {
        "sidecar.istio.io/nativeSidecar": "false",
        **proxy_config(holdApplicationUntilProxyStarts=True),
    }
    prepare = calling("prepare", f"GET:redirect:{POD_ONLY}")
    mesh.apply(job("ordinary", main, init_containers=[prepare], annotations=annotations))
    printed = outputs(mesh, "ordinary")
    assert printed["prepare"] == ["127.0.0.6 plaintext"]
    assert printed["app"][0] == "127.0.0.6 mTLS"


def test_a_liveness_probe_passes_and_fails_where_mtls_is_required(mesh: InjectedMesh) -> None:
    pod = one_pod(mesh, "app=strict")
    name = f"pod/{pod['metadata']['name']}"
    (app,) = pod["status"]["containerStatuses"]
    assert app["restartCount"] == 0
    call(mesh, "strict", f"GET:{pod['status']['podIP']}:{POD_ONLY}/fail")
    restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
    mesh.kubectl("wait", name, "--namespace", NAMESPACE, restarted, WAIT)
    mesh.kubectl("wait", name, "--namespace", NAMESPACE, "--for=condition=Ready", WAIT)


def outputs(mesh: InjectedMesh, name: str) -> dict[str, list[str]]:
    """The lines of a Job's containers, once it is complete."""
    mesh.kubectl("wait", f"job/{name}", "--namespace", NAMESPACE, "--for=condition=Complete", WAIT)
    pod = one_pod(mesh, f"job-name={name}")["metadata"]["name"]
    return {
        container: mesh.node.output(NAMESPACE, pod, container).splitlines()
        for container in ("prepare", "app")
    }
