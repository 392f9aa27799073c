"""The webhooks of a cluster: their parts, and what feeds them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from controlplane.ca.authority import Authority
from controlplane.kubernetes.api import ClientApi
from controlplane.kubernetes.list_watch import Changes
from controlplane.model.store import Store
from controlplane.settings import Settings
from controlplane.webhooks.ca_bundle import CaBundles
from controlplane.webhooks.cluster_objects import ClusterObjects
from controlplane.webhooks.injection_config import InjectionConfigFile
from controlplane.webhooks.mutate import InjectionInputs, PodInjection
from controlplane.webhooks.server import webhook_app
from controlplane.webhooks.unmeshed import UnmeshedPod, UnmeshedPodsMetric, unmeshed_pods
from controlplane.webhooks.validate import ResourceValidation

INJECT: Final = "/inject"
VALIDATE: Final = "/validate"


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """``app`` None: the webhooks are off. ``observers`` are for the source, by kind. ``roots_changed`` must
    be called when the trust bundle has changed."""

    app: ASGIApp | None = None
    unmeshed: Callable[[], Sequence[UnmeshedPod]] = tuple
    observers: Mapping[str, Callable[[Changes], None]] = field(default_factory=dict)
    background_tasks: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    roots_changed: Callable[[], None] = _do_nothing


def make_webhooks(
    api: ClientApi, settings: Settings, store: Store, authority: Authority, registry: CollectorRegistry
) -> Webhooks:
    if settings.ports.webhooks is None:
        return Webhooks()
    objects = ClusterObjects()
    config_file = InjectionConfigFile(settings.injection_config, settings.system_namespace, registry=registry)
    inputs = InjectionInputs(
        config_file=config_file, mesh=settings.mesh, revision=settings.revision, objects=objects
    )
    bundles = CaBundles(api, lambda: authority.trust_bundle_pem, settings.revision, registry=registry)

    def unmeshed() -> Sequence[UnmeshedPod]:
        return unmeshed_pods(inputs)

    registry.register(UnmeshedPodsMetric(unmeshed))
    app = webhook_app(
        {
            INJECT: PodInjection(inputs, api.get, registry=registry),
            VALIDATE: ResourceValidation(store, registry=registry),
        }
    )
    return Webhooks(
        app=app,
        unmeshed=unmeshed,
        observers={
            "Namespace": objects.take_namespaces,
            "Node": objects.take_nodes,
            "Pod": objects.take_pods,
        },
        background_tasks={"injection-config": config_file.run, "ca-bundles": bundles.run},
        roots_changed=bundles.roots_changed,
    )
