"""The test cluster's node runs pods as a kubelet does, and the real controllers take it for one."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import RunningNode, running_node
from tests.support.pod_specs import (
    IMAGES,
    UNTIL_TERM,
    Pods,
    catches,
    condition,
    container_status,
    deployment,
    pod,
    processes_of,
    shell,
    signal_first_process,
    web_server,
)

pytestmark = pytest.mark.needs_node

REPLICAS = 3
TOUCH_AND_REMOVE = "trap 'touch /flag' USR1; trap 'rm /flag' USR2; while true; do sleep 0.05; done"


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Iterator[RunningNode]:
    with running_node(cluster.kubeconfig, IMAGES, back_off_s=0.5) as node:
        yield node


@pytest.fixture
async def pods(api: KubernetesApi, namespace: str, node: RunningNode) -> AsyncIterator[Pods]:
    """None of them is left for the next test."""
    pods = Pods(api, namespace)
    yield pods
    await api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments")
    await api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs", {"propagationPolicy": "Background"})
    await api.delete(pods.path)

    async def gone() -> bool:
        return not await pods.all()

    await eventually(gone, "the test's pods are gone")


async def printed(node: RunningNode, pods: Pods, pod: str, container: str, text: str) -> list[str]:
    """The container's lines, once the text is among them."""
    namespace = pods.path.split("/")[4]

    async def look() -> list[str]:
        output = node.output(namespace, pod, container)
        return output.splitlines() if text in output else []

    return await eventually(look, f"{pod}/{container} prints {text!r}")


async def available(api: KubernetesApi, namespace: str, name: str) -> Resource:
    async def look() -> Resource | None:
        found = await api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        status = found["status"]
        complete = status.get("observedGeneration") == found["metadata"]["generation"]
        counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
        return found if complete and counts == [REPLICAS] * 3 else None

    return await eventually(look, f"Deployment {name} is available")


async def deploy(api: KubernetesApi, namespace: str, *containers: Resource) -> None:
    body = deployment("web", REPLICAS, *containers)
    await api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", body)
    await available(api, namespace, "web")


async def serve(api: KubernetesApi, namespace: str, name: str) -> None:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    await api.create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name}, "spec": spec})


async def test_the_node_is_ready_and_says_where_it_is(api: KubernetesApi, node: RunningNode) -> None:
    found = await api.get(f"/api/v1/nodes/{node.name}")
    assert condition(found, "Ready")["status"] == "True"
    labels = found["metadata"]["labels"]
    assert labels["kubernetes.io/hostname"] == node.name
    assert {"topology.kubernetes.io/region", "topology.kubernetes.io/zone"} <= labels.keys()
    lease = await api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}")
    assert lease["spec"]["holderIdentity"] == node.name


async def test_a_deployment_becomes_available_and_fills_its_services_endpoint_slice(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    await serve(api, namespace, "web")
    await deploy(api, namespace, web_server())
    addresses = {each["status"]["podIP"] for each in await pods.all()}
    assert len(addresses) == REPLICAS
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"

    async def filled() -> bool:
        endpoints = [each for found in (await api.get(slices))["items"] for each in found["endpoints"] or ()]
        return {each["addresses"][0] for each in endpoints if each["conditions"]["ready"]} == addresses

    await eventually(filled, "the EndpointSlice has the pods' addresses")


async def test_a_rollout_replaces_the_pods(api: KubernetesApi, namespace: str, pods: Pods) -> None:
    await deploy(api, namespace, shell("main", UNTIL_TERM))
    before = {each["metadata"]["uid"] for each in await pods.all()}
    containers = [shell("main", UNTIL_TERM, env=[{"name": "VERSION", "value": "2"}])]
    change = {"spec": {"template": {"spec": {"containers": containers}}}}
    await api.patch(f"/apis/apps/v1/namespaces/{namespace}/deployments/web", change)
    await available(api, namespace, "web")

    async def replaced() -> bool:
        found = await pods.all()
        return len(found) == REPLICAS and not before & {each["metadata"]["uid"] for each in found}

    await eventually(replaced, "the former pods are gone")


async def test_a_job_completes(api: KubernetesApi, namespace: str, pods: Pods) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [shell("main", "true")]}}
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    await api.create(jobs, {"metadata": {"name": "job"}, "spec": {"template": template}})

    async def complete() -> bool:
        return bool(condition(await api.get(f"{jobs}/job"), "Complete").get("status") == "True")

    await eventually(complete, "the Job is complete")
    (worker,) = await pods.all()
    assert worker["status"]["phase"] == "Succeeded"
    assert condition(worker, "Ready")["reason"] == "PodCompleted"


