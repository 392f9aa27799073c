"""The seven steps of the demo, with their changes and checks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from outrigger.demo.bookinfo import CALLERS, SERVICE_PORT, Pod, principal
from outrigger.demo.figures import Check, StepFigures, check_no_failures, check_shares
from outrigger.demo.load import Load, Results
from outrigger.demo.mesh import CONTROL_PLANE, Mesh
from outrigger.demo.observe import (
    GrpcCalls,
    Hop,
    RouteShares,
    ejected,
    grpc_calls,
    hops,
    route_shares,
    statuses,
    until,
)

CONVERGENCE_DEADLINE_S = 10.0
RECONNECT_DEADLINE_S = 45.0
REVIEWS = f"reviews.bookinfo.svc.cluster.local:{SERVICE_PORT}"
ROUTE_FILE = "reviews"
FAULTY_POD = "reviews-v1-a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The objects that a step uses. `length_s` is the duration of its measurement."""

    mesh: Mesh
    load: Load
    length_s: float

    async def measure(self, figures: StepFigures, during: Awaitable[None] | None = None) -> Results:
        """Measures the requests that are sent from now on, for `length_s` or until `during` ends, if that is
        later. Checks that no request fails."""
        start_s = time.monotonic()
        if during is not None:
            await during
        await asyncio.sleep(max(start_s + self.length_s - time.monotonic(), 0))
        self.mesh.processes.check()
        await self.load.settled()
        results = self.load.results.since(start_s)
        figures.measure(results)
        figures.checks.append(check_no_failures(results))
        return results

    async def route(self, example: str, expected: RouteShares, figures: StepFigures) -> None:
        """Applies a VirtualService and waits until productpage's sidecar has its routes."""

        async def arrived() -> bool:
            self.mesh.processes.check()
            return await route_shares(self.mesh.client, self.mesh.entry.ports.admin, REVIEWS) == expected

        start_s = time.monotonic()
        self.mesh.apply(example, name=ROUTE_FILE)
        await until(f"{example}.yaml in productpage's sidecar", arrived, deadline_s=CONVERGENCE_DEADLINE_S)
        figures.converged_in_s = time.monotonic() - start_s


Step = Callable[[Stage, StepFigures], Awaitable[None]]


async def all_to_v1(stage: Stage, figures: StepFigures) -> None:
    await _weighted(stage, figures, "reviews-v1", {"v1": 100})


async def canary_90_10(stage: Stage, figures: StepFigures) -> None:
    await _weighted(stage, figures, "reviews-90-10", {"v1": 90, "v2": 10})


async def half_and_half(stage: Stage, figures: StepFigures) -> None:
    await _weighted(stage, figures, "reviews-50-50", {"v1": 50, "v2": 50})


async def _weighted(stage: Stage, figures: StepFigures, example: str, weights: dict[str, int]) -> None:
    await stage.route(example, [weights], figures)
    results = await stage.measure(figures)
    figures.checks.append(check_shares(results.versions(), weights))


async def jason_to_v3(stage: Stage, figures: StepFigures) -> None:
    await stage.route("reviews-jason-v3", [{"v3": 100}, {"v1": 100}], figures)
    results = await stage.measure(figures)
    figures.checks.append(check_shares(results.of("jason").versions(), {"v3": 100}, who="jason"))
    figures.checks.append(check_shares(results.of("").versions(), {"v1": 100}, who="others"))


async def faulty_replica(stage: Stage, figures: StepFigures) -> None:
    """Retries hide the replica's errors from clients, and outlier detection ejects it."""
    await stage.route("reviews-v1-retries", [{"v1": 100}], figures)
    faulty = stage.mesh.pod(FAULTY_POD)
    await stage.mesh.set_fault(faulty, 500)
    try:
        results = await stage.measure(figures, _ejection(stage, faulty, figures))
    finally:
        await stage.mesh.set_fault(faulty, 200)
    figures.checks.append(check_shares(results.versions(), {"v1": 100}))


async def _ejection(stage: Stage, faulty: Pod, figures: StepFigures) -> None:
    async def is_ejected() -> bool:
        return faulty.ports.inbound in await ejected(stage.mesh.client, stage.mesh.entry.ports.admin)

    what = f"outlier detection ejects {faulty.name}"
    try:
        await until(what, is_ejected, deadline_s=CONVERGENCE_DEADLINE_S)
    except TimeoutError as error:
        figures.checks.append(Check(what, ok=False, detail=str(error)))
    else:
        figures.ejected.append(faulty.name)
        figures.checks.append(Check(what, ok=True))


