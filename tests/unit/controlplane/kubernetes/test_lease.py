"""When a candidate can acquire a Lease, and when its holder stops, with clocks that the test controls."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.errors import KubernetesError, RefusedError, UnreachableError
from controlplane.kubernetes.lease import Candidate, Document, Election, LeaseTiming

NOON = datetime(2026, 1, 1, 12, 0, 0, 250, tzinfo=UTC)
TIMING = LeaseTiming()
DEADLINE_S = 5.0


def candidate(identity: str = "me") -> Candidate:
    return Candidate("outrigger-system", "writer", identity, TIMING)


def held_by(holder: str, *, renewed: str = "12:00", duration_s: int = 15, transitions: int = 3) -> Document:
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": duration_s,
        "acquireTime": "11:00",
        "renewTime": renewed,
        "leaseTransitions": transitions,
    }
    return {
        "metadata": {"namespace": "outrigger-system", "name": "writer", "resourceVersion": "7"},
        "spec": spec,
    }


class TestCandidate:
    def test_a_missing_lease_is_claimed_and_created(self) -> None:
        me = candidate()
        me.saw(None, 0.0)
        assert me.may_claim(0.0)
        assert not me.exists
        claim = me.claim(NOON)
        assert claim["metadata"] == {"namespace": "outrigger-system", "name": "writer"}
        assert claim["spec"] == {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T12:00:00.000250Z",
            "renewTime": "2026-01-01T12:00:00.000250Z",
            "leaseTransitions": 0,
        }

    def test_anothers_lease_is_claimed_only_after_its_duration_without_a_renewal(self) -> None:
        me = candidate()
        me.saw(held_by("other"), 100.0)
        assert not me.may_claim(114.9)
        assert me.may_claim(115.0)

    def test_the_duration_counts_from_the_moment_the_renewal_was_seen(self) -> None:
        me = candidate()
        me.saw(held_by("other", renewed="long ago"), 100.0)
        me.saw(held_by("other", renewed="long ago"), 110.0)  # no change
        me.saw(held_by("other", renewed="in the far future"), 112.0)
        assert not me.may_claim(126.9)
        assert me.may_claim(127.0)

    def test_the_duration_is_the_holders(self) -> None:
        me = candidate()
        me.saw(held_by("other", duration_s=60), 100.0)
        assert not me.may_claim(159.0)

    def test_a_released_lease_is_free(self) -> None:
        me = candidate()
        me.saw(held_by(""), 100.0)
        assert me.may_claim(100.0)

    def test_a_takeover_is_a_transition_and_names_the_version_that_was_seen(self) -> None:
        me = candidate()
        me.saw(held_by("other"), 100.0)
        claim = me.claim(NOON)
        assert claim["metadata"]["resourceVersion"] == "7"
        assert claim["spec"]["leaseTransitions"] == 4
        assert claim["spec"]["acquireTime"] == claim["spec"]["renewTime"]

    def test_a_renewal_does_not_count_as_a_transition_and_keeps_the_acquire_time(self) -> None:
        me = candidate()
        me.saw(held_by("me"), 100.0)
        assert me.leads
        claim = me.claim(NOON)
        assert claim["spec"]["leaseTransitions"] == 3
        assert claim["spec"]["acquireTime"] == "11:00"

    def test_a_lease_without_a_spec_is_free(self) -> None:
        me = candidate()
        me.saw({"metadata": {"name": "writer"}}, 0.0)
        assert me.may_claim(0.0)
        assert me.claim(NOON)["spec"]["leaseTransitions"] == 1

    def test_a_released_lease_has_no_holder(self) -> None:
        me = candidate()
        me.saw(held_by("me"), 100.0)
        released = me.release(NOON)
        assert (released["spec"]["holderIdentity"], released["spec"]["leaseTransitions"]) == ("", 3)


class Leases:
    """One Lease, as an API server stores it. Raises the errors in ``fails`` instead."""

    def __init__(self) -> None:
        self.lease: Document | None = None
        self.fails: KubernetesError | None = None
        self.hangs = False
        self.asked = 0

    async def get(self, path: str) -> Document:
        await self._answer()
        if self.lease is None:
            raise RefusedError(404, "not found")
        return self.lease

    async def create(self, path: str, document: Document) -> Document:
        await self._answer()
        if self.lease is not None:
            raise RefusedError(409, "already exists")
        return self._put(document, 1)

    async def replace(self, path: str, document: Document) -> Document:
        await self._answer()
        assert self.lease is not None
        if document["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise RefusedError(409, "the object has been modified")
        return self._put(document, int(self.lease["metadata"]["resourceVersion"]) + 1)

    @property
    def holder(self) -> str | None:
        return self.lease["spec"]["holderIdentity"] if self.lease else None

    def _put(self, document: Document, version: int) -> Document:
        metadata = {**document["metadata"], "resourceVersion": str(version)}
        self.lease = {**document, "metadata": metadata}
        return self.lease

    async def _answer(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails


class Term:
    def __init__(self) -> None:
        self.leading = asyncio.Event()
        self.ended = asyncio.Event()
        self.told: list[bool] = []

    async def lead(self) -> None:
        self.leading.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def election(leases: Leases, term: Term, **timing: float) -> Election:
    quick: dict[str, Any] = {"duration_s": 1.0, "renew_deadline_s": 0.2, "retry_s": 0.01, **timing}
    return Election(
        leases,
        namespace="outrigger-system",
        name="writer",
        timing=LeaseTiming(**quick),
        on_leading=term.told.append,
    )


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await event.wait()


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class TestElection:
    async def test_a_leader_renews_and_gives_back_when_it_is_stopped(self) -> None:
        leases, term = Leases(), Term()
        running = asyncio.create_task(election(leases, term).run(term.lead))
        await until(term.leading)
        assert leases.lease is not None
        acquired = leases.lease["metadata"]["resourceVersion"]
        async with asyncio.timeout(DEADLINE_S):
            while int(leases.lease["metadata"]["resourceVersion"]) < int(acquired) + 3:
                await asyncio.sleep(0)
        assert not term.ended.is_set()
        await stop(running)
        assert term.ended.is_set()
        assert leases.holder == ""
        assert term.told == [True, False]

    @pytest.mark.parametrize("how", ["refuses", "is silent"])
    async def test_a_leader_that_cannot_renew_stops_by_itself(self, how: str) -> None:
        leases, term = Leases(), Term()
        running = asyncio.create_task(election(leases, term).run(term.lead))
        await until(term.leading)
        if how == "refuses":
            leases.fails = UnreachableError("nobody there")
        else:
            leases.hangs = True
        await until(term.ended)
        assert term.told == [True, False]
        leases.hangs = False
        await stop(running)

    async def test_it_leads_again_when_the_api_server_is_back(self) -> None:
        leases, term = Leases(), Term()
        running = asyncio.create_task(election(leases, term).run(term.lead))
        await until(term.leading)
        leases.fails = UnreachableError("nobody there")
        await until(term.ended)
        term.leading.clear()
        leases.fails = None
        await until(term.leading)
        await stop(running)

    async def test_a_leader_that_was_replaced_stops_at_once(self) -> None:
        leases, term = Leases(), Term()
        running = asyncio.create_task(election(leases, term, renew_deadline_s=60.0).run(term.lead))
        await until(term.leading)
        leases.lease = {**held_by("usurper"), "metadata": {"resourceVersion": "99"}}
        await until(term.ended)
        await stop(running)
        assert leases.holder == "usurper"

    async def test_a_failure_of_the_leaders_work_is_raised_and_the_lease_released(self) -> None:
        leases, term = Leases(), Term()

        async def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await election(leases, term).run(fail)
        assert leases.holder == ""

    async def test_a_waiting_candidate_releases_nothing(self) -> None:
        leases, term = Leases(), Term()
        leases.lease = {**held_by("other"), "metadata": {"resourceVersion": "1"}}
        running = asyncio.create_task(election(leases, term).run(term.lead))
        async with asyncio.timeout(DEADLINE_S):
            while leases.asked < 3:
                await asyncio.sleep(0)
        await stop(running)
        assert leases.holder == "other"
        assert term.told == []

    async def test_stopping_does_not_wait_for_an_api_server_that_is_silent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("controlplane.kubernetes.lease._RELEASE_TIMEOUT_S", 0.01)
        leases, term = Leases(), Term()
        running = asyncio.create_task(election(leases, term, renew_deadline_s=60.0).run(term.lead))
        await until(term.leading)
        leases.hangs = True
        async with asyncio.timeout(DEADLINE_S):
            await stop(running)
        assert term.ended.is_set()

    async def test_a_missing_namespace_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        leases, term = Leases(), Term()
        leases.fails = RefusedError(403, 'leases is forbidden in "nowhere"')
        running = asyncio.create_task(election(leases, term).run(term.lead))
        async with asyncio.timeout(DEADLINE_S):
            while leases.asked < 4:
                await asyncio.sleep(0)
        await stop(running)
        assert [record.message for record in caplog.records] == [
            "cannot acquire /apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases/writer: "
            '403: leases is forbidden in "nowhere"'
        ]