async def test_a_pod_that_may_not_restart_fails_with_its_exit_code(pods: Pods) -> None:
    await pods.create(pod("fails", shell("main", "exit 7"), restartPolicy="Never"))
    found = await pods.in_phase("fails", "Failed")
    ended = container_status(found, "main")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")


async def test_a_killed_container_restarts(pods: Pods) -> None:
    await pods.create(pod("killed", shell("main", UNTIL_TERM)))
    await pods.with_condition("killed", "Ready")
    signal_first_process("killed", signal.SIGKILL)

    async def restarted() -> Resource | None:
        status = container_status(await pods.get("killed"), "main")
        return status if status["restartCount"] and "running" in status["state"] else None

    status = await eventually(restarted, "the container runs again")
    assert status["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL
    await pods.with_condition("killed", "Ready")


async def test_a_container_that_crashes_again_and_again_waits_before_its_restarts(pods: Pods) -> None:
    await pods.create(pod("crashes", shell("main", "exit 1")))

    async def backs_off() -> bool:
        status = container_status(await pods.get("crashes"), "main")
        waits = status.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        return bool(waits and status["restartCount"] >= 2)

    await eventually(backs_off, "it waits longer each time")


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_period(pods: Pods) -> None:
    spec = {"terminationGracePeriodSeconds": 3}
    await pods.create(pod("stubborn", shell("main", "trap '' TERM; sleep infinity & wait; wait"), **spec))
    await pods.with_condition("stubborn", "Ready")
    asked_at_s = time.monotonic()
    await pods.delete("stubborn")
    await pods.gone("stubborn")
    assert 3 <= time.monotonic() - asked_at_s < 8
    assert processes_of("stubborn") == []


async def test_a_pod_that_obeys_sigterm_ends_before_its_grace_period(node: RunningNode, pods: Pods) -> None:
    spec = {"terminationGracePeriodSeconds": 30}
    script = "trap 'echo last words; exit 0' TERM; sleep infinity & wait"
    await pods.create(pod("obedient", shell("main", script), **spec))
    await pods.with_condition("obedient", "Ready")
    asked_at_s = time.monotonic()
    await pods.delete("obedient")
    await pods.gone("obedient")
    assert time.monotonic() - asked_at_s < 10
    await printed(node, pods, "obedient", "main", "last words")


async def test_containers_begin_in_order_and_sidecars_end_after_the_main_ones(
    node: RunningNode, pods: Pods
) -> None:
    journal = [{"name": "journal", "mountPath": "/journal"}]
    note = "echo {0} >> /journal/text"

    def lasting(name: str) -> str:
        begin, end = note.format(f"{name} begins"), note.format(f"{name} ends")
        return f"{begin}; trap '{end}; cat /journal/text; exit 0' TERM; sleep infinity & wait"

    def sidecar(name: str, **fields: object) -> Resource:
        return shell(name, lasting(name), restartPolicy="Always", volumeMounts=journal, **fields)

    started = {"exec": {"command": ["grep", "outer begins", "/journal/text"]}, "periodSeconds": 1}
    pre_stop = {"exec": {"command": ["sh", "-c", note.format("inner is to end")]}}
    inner = sidecar("inner", lifecycle={"preStop": pre_stop})
    before = [shell("first", note.format("first"), volumeMounts=journal)]
    before += [sidecar("outer", startupProbe=started), inner]
    before += [shell("second", note.format("second"), volumeMounts=journal)]
    main = shell("main", lasting("main"), volumeMounts=journal)
    volumes = [{"name": "journal", "emptyDir": {}}]
    await pods.create(
        pod("ordered", main, initContainers=before, volumes=volumes, terminationGracePeriodSeconds=10)
    )
    await pods.with_condition("ordered", "Ready")
    await pods.delete("ordered")
    await pods.gone("ordered")
    lines = await printed(node, pods, "ordered", "outer", "outer ends")
    lines.remove("inner is to end")  # its hook runs while main ends
    # Nothing orders the beginnings of `inner`, which has no startup probe, and what comes after it.
    lines.remove("inner begins")
    assert lines == [
        "first",
        "outer begins",
        "second",
        "main begins",
        "main ends",
        "inner ends",
        "outer ends",
    ]


async def test_a_failing_init_container_keeps_the_others_from_starting(pods: Pods) -> None:
    init = [shell("init", "exit 3")]
    await pods.create(pod("blocked", shell("main", UNTIL_TERM), initContainers=init, restartPolicy="Never"))
    found = await pods.in_phase("blocked", "Failed")
    assert container_status(found, "init")["state"]["terminated"]["exitCode"] == 3
    assert "waiting" in container_status(found, "main")["state"]


async def test_a_pod_is_ready_while_its_readiness_probe_succeeds(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/flag"]}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.create(pod("probed", shell("main", TOUCH_AND_REMOVE, readinessProbe=probe)))
    unready = await pods.with_condition("probed", "Ready", "False")
    assert condition(unready, "Ready")["message"] == "containers with unready status: [main]"
    await pods.in_phase("probed", "Running")

    async def listens() -> bool:
        return catches("probed", signal.SIGUSR2)

    await eventually(listens, "its handlers are there")
    signal_first_process("probed", signal.SIGUSR1)
    await pods.with_condition("probed", "Ready")
    signal_first_process("probed", signal.SIGUSR2)
    await pods.with_condition("probed", "Ready", "False")
    assert container_status(await pods.get("probed"), "main")["restartCount"] == 0


async def test_a_failing_liveness_probe_restarts_the_container(pods: Pods) -> None:
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.create(pod("dead", shell("main", UNTIL_TERM, livenessProbe=probe)))

    async def restarted() -> bool:
        return bool(container_status(await pods.get("dead"), "main").get("restartCount"))

    await eventually(restarted, "the container is restarted")


async def test_a_failing_post_start_hook_ends_the_container(pods: Pods) -> None:
    wait_and_fail = ["sh", "-c", "until [ -e /listens ]; do sleep 0.05; done; false"]
    hook = {"postStart": {"exec": {"command": wait_and_fail}}}
    main = "trap 'exit 0' TERM; touch /listens; while true; do sleep 0.05; done"
    await pods.create(pod("hooked", shell("main", main, lifecycle=hook), restartPolicy="Never"))
    found = await pods.in_phase("hooked", "Succeeded")
    assert "terminated" in container_status(found, "main")["state"]


async def test_a_pod_ends_at_its_deadline(pods: Pods) -> None:
    await pods.create(pod("late", shell("main", UNTIL_TERM), activeDeadlineSeconds=1))
    assert (await pods.in_phase("late", "Failed"))["status"]["reason"] == "DeadlineExceeded"

    async def ended() -> bool:
        return processes_of("late") == []

    await eventually(ended, "its processes are killed")


async def test_a_pod_that_is_deleted_without_grace_leaves_no_process(api: KubernetesApi, pods: Pods) -> None:
    await pods.create(pod("forced", shell("main", "trap '' TERM; while true; do sleep 0.1; done")))
    await pods.with_condition("forced", "Ready")
    await api.delete(f"{pods.path}/forced", {"gracePeriodSeconds": 0})

    async def ended() -> bool:
        return processes_of("forced") == []

    await eventually(ended, "its processes are killed")


async def test_unsupported_features_of_the_node_are_reported(pods: Pods) -> None:
    volumes = [{"name": "machine", "hostPath": {"path": "/"}}]
    await pods.create(pod("asks", shell("main", UNTIL_TERM), volumes=volumes))

    async def told() -> str:
        status = container_status(await pods.get("asks"), "main")
        return str(status.get("state", {}).get("waiting", {}).get("message", ""))

    message = await eventually(told, "why it waits")
    assert message == "volume 'machine': hostPath is not supported by this node"


async def test_a_readiness_gate_is_waited_for(api: KubernetesApi, pods: Pods) -> None:
    gates = [{"conditionType": "example.org/registered"}]
    await pods.create(pod("gated", shell("main", UNTIL_TERM), readinessGates=gates))
    found = await pods.with_condition("gated", "ContainersReady")
    assert condition(found, "Ready")["reason"] == "ReadinessGatesNotReady"
    opened = {"type": "example.org/registered", "status": "True"}
    conditions = [*found["status"]["conditions"], opened]
    await api.patch(f"{pods.path}/gated/status", {"status": {"conditions": conditions}})
    found = await pods.with_condition("gated", "Ready")
    assert condition(found, "example.org/registered")["status"] == "True"


async def test_a_projected_token_is_valid_for_its_audience(
    api: KubernetesApi, namespace: str, node: RunningNode, pods: Pods
) -> None:
    token = {"audience": "outrigger-ca", "expirationSeconds": 600, "path": "token"}
    volumes = [{"name": "tokens", "projected": {"sources": [{"serviceAccountToken": token}]}}]
    mounts = [{"name": "tokens", "mountPath": "/var/run/secrets/tokens"}]
    main = shell("main", f"cat /var/run/secrets/tokens/token; echo; {UNTIL_TERM}", volumeMounts=mounts)
    await pods.create(pod("bearer", main, volumes=volumes))
    (value, *_) = await printed(node, pods, "bearer", "main", "\n")
    reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
    review = {"spec": {"token": value, "audiences": ["outrigger-ca"]}}
    status = (await api.create(reviews, review))["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["bearer"]


async def test_a_pod_talks_to_the_api_server_with_the_in_cluster_configuration(
    namespace: str, node: RunningNode, pods: Pods
) -> None:
    script = """
from kubernetes import client, config
config.load_incluster_config()
print(client.AuthenticationV1Api().create_self_subject_review({}).status.user_info.username)
"""
    main = {"name": "main", "image": "python", "args": ["-c", script]}
    await pods.create(pod("inside", main, restartPolicy="Never"))
    await pods.in_phase("inside", "Succeeded")
    await printed(node, pods, "inside", "main", f"system:serviceaccount:{namespace}:default")


async def test_config_maps_secrets_and_the_downward_api_are_files_and_variables(
    api: KubernetesApi, namespace: str, node: RunningNode, pods: Pods
) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    await api.create(f"{path}/configmaps", {"metadata": {"name": "settings"}, "data": {"colour": "red"}})
    await api.create(f"{path}/secrets", {"metadata": {"name": "keys"}, "stringData": {"door": "1234"}})
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "door", "path": "a/b"}]}},
        {
            "name": "me",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
    ]
    mounts = [{"name": each["name"], "mountPath": f"/data/{each['name']}"} for each in volumes]
    mounts.append({"name": "settings", "mountPath": "/etc/colour", "subPath": "colour"})
    env = [
        {"name": "DOOR", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "door"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "GREETING", "value": "$(DOOR) at $(ADDRESS)"},
    ]
    script = """
echo $(cat /data/settings/colour /etc/colour /data/keys/a/b /data/me/labels)
echo $GREETING $SET_colour
until grep blue /data/settings/colour; do sleep 0.1; done
"""
    env_from = [{"prefix": "SET_", "configMapRef": {"name": "settings"}}]
    main = shell("main", script, env=env, envFrom=env_from, volumeMounts=mounts)
    await pods.create(pod("reader", main, volumes=volumes, restartPolicy="Never"))
    files, variables = await printed(node, pods, "reader", "main", "at 10.")
    assert files.startswith('redred1234app="reader"')
    address = (await pods.get("reader"))["status"]["podIP"]
    assert variables == f"1234 at {address} red"
    await api.patch(f"{path}/configmaps/settings", {"data": {"colour": "blue"}})
    await printed(node, pods, "reader", "main", "blue")