async def control_plane_killed(stage: Stage, figures: StepFigures) -> None:
    """Kills the control plane, restarts it after some time, and waits until all sidecars are connected
    again."""
    mesh = stage.mesh

    async def kill_and_restart() -> None:
        await mesh.processes.kill(CONTROL_PLANE)
        await asyncio.sleep(stage.length_s / 3)
        await mesh.start_control_plane()
        await mesh.control_plane_ready()
        await mesh.all_connected(deadline_s=RECONNECT_DEADLINE_S)

    results = await stage.measure(figures, kill_and_restart())
    figures.checks.append(
        Check(f"all {len(mesh.pods)} sidecars are connected to the new control plane", ok=True)
    )
    figures.checks.append(check_shares(results.versions(), {"v1": 100}))


async def broken_virtual_service(stage: Stage, figures: StepFigures) -> None:
    """The last good configuration stays in force, and the control plane reports the error."""
    mesh = stage.mesh
    found: list[str] = []

    async def quarantined() -> bool:
        for resource in await statuses(mesh.client, mesh.debug_port):
            if resource["kind"] == "VirtualService" and resource["state"] == "QUARANTINED":
                name = f"VirtualService {resource['namespace']}/{resource['name']} ({resource['origin']})"
                found[:] = [f"{name}: {reason}" for reason in resource["reasons"]]
        return bool(found)

    before = await route_shares(mesh.client, mesh.entry.ports.admin, REVIEWS)
    start_s = time.monotonic()
    mesh.apply("reviews-broken", name=ROUTE_FILE)
    await until("the broken VirtualService's status", quarantined, deadline_s=CONVERGENCE_DEADLINE_S)
    figures.converged_in_s = time.monotonic() - start_s
    figures.note = "; ".join(found)
    results = await stage.measure(figures)
    after = await route_shares(mesh.client, mesh.entry.ports.admin, REVIEWS)
    figures.checks += [
        Check("it is quarantined, with the reason", ok=True),
        Check("the routes are as before", after == before, str(after)),
        check_shares(results.versions(), {"v1": 100}),
    ]


async def check_hops(mesh: Mesh) -> list[Check]:
    """Checks for the whole run that every hop between sidecars used mTLS with the expected SPIFFE id of the
    caller."""
    checks = []
    for service, caller in CALLERS.items():
        taken_in: Counter[Hop] = Counter()
        for pod in mesh.pods:
            if pod.service == service:
                taken_in += await hops(mesh.client, pod.ports.admin, service)
        expected = taken_in[Hop(principal(caller), service, "mutual_tls")]
        what = f"{caller} -> {service}: mTLS by {principal(caller)}"
        detail = f"{expected} of {taken_in.total()} requests"
        checks.append(Check(what, 0 < expected == taken_in.total(), detail))
    return checks


async def check_grpc(mesh: Mesh) -> list[Check]:
    """Checks for the whole run that reviews' sidecars hid every failed call of ratings by a retry, and that
    the metrics of both sidecars count calls by status, and messages."""
    sent = await _grpc_calls(mesh, "reviews", "source")
    received = await _grpc_calls(mesh, "ratings", "destination")
    ok, unavailable = received.by_status["0"], received.by_status["14"]
    at_reviews = f"{sent.by_status['0']} of {sent.by_status.total()} calls"
    at_ratings = f"{ok} OK and {unavailable} UNAVAILABLE of {received.by_status.total()} calls"
    return [
        Check("reviews: every gRPC call of ratings is OK", set(sent.by_status) == {"0"}, at_reviews),
        Check("ratings: failed gRPC calls are retried", bool(ok and unavailable), at_ratings),
        Check(
            "ratings: one message in each direction",
            received.requests == received.by_status.total() and received.responses == ok,
            f"{received.requests} received, {received.responses} sent",
        ),
    ]


async def _grpc_calls(mesh: Mesh, service: str, reporter: str) -> GrpcCalls:
    total = GrpcCalls()
    for pod in mesh.pods:
        if pod.service == service:
            total += await grpc_calls(mesh.client, pod.ports.admin, reporter)
    return total


STEPS: tuple[tuple[str, Step], ...] = (
    ("all traffic to reviews v1", all_to_v1),
    ("canary: 90% v1, 10% v2", canary_90_10),
    ("50% v1, 50% v2", half_and_half),
    ("end-user: jason to v3", jason_to_v3),
    ("a replica of v1 answers 500: retried, ejected", faulty_replica),
    ("the control plane is killed, and restarted", control_plane_killed),
    ("a broken VirtualService is applied", broken_virtual_service),
)
