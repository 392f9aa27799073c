"""The resources of a pod on the machine that are not processes: its network, volumes, files and logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.kubernetes_api import KubernetesApi, Resource
from tests.support.node_agent.cgroups import Cgroups, Limits
from tests.support.node_agent.claims import NAMESPACES
from tests.support.node_agent.container import ContainerSpec
from tests.support.node_agent.downward import PodIdentity
from tests.support.node_agent.environment import command_line, environment, expand
from tests.support.node_agent.events import EventRecorder
from tests.support.node_agent.images import Image, Images, image_of
from tests.support.node_agent.network import PodInterface, PodNetwork
from tests.support.node_agent.objects import PodObjects
from tests.support.node_agent.pod_files import CLUSTER_DOMAIN, hosts_file, resolv_conf
from tests.support.node_agent.privileges import ownership_of, privileges_of
from tests.support.node_agent.program import Program
from tests.support.node_agent.rootfs import Mount
from tests.support.node_agent.tmpfs import remove_folder
from tests.support.node_agent.tokens import PodTokens
from tests.support.node_agent.volumes import PodVolumes, UnsupportedError

NOT_SUPPORTED = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeServices:
    """The node's services for its pods. `clock` returns seconds since the epoch."""

    name: str
    api: KubernetesApi
    network: PodNetwork
    images: Images
    capacity: dict[str, str]
    folder: Path
    clock: Callable[[], float]
    events: EventRecorder
    cgroups: Cgroups


class PodSandbox:
    def __init__(self, node: NodeServices, pod: Resource) -> None:
        self._node = node
        metadata = pod["metadata"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._uid: str = metadata["uid"]
        self._folder = node.folder / "pods" / self._uid
        self.logs = node.folder / "logs" / f"{metadata['namespace']}_{metadata['name']}_{self._uid}"
        self._objects = PodObjects(node.api, metadata["namespace"])
        self._tokens = PodTokens(node.api, pod, node.clock)
        self._interface: PodInterface | None = None
        self._volumes: PodVolumes | None = None

    @property
    def address(self) -> str | None:
        """None until it has a network."""
        return None if self._interface is None else self._interface.address

    @property
    def network(self) -> Path | None:
        """The file of its network namespace; None until it has one."""
        return None if self._interface is None else NAMESPACES / self._interface.namespace

    def log(self, container: str) -> Path:
        return self.logs / f"{container}.log"

    async def prepare(self, pod: Resource) -> None:
        """All that the containers need. After an error it goes on from there when it is called again.

        Raises UnsupportedError, MissingError, DownwardError and KubernetesError.
        """
        for field in NOT_SUPPORTED:
            if pod["spec"].get(field):
                raise UnsupportedError(f"{field} is not supported by this node")
        if self._interface is None:
            self._interface = await self._attach(network_sysctls(pod))
            self._write_files(pod, self._interface)
        if self._volumes is None:
            remove_folder(self._folder / "volumes")
            identity = self._identity(pod, self._interface)
            self._volumes = PodVolumes(
                self._folder / "volumes",
                identity,
                self._objects,
                self._tokens,
                ownership_of(pod["spec"]),
            )
        await self.refresh(pod)

    async def _attach(self, sysctls: dict[str, str]) -> PodInterface:
        try:
            return await self._node.network.attach(self._uid, sysctls)
        except OSError as error:  # the kernel refuses a setting
            await self._node.network.detach(self._uid)
            raise UnsupportedError(f"sysctls {sysctls}: {error}") from error

    async def refresh(self, pod: Resource) -> None:
        """Writes the changes of the volumes' files. Raises as `prepare`."""
        assert self._interface is not None
        assert self._volumes is not None
        await self._volumes.fill(self._identity(pod, self._interface))

    def image(self, container: Resource) -> Image:
        """Raises UnknownImageError."""
        return image_of(self._node.images, container["image"])

    async def container_spec(self, pod: Resource, container: Resource, image: Image) -> ContainerSpec:
        """Raises NonRootError, UnsupportedError, MissingError, DownwardError and KubernetesError."""
        assert self._interface is not None
        privileges = privileges_of(pod, container, image.user)
        defaults = {"HOME": "/" if privileges.user else "/root", **image.environment}
        identity = self._identity(pod, self._interface)
        variables = await environment(container, identity, self._objects, defaults)
        scratch = self._folder / "scratch" / container["name"]
        scratch.mkdir(parents=True, exist_ok=True)
        program = Program(
            argv=command_line(container, image.entry_point, variables),
            environment=variables,
            folder=expand(container.get("workingDir", "/"), variables),
            privileges=privileges,
        )
        return ContainerSpec(
            program=program,
            hostname=hostname_of(pod),
            network=self._interface.namespace,
            mounts=self._mounts(container, read_only_files=privileges.read_only_root),
            scratch=scratch,
            log=self.log(container["name"]),
            group=self._node.cgroups.group(f"{self._uid}-{container['name']}", Limits.of(container)),
        )

    async def remove(self) -> None:
        """All but the logs."""
        await self._node.network.detach(self._uid)
        remove_folder(self._folder)

    def _write_files(self, pod: Resource, interface: PodInterface) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        names = resolv_conf(namespace, self._node.network.node_address, spec)
        (self._folder / "resolv.conf").write_text(names)
        subdomain = spec.get("subdomain")
        domain = f"{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}" if subdomain else ""
        hosts = hosts_file(hostname_of(pod), interface.address, spec.get("hostAliases", ()), domain)
        (self._folder / "hosts").write_text(hosts)

    def _mounts(self, container: Resource, *, read_only_files: bool) -> list[Mount]:
        assert self._volumes is not None
        files = [
            Mount(source=self._folder / name, target=f"/etc/{name}", read_only=read_only_files)
            for name in ("hosts", "resolv.conf")
        ]
        volumes = [
            Mount(
                source=self._volumes.source(mount),
                target=mount["mountPath"],
                read_only=self._volumes.is_read_only(mount),
            )
            for mount in container.get("volumeMounts", ())
        ]
        # One may be mounted in another.
        return sorted([*files, *volumes], key=lambda mount: len(Path(mount.target).parts))

    def _identity(self, pod: Resource, interface: PodInterface) -> PodIdentity:
        return PodIdentity(
            pod=pod,
            node=self._node.name,
            host_address=self._node.network.node_address,
            address=interface.address,
            capacity=self._node.capacity,
        )


def network_sysctls(pod: Resource) -> dict[str, str]:
    """Of the pod's security context. Raises UnsupportedError for those that do not belong to its network."""
    listed = (pod["spec"].get("securityContext") or {}).get("sysctls", ())
    values = {each["name"].replace("/", "."): each["value"] for each in listed}
    for name in values:
        if not name.startswith("net.") or ".." in name:
            raise UnsupportedError(f"sysctl {name!r} is not supported by this node")
    return values


def hostname_of(pod: Resource) -> str:
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])
