"""`kubectl logs`, `exec` and `port-forward`, by the real kubectl and API server, as with a kubelet."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.kubectl import KubectlError, kubectl, kubectl_environment
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import RunningNode
from tests.support.pod_specs import UNTIL_TERM, Pods, container_status, pod, printed, shell

pytestmark = pytest.mark.needs_node

LOOPBACK_SERVER = "import http.server as s; s.test(s.SimpleHTTPRequestHandler, port=8080, bind='127.0.0.1')"


class Shell:
    """kubectl in the test's namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._kubeconfig = cluster.kubeconfig
        self._namespace = namespace

    async def run(self, *arguments: str, text: str = "") -> str:
        return await asyncio.to_thread(
            kubectl, self._kubeconfig, "--namespace", self._namespace, *arguments, text=text
        )

    async def refusal(self, *arguments: str) -> str:
        with pytest.raises(KubectlError) as refused:
            await self.run(*arguments)
        return refused.value.complaints

    @asynccontextmanager
    async def started(self, *arguments: str, stdin: int | None = None) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            *("kubectl", "--namespace", self._namespace, *arguments),
            env=dict(kubectl_environment(self._kubeconfig)),
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
def shell_of(cluster: Cluster, namespace: str) -> Shell:
    return Shell(cluster, namespace)


async def line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().strip()


async def test_logs_are_those_of_one_run(node: RunningNode, pods: Pods, shell_of: Shell) -> None:
    script = "if [ -e /shared/ran ]; then echo second; echo run; sleep 600; fi; touch /shared/ran; echo first"
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    main = shell("main", script, volumeMounts=mounts)
    volumes = [{"name": "shared", "emptyDir": {}}]
    await pods.create(pod("twice", main, shell("other", f"echo other; {UNTIL_TERM}"), volumes=volumes))
    await printed(node, pods, "twice", "main", "run")
    await printed(node, pods, "twice", "other", "other")
    assert await shell_of.run("logs", "twice") == "second\nrun\n"
    assert await shell_of.run("logs", "twice", "--tail=1") == "run\n"
    assert await shell_of.run("logs", "twice", "--previous") == "first\n"
    assert await shell_of.run("logs", "twice", "-c", "other") == "other\n"
    assert 'previous terminated container "other" in pod "twice" not found' in await shell_of.refusal(
        "logs", "twice", "-c", "other", "--previous"
    )
    assert "timestamps is not supported by this node" in await shell_of.refusal(
        "logs", "twice", "--timestamps"
    )


async def test_logs_are_followed_to_the_end_of_the_run(pods: Pods, shell_of: Shell) -> None:
    script = "echo begins; until [ -e /go ]; do sleep 0.05; done; echo ends"
    await pods.create(pod("followed", shell("main", script), restartPolicy="Never"))
    await pods.with_condition("followed", "Ready")
    async with shell_of.started("logs", "--follow", "followed") as following:
        assert await line(following) == "begins"
        await shell_of.run("exec", "followed", "--", "touch", "/go")
        assert await line(following) == "ends"
        assert await following.wait() == 0


async def test_the_logs_of_a_container_that_has_not_run_are_refused(pods: Pods, shell_of: Shell) -> None:
    env_from = [{"configMapRef": {"name": "absent"}}]
    await pods.create(pod("waits", shell("main", UNTIL_TERM, envFrom=env_from)))

    async def waits() -> bool:
        state = container_status(await pods.get("waits"), "main").get("state", {})
        return bool(state.get("waiting", {}).get("reason") == "CreateContainerConfigError")

    await eventually(waits, "the container waits")
    words = 'container "main" in pod "waits" is waiting to start: CreateContainerConfigError'
    assert words in await shell_of.refusal("logs", "waits")
    assert "container not running (main)" in await shell_of.refusal("exec", "waits", "--", "true")


async def test_a_command_runs_as_the_container_and_gives_its_exit_code(pods: Pods, shell_of: Shell) -> None:
    context = {"runAsUser": 1337, "runAsGroup": 1337}
    env = [{"name": "COLOUR", "value": "red"}]
    await pods.create(pod("host", shell("main", UNTIL_TERM, securityContext=context, env=env)))
    await pods.with_condition("host", "Ready")
    look = ["sh", "-c", "id -u; echo $COLOUR; hostname"]
    assert await shell_of.run("exec", "host", "--", *look) == "1337\nred\nhost\n"
    assert "attach is not supported by this node" in await shell_of.refusal("attach", "host")
    assert await shell_of.run("exec", "-i", "host", "--", "cat", text="a\nb" * 50_000) == "a\nb" * 50_000
    with pytest.raises(KubectlError) as failed:
        await shell_of.run("exec", "host", "--", "sh", "-c", "echo complaint >&2; exit 3")
    assert failed.value.code == 3
    assert failed.value.complaints.splitlines()[0] == "complaint"


