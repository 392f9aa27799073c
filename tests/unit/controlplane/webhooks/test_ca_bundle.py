"""The caBundle of webhook configurations: when it is patched, by one replica and by several."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from controlplane.ca.signer import make_root
from controlplane.errors import RefusedError, UnreachableError
from controlplane.kubernetes.api import Document
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.list_watch import Timing
from controlplane.webhooks.ca_bundle import CaBundles, parse_bundle, wanted_bundle
from tests.support.fake_kubernetes_api import FakeKubernetesApi
from tests.support.metrics import MOVED_IN, moved

QUICK = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002))
GROUP = "/apis/admissionregistration.k8s.io/v1"
MUTATING = f"{GROUP}/mutatingwebhookconfigurations/outrigger-sidecar-injector"
VALIDATING = f"{GROUP}/validatingwebhookconfigurations/outrigger-validator"
OURS, THEIRS, OLD = (make_root(name, time.time())[0].decode() for name in ("ours", "theirs", "old"))


def encoded(*roots: str) -> str:
    return base64.b64encode("".join(roots).encode()).decode()


def configuration(name: str, *bundles: str | None) -> Document:
    return {
        "metadata": {"name": name},
        "webhooks": [
            {"name": f"{number}.outrigger.dev", "clientConfig": {} if each is None else {"caBundle": each}}
            for number, each in enumerate(bundles)
        ],
    }


def bundles(api: FakeKubernetesApi, path: str) -> list[set[str]]:
    return [set(parse_bundle(each["clientConfig"].get("caBundle"))) for each in api.objects[path]["webhooks"]]


class Replica:
    def __init__(self, api: FakeKubernetesApi, *roots: str) -> None:
        self.registry = CollectorRegistry()
        self.roots = roots
        self.now_s = 1000.0
        self.bundles = CaBundles(
            api,
            lambda: self.roots,
            "default",
            registry=self.registry,
            timing=QUICK,
            pause_s=0.001,
            clock=lambda: self.now_s,
        )

    def use(self, *roots: str) -> None:
        self.roots = roots
        self.bundles.roots_changed()


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.bundles.run(), name="ca-bundles") for each in replicas]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def test_missing_roots_are_added_to_those_of_others() -> None:
    assert wanted_bundle((), ("a",), keep_others=True) == ("a",)
    assert wanted_bundle(("b",), ("a",), keep_others=True) == ("a", "b")
    assert wanted_bundle(("b",), ("a",), keep_others=False) == ("a",)


def test_a_right_bundle_is_left_alone_in_any_order() -> None:
    for found in (("a", "b"), ("b", "a")):
        assert wanted_bundle(found, ("a", "b"), keep_others=False) is found
    found = ("b", "a")
    assert wanted_bundle(found, ("a",), keep_others=True) is found


def test_a_bundle_of_others_is_bounded() -> None:
    many = tuple(map(str, range(100)))
    assert wanted_bundle(many, ("a",), keep_others=True) == ("a", *many[:20])
    assert wanted_bundle(("a",), many, keep_others=False) == many


@pytest.mark.parametrize("value", [None, "", "%%%", 7, encoded("no certificate"), encoded(OURS[:200])])
def test_an_invalid_bundle_has_no_roots(value: object) -> None:
    assert parse_bundle(value) == ()


async def test_every_webhook_gets_the_roots_and_is_repaired() -> None:
    missing, broken = configuration("outrigger-sidecar-injector", None, "%%%"), encoded("junk")
    api = FakeKubernetesApi({MUTATING: missing, VALIDATING: configuration("outrigger-validator", broken)})
    replica = Replica(api, OURS)
    async with running(replica):
        await until(
            lambda: bundles(api, MUTATING) == [{OURS}, {OURS}] and bundles(api, VALIDATING) == [{OURS}]
        )
        await api.put(VALIDATING, configuration("outrigger-validator", None))
        await until(lambda: bundles(api, VALIDATING) == [{OURS}])
    assert "webhook_patch_attempts" in moved(replica.registry)


async def test_a_right_bundle_is_not_written() -> None:
    api = FakeKubernetesApi({MUTATING: configuration("outrigger-sidecar-injector", encoded(OURS))})
    async with running(Replica(api, OURS), Replica(api, OURS)):
        await api.put(VALIDATING, configuration("outrigger-validator", None))
        await until(lambda: VALIDATING in api.objects and bundles(api, VALIDATING) == [{OURS}])
    assert api.writes == [f"PATCH {VALIDATING}"]


async def test_replicas_with_different_roots_agree_on_all_of_them_until_they_have_the_same() -> None:
    api = FakeKubernetesApi({MUTATING: configuration("outrigger-sidecar-injector", encoded(OLD))})
    early, late = Replica(api, OLD), Replica(api, OLD)
    async with running(early, late):
        early.use(OURS)
        await until(lambda: bundles(api, MUTATING) == [{OLD, OURS}])
        late.use(OURS)
        await api.put(VALIDATING, configuration("outrigger-validator", None))  # both look again
        await until(lambda: bundles(api, VALIDATING) == [{OURS}])
        assert bundles(api, MUTATING) == [{OLD, OURS}]
        for replica in (early, late):
            replica.now_s += 121
            replica.bundles.roots_changed()
        await until(lambda: bundles(api, MUTATING) == [{OURS}])
    assert api.writes.count(f"PATCH {MUTATING}") == 2


async def test_roots_that_somebody_added_are_removed_after_a_while() -> None:
    api = FakeKubernetesApi({MUTATING: configuration("outrigger-sidecar-injector", encoded(OURS, THEIRS))})
    replica = Replica(api, OURS)
    async with running(replica):
        await api.put(VALIDATING, configuration("outrigger-validator", None))
        await until(lambda: bundles(api, VALIDATING) == [{OURS}])
        assert bundles(api, MUTATING) == [{OURS, THEIRS}]
        replica.now_s += 121
        replica.bundles.roots_changed()
        await until(lambda: bundles(api, MUTATING) == [{OURS}])


async def test_failures_are_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    api = FakeKubernetesApi({MUTATING: configuration("outrigger-sidecar-injector", None)})
    replica = Replica(api, OURS)
    with caplog.at_level(logging.WARNING):
        async with running(replica):
            await until(lambda: bundles(api, MUTATING) == [{OURS}])
            api.failures = [UnreachableError("refused")] * 3 + [RefusedError(403, "forbidden")]
            await api.put(MUTATING, configuration("outrigger-sidecar-injector", None))
            await until(lambda: bundles(api, MUTATING) == [{OURS}])
    assert [each.getMessage() for each in caplog.records] == [
        f"the caBundle of a webhook configuration cannot be patched: outrigger-sidecar-injector: {reason}"
        for reason in ("refused", "403: forbidden")
    ]
    assert moved(replica.registry) == MOVED_IN["unit/controlplane/webhooks/test_ca_bundle.py"]


async def test_a_patch_that_is_always_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    api = FakeKubernetesApi({MUTATING: configuration("outrigger-sidecar-injector", encoded(OURS))})
    async with running(Replica(api, OURS)):
        await api.put(VALIDATING, configuration("outrigger-validator", None))
        await until(lambda: bundles(api, VALIDATING) == [{OURS}])
        api.failures = [RefusedError(422, "clientConfig.url: invalid")] * 3
        await api.put(MUTATING, configuration("outrigger-sidecar-injector", None))
        await until(lambda: bundles(api, MUTATING) == [{OURS}])
    [record] = caplog.records
    assert "outrigger-sidecar-injector: 422: clientConfig.url: invalid" in record.getMessage()


async def test_a_conflict_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    api = FakeKubernetesApi({MUTATING: configuration("outrigger-sidecar-injector", None)})
    async with running(Replica(api, OURS)):
        await until(lambda: bundles(api, MUTATING) == [{OURS}])
        api.failures = [RefusedError(422, "the test failed")]
        await api.put(MUTATING, configuration("outrigger-sidecar-injector", None))
        await until(lambda: not api.failures)
        await api.put(MUTATING, configuration("outrigger-sidecar-injector", None, None))
        await until(lambda: bundles(api, MUTATING) == [{OURS}, {OURS}])
    assert not caplog.records
