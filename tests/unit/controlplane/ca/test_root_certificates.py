"""The ConfigMaps of the trust bundle: when they are written, and when not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from controlplane.ca.root_certificates import RootCertificates
from controlplane.errors import RefusedError, UnreachableError
from controlplane.kubernetes.api import Document
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.list_watch import Timing
from tests.support.fake_kubernetes_api import FakeKubernetesApi

QUICK = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002))
RIGHT: Document = {"metadata": {"name": "outrigger-ca-root-cert"}, "data": {"root-cert.pem": "roots"}}


def namespace_path(name: str) -> str:
    return f"/api/v1/namespaces/{name}"


def config_map_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/outrigger-ca-root-cert"


def cluster_of(*names: str) -> FakeKubernetesApi:
    return FakeKubernetesApi({namespace_path(name): {"metadata": {"name": name}} for name in names})


@asynccontextmanager
async def publishing(api: FakeKubernetesApi) -> AsyncIterator[RootCertificates]:
    certificates = RootCertificates(api, "roots", timing=QUICK, pause_s=0.001)
    running = asyncio.create_task(certificates.run(), name="publish")
    try:
        yield certificates
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def published(api: FakeKubernetesApi, namespace: str) -> str:
    found = api.objects.get(config_map_path(namespace), {})
    return str((found.get("data") or {}).get("root-cert.pem", ""))


async def test_every_namespace_gets_the_roots_once() -> None:
    api = cluster_of("a", "b")
    async with publishing(api):
        await until(lambda: published(api, "a") == published(api, "b") == "roots")
        await api.put(namespace_path("c"), {"metadata": {"name": "c"}})
        await until(lambda: published(api, "c") == "roots")
    posts = [f"POST /api/v1/namespaces/{name}/configmaps" for name in "abc"]
    assert sorted(api.writes) == posts


async def test_a_correct_config_map_is_not_written() -> None:
    api = cluster_of("a", "b")
    await api.put(config_map_path("a"), RIGHT)
    async with publishing(api), publishing(api):
        await until(lambda: published(api, "b"))
        await api.put(namespace_path("a"), {"metadata": {"name": "a", "labels": {"changed": "yes"}}})
        await api.put(namespace_path("z"), {"metadata": {"name": "z"}})
        await until(lambda: published(api, "z"))
    assert sorted(api.writes) == [f"POST /api/v1/namespaces/{name}/configmaps" for name in "bz"]


async def test_other_roots_are_written_everywhere() -> None:
    api = cluster_of("a", "b")
    async with publishing(api) as certificates:
        await until(lambda: published(api, "a") == published(api, "b") == "roots")
        certificates.use("roots and more")
        await until(lambda: published(api, "a") == published(api, "b") == "roots and more")
        await api.put(namespace_path("c"), {"metadata": {"name": "c"}})
        await until(lambda: published(api, "c") == "roots and more")


@pytest.mark.parametrize("data", [None, {}, {"root-cert.pem": "an attacker's"}])
async def test_a_wrong_config_map_is_repaired(data: dict[str, str] | None) -> None:
    api = cluster_of("a")
    await api.put(config_map_path("a"), {**RIGHT, "data": data})
    async with publishing(api):
        await until(lambda: published(api, "a") == "roots")
        await api.put(config_map_path("a"), {**RIGHT, "data": {"root-cert.pem": "", "mine": "x"}})
        await until(lambda: published(api, "a") == "roots")
        assert api.objects[config_map_path("a")]["data"]["mine"] == "x", "keys of other writers stay"
        await api.remove(config_map_path("a"))
        await until(lambda: published(api, "a") == "roots")


async def test_a_namespace_that_is_being_deleted_is_left_alone() -> None:
    ending = {"metadata": {"name": "ending", "deletionTimestamp": "2027-01-01T00:00:00Z"}}
    api = cluster_of("a", "b")
    await api.put(namespace_path("ending"), ending)
    async with publishing(api):
        await until(lambda: published(api, "a") and published(api, "b"))
        await api.put(namespace_path("a"), {"metadata": {**ending["metadata"], "name": "a"}})
        await api.remove(config_map_path("a"))
        await api.remove(config_map_path("b"))
        await until(lambda: published(api, "b"))
    assert not published(api, "a")
    assert not published(api, "ending")


async def test_a_namespace_that_rejects_the_write_is_retried_and_delays_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(FakeKubernetesApi):
        full = True

        async def create(self, path: str, document: Document) -> Document:
            if self.full and "/a/" in path:
                raise RefusedError(403, "exceeded quota: configmaps")
            return await super().create(path, document)

    api = Full(cluster_of("a", "b").objects)
    caplog.set_level(logging.WARNING)
    async with publishing(api):
        await until(lambda: published(api, "b"))
        assert not published(api, "a")
        api.full = False
        await until(lambda: published(api, "a"))
    [warning] = [each.getMessage() for each in caplog.records if "root certificates" in each.getMessage()]
    assert "namespace a: 403: exceeded quota: configmaps" in warning, "logged once for several attempts"


async def test_an_api_server_that_is_busy_is_not_asked_for_every_namespace() -> None:
    class Busy(FakeKubernetesApi):
        asked_for: tuple[str, ...] = ()
        busy = True

        async def create(self, path: str, document: Document) -> Document:
            self.asked_for += (path,)
            if self.busy:
                raise RefusedError(429, "too many requests")
            return await super().create(path, document)

    api = Busy(cluster_of(*"abcdefgh").objects)
    async with publishing(api):
        await until(lambda: len(api.asked_for) >= 3)
        assert set(api.asked_for) == {"/api/v1/namespaces/a/configmaps"}
        api.busy = False
        await until(lambda: all(published(api, name) for name in "abcdefgh"))


async def test_publishing_continues_after_the_api_server_was_unreachable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = cluster_of("a", "b")
    async with publishing(api):
        await until(lambda: published(api, "b"))
        api.failures = [UnreachableError("no route")]
        await api.put(namespace_path("c"), {"metadata": {"name": "c"}})
        await until(lambda: published(api, "c"))
    assert "the root certificates cannot be published: no route" in caplog.text


async def test_a_faster_replica_causes_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    api = cluster_of("a")
    async with publishing(api):
        await until(lambda: published(api, "a"))
        api.failures = [RefusedError(409, "already exists")]
        await api.put(namespace_path("b"), {"metadata": {"name": "b"}})
        await until(lambda: not api.failures)
        await api.put(config_map_path("b"), RIGHT)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
