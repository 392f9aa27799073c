"""The privileges of a container's processes, as containerd sets them, and the owners of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.node import RunningNode
from tests.support.pod_specs import UNTIL_TERM, Pods, container_status, pod, printed, shell

pytestmark = pytest.mark.needs_node

PRIVILEGES = "grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status"
# The bits of containerd's set for a container that asks for nothing, as `docker run` has it too.
DEFAULT_SET = 0xA80425FB
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
NET_TOOLS = {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
NOTHING = {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}


async def output_of(
    node: RunningNode, pods: Pods, *containers: Resource, **spec: Any
) -> dict[str, list[str]]:
    """The lines of each container of a pod, all of which must succeed."""
    await pods.create(pod("limited", *containers, restartPolicy="Never", **spec))
    await pods.in_phase("limited", "Succeeded")
    lines = {
        each["name"]: await printed(node, pods, "limited", each["name"], "the end") for each in containers
    }
    return {name: found[:-1] for name, found in lines.items()}


def limited(name: str, script: str, context: Resource | None = None, **fields: Any) -> Resource:
    return shell(name, f"set -e; {script}; echo the end", securityContext=context or {}, **fields)


def privileges(lines: list[str]) -> tuple[int, ...]:
    """The permitted, effective, bounding and ambient capabilities, and `no_new_privs`."""
    names = ("CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    values = dict(line.split(":\t") for line in lines)
    return tuple(int(values[name], 16) for name in names)


async def test_a_container_has_the_capabilities_that_its_security_context_asks_for(
    node: RunningNode, pods: Pods
) -> None:
    user = {"runAsUser": 1337, "runAsGroup": 1337}
    found = await output_of(
        node,
        pods,
        limited("default", PRIVILEGES),
        limited("added", PRIVILEGES, {"capabilities": NET_TOOLS}),
        limited("dropped", PRIVILEGES, {"capabilities": {"drop": ["NET_RAW"]}}),
        limited("user", PRIVILEGES, user),
        limited("nothing", PRIVILEGES, {**NOTHING, **user}),
    )
    net = NET_ADMIN | NET_RAW
    without_raw = DEFAULT_SET & ~NET_RAW
    assert {name: privileges(lines) for name, lines in found.items()} == {
        "default": (DEFAULT_SET, DEFAULT_SET, DEFAULT_SET, 0, 0),
        "added": (net, net, net, 0, 0),
        "dropped": (without_raw, without_raw, without_raw, 0, 0),
        "user": (0, 0, DEFAULT_SET, 0, 0),
        "nothing": (0, 0, 0, 0, 1),
    }


async def test_iptables_works_with_net_admin_and_without_a_writable_root(
    node: RunningNode, pods: Pods
) -> None:
    rule = "-t nat -A OUTPUT -p tcp --dport 1234 -j REDIRECT --to-ports 15001"
    script = f"iptables-legacy {rule}; iptables-nft {rule}; ip6tables-nft {rule}; iptables-nft-save"
    context = {"capabilities": NET_TOOLS, "readOnlyRootFilesystem": True}
    # The legacy tool locks a file in /run: here as in any cluster it is given another.
    lock = [{"name": "XTABLES_LOCKFILE", "value": "/lock/xtables.lock"}]
    found = await output_of(
        node,
        pods,
        limited("main", script, context, env=lock, volumeMounts=[{"name": "lock", "mountPath": "/lock"}]),
        limited(
            "locked",
            "iptables-legacy -t nat -L 2>&1 | tail -1; iptables-nft -t nat -L > /dev/null",
            context,
        ),
        limited("refused", "iptables-nft -t nat -L 2>&1 | grep denied"),
        volumes=[{"name": "lock", "emptyDir": {}}],
    )
    assert "-A OUTPUT -p tcp -m tcp --dport 1234 -j REDIRECT --to-ports 15001" in found["main"]
    assert "can't open lock file /run/xtables.lock: Read-only file system" in found["locked"][0]
    assert "Permission denied" in found["refused"][0]


async def test_the_groups_of_a_pod_own_its_volumes(node: RunningNode, pods: Pods) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": "outrigger-ca"}}
    volumes = [
        {"name": "shared", "emptyDir": {}},
        {"name": "tokens", "projected": {"sources": [token]}},
    ]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    look = "id -u; id -g; id -G | tr ' ' '\\n' | sort | xargs; touch /shared/$(id -u)"
    look += "; stat -c '%g' /shared/$(id -u)"
    look += "; stat -L -c '%a %u %g' /tokens/token; test -s /tokens/token"
    found = await output_of(
        node,
        pods,
        limited("app", look, {"runAsUser": 1000}, volumeMounts=mounts),
        limited("proxy", look, {"runAsUser": 1337, "runAsGroup": 1337}, volumeMounts=mounts),
        securityContext={"fsGroup": 2000, "supplementalGroups": [3000]},
        volumes=volumes,
    )
    assert found["app"] == ["1000", "0", "0 2000 3000", "2000", "640 0 2000"]
    assert found["proxy"] == ["1337", "1337", "1337 2000 3000", "2000", "640 0 2000"]


async def test_a_token_belongs_to_the_only_user_of_the_pod(node: RunningNode, pods: Pods) -> None:
    volumes = [{"name": "tokens", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]
    mounts = [{"name": "tokens", "mountPath": "/tokens"}]
    main = limited("main", "stat -L -c '%a %u' /tokens/token", volumeMounts=mounts)
    found = await output_of(node, pods, main, volumes=volumes, securityContext={"runAsUser": 1000})
    assert found["main"] == ["600 1000"]


async def test_a_read_only_root_leaves_volumes_writable(node: RunningNode, pods: Pods) -> None:
    script = "touch /volume/file; for file in /file /tmp/file /etc/hosts; do touch $file 2>&1 || true; done"
    main = limited(
        "main",
        script,
        {"readOnlyRootFilesystem": True, "runAsUser": 0},
        volumeMounts=[{"name": "volume", "mountPath": "/volume"}],
    )
    found = await output_of(node, pods, main, volumes=[{"name": "volume", "emptyDir": {}}])
    assert [line.rpartition(": ")[2] for line in found["main"]] == ["Read-only file system"] * 3


async def test_the_kernel_s_settings_are_read_only_and_ports_below_1024_are_free(
    node: RunningNode, pods: Pods
) -> None:
    setting = "/proc/sys/net/ipv4/conf/all/route_localnet"
    bind = 'import socket; socket.create_server(("", 80)); print("bound")'
    found = await output_of(
        node,
        pods,
        limited("main", f"(echo 1 > {setting}) 2>&1 || true", {"capabilities": NET_TOOLS}),
        limited("privileged", f"echo 1 > {setting}; cat {setting}", {"privileged": True}),
        {"name": "user", "image": "python", "args": ["-c", f"{bind}; print('the end')"]}
        | {"securityContext": {**NOTHING, "runAsUser": 1337}},
    )
    assert "Read-only file system" in found["main"][0]
    assert found["privileged"] == ["1"]
    assert found["user"] == ["bound"]


async def test_the_settings_of_a_pod_s_network_are_its_own(
    api: KubernetesApi, node: RunningNode, pods: Pods
) -> None:
    setting = {"name": "net.ipv4.tcp_syncookies", "value": "0"}
    main = limited("main", "cat /proc/sys/net/ipv4/tcp_syncookies")
    found = await output_of(node, pods, main, securityContext={"sysctls": [setting]})
    assert found["main"] == ["0"]
    assert Path("/proc/sys/net/ipv4/tcp_syncookies").read_text() == "1\n"
    for name, words in [
        ("kernel.msgmax", "sysctl 'kernel.msgmax' is not supported by this node"),
        ("net.ipv4.absent", "sysctls {'net.ipv4.absent': '0'}: [Errno 2] No such file"),
    ]:
        context = {"sysctls": [{"name": name, "value": "0"}]}
        await pods.create(pod("refused", shell("main", UNTIL_TERM), securityContext=context))
        await eventually(lambda words=words: told(pods, words), words)
        await pods.delete("refused")
        await pods.gone("refused")


async def told(pods: Pods, words: str) -> bool:
    state = container_status(await pods.get("refused"), "main").get("state", {})
    return str(state.get("waiting", {}).get("message", "")).startswith(words)


async def test_a_volume_in_memory_has_its_size_and_goes_with_the_pod(node: RunningNode, pods: Pods) -> None:
    fill = "stat -f -c %T /memory; head -c 2M /dev/zero 2>&1 > /memory/file || stat -c %s /memory/file"
    volume = {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    main = limited("main", fill, volumeMounts=[{"name": "memory", "mountPath": "/memory"}])
    found = await output_of(node, pods, main, volumes=[volume])
    assert (found["main"][0], found["main"][-1]) == ("tmpfs", str(1 << 20))
    assert "No space left on device" in found["main"][1]
    await pods.delete("limited")
    await pods.gone("limited")

    async def unmounted() -> bool:
        return str(node.logs.parent / "pods") not in Path("/proc/mounts").read_text()

    await eventually(unmounted, "the volume is unmounted")


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({}, "container has runAsNonRoot and image will run as root"),
        ({"runAsUser": 0}, "container's runAsUser breaks non-root policy"),
    ],
)
async def test_root_is_refused_where_the_pod_forbids_it(
    pods: Pods, namespace: str, user: Resource, words: str
) -> None:
    main = shell("main", UNTIL_TERM, securityContext=user)
    await pods.create(pod("root", main, securityContext={"runAsNonRoot": True}))

    async def refused() -> Resource:
        state = container_status(await pods.get("root"), "main").get("state", {})
        waiting: Resource = state.get("waiting", {})
        return waiting if "message" in waiting else {}

    waiting = await eventually(refused, "a refusal")
    assert waiting["reason"] == "CreateContainerConfigError"
    uid = (await pods.get("root"))["metadata"]["uid"]
    assert waiting["message"] == f'{words} (pod: "root_{namespace}({uid})", container: main)'
