"""Unsupported kinds that appear and disappear in a cluster. Only their metadata is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import RefusedError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.api import Document
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.list_watch import Timing
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Fault, State
from controlplane.model.store import Store
from controlplane.sources.foreign_kinds import ForeignKinds, Served
from controlplane.sources.foreign_resources import ForeignResources
from tests.support.cluster_objects import crd
from tests.support.fake_kubernetes_api import FakeKubernetesApi

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TIMING = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002))
POLICIES = crd("security.istio.io", "authorizationpolicies", "AuthorizationPolicy")
FILTERS = crd("networking.istio.io", "envoyfilters", "EnvoyFilter")
DENY_ALL = ResourceKey(kind="AuthorizationPolicy", namespace="default", name="deny-all")


def policy_path(name: str = "deny-all") -> str:
    return f"/apis/security.istio.io/v1/namespaces/default/authorizationpolicies/{name}"


def resource(name: str, generation: int = 1) -> Document:
    return {"metadata": {"name": name, "namespace": "default", "generation": generation}}


class World:
    def __init__(self) -> None:
        self.api = FakeKubernetesApi()
        self.store = Store(KINDS)
        self.resources = ForeignResources(CollectorRegistry())
        self.told: list[tuple[ResourceKey, str, bool]] = []
        self._changed = asyncio.Event()
        self.kinds = ForeignKinds(
            self.api,
            self.api,
            self.store,
            self._changed.set,
            self.resources,
            on_metadata=self._note,
            timing=TIMING,
        )

    def _note(self, key: ResourceKey, served: Served, document: Document | None) -> None:
        self.told.append((key, f"{served.api_version}/{served.plural}", document is not None))

    async def install(self, definition: Document) -> None:
        await self.api.put(f"{CRDS}/{definition['metadata']['name']}", definition)

    def counts(self) -> dict[str, int]:
        return {each.kind: each.count for each in self.resources.listing()}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                await asyncio.sleep(0)


@asynccontextmanager
async def following() -> AsyncIterator[World]:
    world = World()
    running = asyncio.create_task(world.kinds.run(), name="foreign-kinds")
    yield world
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_unsupported_restricting_resource_has_a_status() -> None:
    async with following() as world:
        await world.api.put(policy_path(), resource("deny-all", generation=3))
        await world.install(POLICIES)
        await world.until(lambda: world.store.has_news)
        snapshot, change = world.store.build()
        assert not change.configs
        [status] = world.store.statuses()
        assert (status.key, status.state, status.fault) == (DENY_ALL, State.QUARANTINED, Fault.UNSUPPORTED)
        assert status.origin.generation == 3
        assert status.reasons == (
            "kind: AuthorizationPolicy is a kind of Istio that is not supported yet: "
            "it has no effect, and no request is denied",
        )
        assert world.told == [(DENY_ALL, "security.istio.io/v1/authorizationpolicies", True)]
        await world.api.remove(policy_path())
        await world.until(lambda: world.store.has_news)
        assert world.store.build()[0] is snapshot
        assert world.store.statuses() == []
        assert world.told[-1][2] is False


async def test_a_resource_that_restricts_nothing_is_only_counted() -> None:
    async with following() as world:
        await world.install(FILTERS)
        await world.until(lambda: world.counts() == {"EnvoyFilter": 0})
        await world.api.put("/apis/networking.istio.io/v1/namespaces/default/envoyfilters/a", resource("a"))
        await world.until(lambda: world.counts() == {"EnvoyFilter": 1})
        assert not world.store.has_news
        assert world.told == []


async def test_a_kind_whose_crd_is_removed_leaves_nothing() -> None:
    async with following() as world:
        await world.install(POLICIES)
        await world.api.put(policy_path(), resource("deny-all"))
        await world.until(lambda: world.counts() == {"AuthorizationPolicy": 1})
        world.store.build()
        await world.api.remove(f"{CRDS}/{POLICIES['metadata']['name']}")
        await world.until(lambda: world.counts() == {})
        world.store.build()
        assert world.store.statuses() == []
        assert world.told[-1] == (DENY_ALL, "security.istio.io/v1/authorizationpolicies", False)


async def test_supported_kinds_and_other_groups_are_not_followed() -> None:
    async with following() as world:
        await world.install(crd("networking.istio.io", "virtualservices", "VirtualService"))
        await world.install(crd("example.com", "widgets", "Widget"))
        await world.install(crd("notistio.io", "gadgets", "Gadget"))
        await world.install(crd("security.istio.io", "novelties", "Novelty"))
        await world.until(lambda: world.counts() == {"Novelty": 0})


@pytest.mark.parametrize(
    ("group", "plural", "kind"),
    [
        ("networking.istio.io", "virtualservicesets", "VirtualServiceSet"),
        ("networking.istio.io", "services", "Service"),
        ("rbac.istio.io", "authorizationpolicies", "AuthorizationPolicy"),
    ],
)
async def test_a_kind_with_a_similar_name_is_reported_by_its_own_group_and_name(
    group: str, plural: str, kind: str
) -> None:
    """The kind comes from a CRD, so it cannot be a misspelling of a supported kind."""
    async with following() as world:
        await world.install(crd(group, plural, kind))
        await world.api.put(f"/apis/{group}/v1/namespaces/default/{plural}/a", resource("a"))
        await world.until(lambda: world.counts() == {kind: 1})
        assert [each.group for each in world.resources.listing()] == [group]


async def test_a_kind_is_followed_by_a_version_that_is_served() -> None:
    async with following() as world:
        older = crd("security.istio.io", "authorizationpolicies", "AuthorizationPolicy")
        versions = [
            {"name": "v1alpha1", "served": True},
            {"name": "v1beta1", "served": True},
            {"name": "v1", "served": False},
        ]
        older["spec"]["versions"] = versions
        await world.api.put(policy_path(), resource("deny-all"))
        await world.install(older)
        await world.until(lambda: len(world.told) == 1)
        assert world.told[0][1] == "security.istio.io/v1beta1/authorizationpolicies"
        await world.install(POLICIES)
        await world.until(lambda: world.told[-1][1].startswith("security.istio.io/v1/") and world.told[-1][2])
        assert world.counts() == {"AuthorizationPolicy": 1}


@pytest.mark.parametrize("spec", [None, {}, {"group": 7}, {"group": "a.istio.io", "names": {}}])
async def test_a_malformed_crd_is_ignored(spec: object) -> None:
    async with following() as world:
        await world.install({"metadata": {"name": "odd.security.istio.io"}, "spec": spec})
        await world.install(FILTERS)
        await world.until(lambda: world.counts() == {"EnvoyFilter": 0})


async def test_a_definition_that_cannot_be_read_now_is_read_later() -> None:
    async with following() as world:
        await world.until(lambda: world.api.asked == 1)  # the list of them
        world.api.failures += [RefusedError(503, "busy"), RefusedError(403, "forbidden")]
        await world.install(FILTERS)
        await world.until(lambda: world.counts() == {"EnvoyFilter": 0})
        assert not world.api.failures
