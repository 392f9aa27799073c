"""The parts of a Pod's spec that decide the order in which its containers run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tests.support.kubernetes_api import Resource


class Role(Enum):
    INIT = "init container"
    SIDECAR = "init container with restartPolicy Always"
    MAIN = "container"


class RestartPolicy(Enum):
    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """One container; its restart policy is the pod's, but a sidecar's own."""

    name: str
    role: Role
    restart_policy: RestartPolicy
    has_pre_stop: bool = False
    has_post_start: bool = False

    def restarts_after(self, exit_code: int) -> bool:
        if self.restart_policy is RestartPolicy.ON_FAILURE:
            return exit_code != 0
        return self.restart_policy is RestartPolicy.ALWAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """Init containers and sidecars in their order, then the main containers in theirs."""

    containers: tuple[ContainerPlan, ...]

    @property
    def preparing(self) -> tuple[ContainerPlan, ...]:
        """The containers that start before the main ones."""
        return tuple(each for each in self.containers if each.role is not Role.MAIN)

    @property
    def main(self) -> tuple[ContainerPlan, ...]:
        return self.of_role(Role.MAIN)

    def of_role(self, role: Role) -> tuple[ContainerPlan, ...]:
        return tuple(each for each in self.containers if each.role is role)


def plan_of(pod: Resource) -> PodPlan:
    spec = pod["spec"]
    policy = RestartPolicy(spec.get("restartPolicy", "Always"))
    preparing = tuple(preparing_plan(container, policy) for container in spec.get("initContainers", ()))
    main = tuple(container_plan(container, Role.MAIN, policy) for container in spec["containers"])
    return PodPlan(containers=preparing + main)


def preparing_plan(container: Resource, policy: RestartPolicy) -> ContainerPlan:
    if container.get("restartPolicy") == "Always":
        return container_plan(container, Role.SIDECAR, RestartPolicy.ALWAYS)
    if policy is RestartPolicy.ALWAYS:  # one that has succeeded is never run again
        policy = RestartPolicy.ON_FAILURE
    return container_plan(container, Role.INIT, policy)


def container_plan(container: Resource, role: Role, policy: RestartPolicy) -> ContainerPlan:
    hooks = container.get("lifecycle", {})
    return ContainerPlan(
        name=container["name"],
        role=role,
        restart_policy=policy,
        has_pre_stop="preStop" in hooks,
        has_post_start="postStart" in hooks,
    )


def title_of(pod: Resource) -> str:
    """As the kubelet names a pod in its messages."""
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