async def test_a_command_has_the_terminal_that_it_asks_for(pods: Pods, shell_of: Shell) -> None:
    await pods.create(pod("screen", shell("main", UNTIL_TERM)))
    await pods.with_condition("screen", "Ready")
    ours, theirs = os.openpty()
    try:
        command = ["sh", "-c", "test -t 0 && echo a terminal; read word; echo got $word; exit 4"]
        async with shell_of.started("exec", "-it", "screen", "--", *command, stdin=theirs) as process:
            assert await line(process) == "a terminal"
            os.write(ours, b"word\n")
            assert await line(process) == "word"  # what is typed is shown
            assert await line(process) == "got word"
            assert await process.wait() == 4
    finally:
        os.close(ours)
        os.close(theirs)


async def test_a_command_ends_with_its_client(pods: Pods, shell_of: Shell, node: RunningNode) -> None:
    await pods.create(pod("left", shell("main", UNTIL_TERM)))
    await pods.with_condition("left", "Ready")
    endless = ["sh", "-c", "echo begins; sleep 4321"]
    async with shell_of.started("exec", "-i", "left", "--", *endless, stdin=PIPE) as process:
        assert await line(process) == "begins"

    async def ended() -> bool:
        command = "cat /proc/[0-9]*/cmdline 2> /dev/null; true"
        return "4321" not in await shell_of.run("exec", "left", "--", "sh", "-c", command)

    await eventually(ended, "the command is killed")


async def test_a_port_that_listens_on_loopback_is_forwarded(pods: Pods, shell_of: Shell) -> None:
    server = {"name": "main", "image": "python", "args": ["-c", LOOPBACK_SERVER]}
    probe = {"exec": {"command": ["curl", "-sf", "http://127.0.0.1:8080/etc/hostname"]}, "periodSeconds": 1}
    await pods.create(pod("inner", {**server, "readinessProbe": probe}))
    await pods.with_condition("inner", "Ready")
    async with shell_of.started("port-forward", "pod/inner", ":8080", "--address", "127.0.0.1") as forwarder:
        port = int((await line(forwarder)).removeprefix("Forwarding from 127.0.0.1:").split()[0])
        for _ in range(2):
            answer = await request(port)
            assert answer.startswith(b"HTTP/1.0 200 OK")
            assert answer.endswith(b"</html>\n")  # its end comes through


async def test_the_reason_is_told_where_a_forwarded_port_is_closed(pods: Pods, shell_of: Shell) -> None:
    await pods.create(pod("deaf", shell("main", UNTIL_TERM)))
    await pods.with_condition("deaf", "Ready")
    async with shell_of.started("port-forward", "pod/deaf", ":9", "--address", "127.0.0.1") as forwarder:
        port = int((await line(forwarder)).removeprefix("Forwarding from 127.0.0.1:").split()[0])
        assert await request(port) == b""
        assert forwarder.stderr is not None
        async with asyncio.timeout(20):
            said = (await forwarder.stderr.readline()).decode()
    assert "failed to connect to localhost:9 inside the pod" in said


async def request(port: int) -> bytes:
    """All that the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def test_the_node_refuses_those_whom_the_cluster_did_not_certify(
    api: KubernetesApi, node: RunningNode
) -> None:
    status = (await api.get(f"/api/v1/nodes/{node.name}"))["status"]
    port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    address = next(each["address"] for each in status["addresses"] if each["type"] == "InternalIP")
    assert await asyncio.to_thread(answer_without_certificate, address, port) == b""


def answer_without_certificate(address: str, port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=10) as plain,
            context.wrap_socket(plain) as tls,
        ):
            tls.sendall(b"GET /containerLogs/default/web/main HTTP/1.1\r\nHost: node\r\n\r\n")
            return tls.recv(1000)
    except (ssl.SSLError, ConnectionError):
        return b""