async def test_a_container_waits_for_its_config(api: KubernetesApi, namespace: str, pods: Pods) -> None:
    env_from = [{"configMapRef": {"name": "late"}}]
    strange = {"name": "strange", "image": "unheard-of"}
    await pods.create(pod("waits", shell("main", UNTIL_TERM, envFrom=env_from), strange))

    async def reasons() -> list[str]:
        found = [container_status(await pods.get("waits"), name) for name in ("main", "strange")]
        waiting = [each.get("state", {}).get("waiting", {}) for each in found]
        return [each["reason"] for each in waiting] if all("message" in each for each in waiting) else []

    assert await eventually(reasons, "reasons") == ["CreateContainerConfigError", "ErrImagePull"]
    await api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "late"}})

    async def runs() -> bool:
        return "running" in container_status(await pods.get("waits"), "main")["state"]

    await eventually(runs, "it runs once the ConfigMap is there")


async def test_a_pod_reaches_another_by_the_name_of_its_service(
    api: KubernetesApi, namespace: str, pods: Pods
) -> None:
    await serve(api, namespace, "web")
    await deploy(api, namespace, web_server())
    fetch = "import urllib.request; print(urllib.request.urlopen('http://web/etc/hostname').read())"
    main = {"name": "main", "image": "python", "args": ["-c", fetch]}
    await pods.create(pod("caller", main, restartPolicy="OnFailure"))
    await pods.in_phase("caller", "Succeeded")


