from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from controlplane.networking.build_cache import BuildCache
from controlplane.status.elected import ElectedWriter
from controlplane.status.writer import StatusInputs, StatusTiming
from tests.support.fake_kubernetes_api import FakeKubernetesApi
from tests.support.metrics import MOVED_IN, moved


async def test_the_elected_writer_says_that_it_leads_until_it_ends() -> None:
    api, registry = FakeKubernetesApi(), CollectorRegistry()
    inputs = StatusInputs(
        statuses=list, status_changes=lambda: 0, in_force=lambda key: None, progress=list, cache=BuildCache()
    )
    writer = ElectedWriter(api, "system", inputs, registry=registry, timing=StatusTiming())
    running = asyncio.create_task(writer.run(), name="elected writer")
    async with asyncio.timeout(5):
        while not moved(registry):
            await asyncio.sleep(0)
    assert moved(registry) == MOVED_IN["unit/controlplane/status/test_elected.py"]
    (lease,) = api.objects.values()
    assert lease["spec"]["holderIdentity"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert moved(registry) == set()
    (lease,) = api.objects.values()
    assert not lease["spec"]["holderIdentity"]
