"""Anything that a caller can send gets an AdmissionReview, and is never admitted by an error."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from controlplane.errors import RefusedError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.api import Document
from controlplane.model.store import Store
from controlplane.webhooks.mutate import PodInjection
from controlplane.webhooks.server import webhook_app
from controlplane.webhooks.validate import ResourceValidation
from tests.support.webhooks import cluster_objects, inputs, labelled

NAMES = [
    "metadata",
    "spec",
    "name",
    "namespace",
    "labels",
    "annotations",
    "hosts",
    "http",
    "containers",
    "uid",
]
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["\ud800", "a", "bookinfo", "reviews"]))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), TEXTS), inner, max_size=4),
    ),
    max_leaves=12,
)
OBJECTS = st.fixed_dictionaries({"metadata": JSON, "spec": JSON})
KIND_NAMES = st.one_of(st.sampled_from([*KINDS, "Pod", "EnvoyFilter"]), TEXTS)
GROUPS = st.sampled_from(["networking.istio.io", "security.istio.io", ""])


@st.composite
def reviews(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(KIND_NAMES)
    request = {
        "uid": draw(TEXTS),
        "operation": draw(st.sampled_from(["CREATE", "UPDATE", "DELETE"])),
        "namespace": draw(st.one_of(st.just("bookinfo"), TEXTS)),
        "name": draw(TEXTS),
        "kind": {"group": draw(GROUPS), "version": "v1", "kind": kind},
        "resource": {"group": "", "version": "v1", "resource": "any"},
        "object": draw(st.one_of(OBJECTS, JSON)),
        "oldObject": draw(st.one_of(OBJECTS, JSON)),
    }
    if draw(st.booleans()):
        request[draw(st.sampled_from(sorted(request)))] = draw(JSON)
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def no_namespace(path: str) -> Document:
    raise RefusedError(404, f"{path} not found")


def app() -> Starlette:
    objects = cluster_objects((labelled("bookinfo"),))
    return webhook_app(
        {
            "/inject": PodInjection(inputs(objects), no_namespace, registry=CollectorRegistry()),
            "/validate": ResourceValidation(Store(KINDS), registry=CollectorRegistry()),
        }
    )


APP = app()


async def answers(body: bytes) -> list[dict[str, Any]]:
    transport = httpx.ASGITransport(app=APP)
    async with httpx.AsyncClient(transport=transport, base_url="https://webhook") as http:
        headers = {"content-type": "application/json"}
        found = [await http.post(path, content=body, headers=headers) for path in ("/inject", "/validate")]
    assert [each.status_code for each in found] == [200, 200]
    return [each.json()["response"] for each in found]


@given(reviews())
def test_every_review_gets_an_answer_without_an_internal_error(review: dict[str, Any]) -> None:
    for answer in asyncio.run(answers(json.dumps(review).encode())):
        assert isinstance(answer["allowed"], bool)
        assert answer["allowed"] or answer["status"]["message"]
        assert not answer.get("status", {}).get("message", "").startswith("internal error")


@given(st.one_of(st.binary(min_size=1, max_size=40), JSON.map(lambda value: json.dumps(value).encode())))
def test_every_other_body_is_refused(body: bytes) -> None:
    for answer in asyncio.run(answers(body)):
        assert not answer["allowed"]