async def test_a_container_writes_nothing_to_the_machine(
    node: RunningNode, pods: Pods, namespace: str
) -> None:
    name = f"outrigger-{namespace}"
    script = f"touch /etc/{name} /tmp/{name} && ls /etc/{name} /tmp/{name} && id -u && hostname"
    user = {"runAsUser": 65534}
    main = shell("main", script)
    other = shell("other", "id -u", securityContext=user)
    await pods.create(pod("writer", main, other, restartPolicy="Never"))
    await pods.in_phase("writer", "Succeeded")
    assert await printed(node, pods, "writer", "main", "writer") == [
        f"/etc/{name}",
        f"/tmp/{name}",
        "0",
        "writer",
    ]
    assert await printed(node, pods, "writer", "other", "65534") == ["65534"]
    assert not any(Path(folder, name).exists() for folder in ("/etc", "/tmp"))


async def test_pods_run_on_while_the_api_server_is_away(
    cluster: Cluster, node: RunningNode, pods: Pods
) -> None:
    cluster.started_here()
    await pods.create(pod("steady", shell("main", f"echo begins; {UNTIL_TERM}")))
    await pods.with_condition("steady", "Ready")
    cluster.kill_api_server()
    try:
        signal_first_process("steady", signal.SIGKILL)
        await printed(node, pods, "steady", "main", "begins\nbegins")
    finally:
        cluster.start_api_server()

    async def told() -> bool:
        status = container_status(await pods.get("steady"), "main")
        return bool(status["restartCount"] == 1 and status["ready"])

    await eventually(told, "the status says so")
