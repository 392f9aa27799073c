"""A container's user, groups and Linux capabilities, from the `securityContext` of its pod and its own.

As the kubelet and containerd have it: a process of root has the container's capabilities, another user's has
none, and neither can gain one that is not in the set (capabilities(7): the bounding set).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.plan import title_of

SETPRIV = "/usr/bin/setpriv"
# capabilities(7), in the words of setpriv(1).
_ALL = """
chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct
sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap
mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
"""
# containerd's set for a container that asks for nothing (`oci.defaultUnixCaps`).
_DEFAULT = """
chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service sys_chroot kill
audit_write
"""
ALL_CAPABILITIES, DEFAULT_CAPABILITIES = frozenset(_ALL.split()), frozenset(_DEFAULT.split())


class NonRootError(Exception):
    """`runAsNonRoot` forbids the container's user; the message is the kubelet's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """`groups` are the supplementary ones. `capabilities` have the names of setpriv(1)."""

    user: int = 0
    group: int = 0
    groups: tuple[int, ...] = ()
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    read_only_root: bool = False
    privileged: bool = False

    def command_line(self, argv: Sequence[str]) -> list[str]:
        """Runs the command with these privileges; it is killed when its parent ends."""
        groups = ",".join(map(str, self.groups))
        return [
            *(SETPRIV, f"--reuid={self.user}", f"--regid={self.group}"),
            f"--groups={groups}" if groups else "--clear-groups",
            *self._limits(),
            *(["--no-new-privs"] if self.no_new_privileges else []),
            *("--pdeathsig=KILL", "--", *argv),
        ]

    def _limits(self) -> list[str]:
        """Options of setpriv(1). It may not know the names of all capabilities that the kernel has."""
        if self.capabilities == ALL_CAPABILITIES:
            return ["--inh-caps=-all"]
        bounding = ["-all", *(f"+{name}" for name in sorted(self.capabilities))]
        return [f"--bounding-set={','.join(bounding)}", "--inh-caps=-all"]


def privileges_of(pod: Resource, container: Resource, image_user: int) -> Privileges:
    """`image_user` is the user of the image, for a pod without `runAsUser`. Raises NonRootError."""
    of_pod, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    context = of_pod | own
    asked = context.get("runAsUser")
    if context.get("runAsNonRoot"):
        refuse_root(pod, container, asked, image_user)
    privileged = bool(own.get("privileged"))
    groups = [*of_pod.get("supplementalGroups", ())]
    if (fs_group := of_pod.get("fsGroup")) is not None:
        groups.append(fs_group)
    return Privileges(
        user=image_user if asked is None else asked,
        group=context.get("runAsGroup") or 0,
        groups=tuple(dict.fromkeys(groups)),
        capabilities=ALL_CAPABILITIES if privileged else capabilities(own.get("capabilities") or {}),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        privileged=privileged,
    )


def capabilities(asked: Resource) -> frozenset[str]:
    """As containerd: first all are added or dropped, then the single ones are added, then dropped."""
    add, drop = names(asked.get("add")), names(asked.get("drop"))
    base = ALL_CAPABILITIES if "all" in add else DEFAULT_CAPABILITIES
    return ((frozenset() if "all" in drop else base) | add) - drop - {"all"}


def names(listed: Iterable[str] | None) -> frozenset[str]:
    return frozenset(name.lower().removeprefix("cap_") for name in listed or ())


def refuse_root(pod: Resource, container: Resource, asked: int | None, image_user: int) -> None:
    where = f'(pod: "{title_of(pod)}", container: {container["name"]})'
    if asked == 0:
        raise NonRootError(f"container's runAsUser breaks non-root policy {where}")
    if asked is None and image_user == 0:
        raise NonRootError(f"container has runAsNonRoot and image will run as root {where}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Of a pod's volumes. `user` is the user of all its containers, where they have the same; then only this
    user can read the tokens. `group` is the pod's `fsGroup`."""

    user: int | None = None
    group: int | None = None


def ownership_of(pod_spec: Resource) -> Ownership:
    context = pod_spec.get("securityContext") or {}
    containers = [*pod_spec.get("initContainers", ()), *pod_spec["containers"]]
    users = {(context | (each.get("securityContext") or {})).get("runAsUser") for each in containers}
    return Ownership(user=users.pop() if len(users) == 1 else None, group=context.get("fsGroup"))
