"""HTTP manners: bodies that are no AdmissionReviews, and what a webhook's failure means."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from controlplane.webhooks.admission import AdmissionRequest, Answer
from controlplane.webhooks.server import LARGEST_BODY_BYTES, webhook_app

REQUEST: dict[str, Any] = {
    "uid": "705ab4f5",
    "operation": "CREATE",
    "namespace": "bookinfo",
    "kind": {"group": "", "version": "v1", "kind": "Pod"},
    "resource": {"group": "", "version": "v1", "resource": "pods"},
    "object": {"metadata": {"generateName": "reviews-"}},
}


def review(request: object = REQUEST, **changes: object) -> dict[str, Any]:
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request, **changes}


class Recorder:
    """Gives one answer, or raises one error."""

    def __init__(self, answer: Answer | Exception | None = None) -> None:
        self.answer = answer or Answer()
        self.asked: list[AdmissionRequest] = []
        self.errors: list[int] = []

    async def admit(self, request: AdmissionRequest) -> Answer:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def note_error(self, status: int) -> None:
        self.errors.append(status)


def client(webhook: Recorder, body_timeout_s: float = 5.0) -> httpx.AsyncClient:
    app = webhook_app({"/inject": webhook}, body_timeout_s=body_timeout_s)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://webhook")


async def post(
    webhook: Recorder, body: object, content_type: str = "application/json", path: str = "/inject"
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client(webhook) as http:
        return await http.post(path, content=content, headers={"content-type": content_type})


async def test_an_answer_echoes_the_uid_and_the_version() -> None:
    webhook = Recorder()
    response = await post(webhook, review(), "application/json; charset=utf-8")
    assert response.json() == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "705ab4f5", "allowed": True},
    }
    [asked] = webhook.asked
    assert (asked.operation, asked.namespace, asked.kind, asked.resource) == (
        "CREATE",
        "bookinfo",
        "Pod",
        "pods",
    )
    assert asked.object == REQUEST["object"]
    assert webhook.errors == []


async def test_a_patch_is_a_json_patch() -> None:
    operations = [{"op": "add", "path": "/metadata/labels", "value": {}}]
    response = (await post(Recorder(Answer(patch=operations)), review())).json()["response"]
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == operations


async def test_a_refusal_has_words_and_no_patch() -> None:
    refusal = Answer(allowed=False, message="the annotation is wrong", warnings=["look"], patch=[{"op": "x"}])
    assert (await post(Recorder(refusal), review())).json()["response"] == {
        "uid": "705ab4f5",
        "allowed": False,
        "status": {"code": 400, "message": "the annotation is wrong"},
        "warnings": ["look"],
    }


async def test_many_and_long_warnings_are_cut() -> None:
    warnings = (await post(Recorder(Answer(warnings=["w" * 5000] * 40)), review())).json()["response"][
        "warnings"
    ]
    assert len(warnings) == 16
    assert len(warnings[0]) == 1024
    assert warnings[-1] == "and 25 more warnings"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"{}", "application/json-patch+json", 415),
        (b" " * (LARGEST_BODY_BYTES + 1), "application/json", 413),
    ],
)
async def test_bad_requests_get_a_status_and_words(body: bytes, content_type: str, status: int) -> None:
    webhook = Recorder()
    response = await post(webhook, body, content_type)
    assert response.status_code == status
    assert response.text.strip()
    assert (webhook.asked, webhook.errors) == ([], [status])


@pytest.mark.parametrize(
    ("body", "uid", "words"),
    [
        (b"no json", "", "is not JSON"),
        (b"[" * 100_000, "", "is not JSON"),
        (b'{"a": \xff}', "", "is not JSON"),
        ([], "", "is not an AdmissionReview"),
        ({"kind": "Pod"}, "", "is not an AdmissionReview"),
        (review(None), "", "is not an AdmissionReview"),
        (review(kind="PodReview"), "", "is not an AdmissionReview"),
        (
            review(apiVersion="admission.k8s.io/v1beta1"),
            "705ab4f5",
            "'admission.k8s.io/v1beta1' is not supported",
        ),
        (review(apiVersion=None), "705ab4f5", "None is not supported"),
        (review({**REQUEST, "object": None}), "705ab4f5", "lacks one of"),
        (review({**REQUEST, "kind": "Pod"}), "705ab4f5", "lacks one of"),
        (review({**REQUEST, "uid": 7}), "", "lacks one of"),
    ],
)
async def test_a_body_that_is_no_review_is_refused_in_a_review(body: object, uid: str, words: str) -> None:
    webhook = Recorder()
    response = await post(webhook, body)
    assert response.status_code == 200
    answer = response.json()["response"]
    assert (answer["uid"], answer["allowed"]) == (uid, False)
    assert words in answer["status"]["message"]
    assert (webhook.asked, webhook.errors) == ([], [400])


async def test_an_internal_error_refuses_the_object(caplog: pytest.LogCaptureFixture) -> None:
    response = await post(Recorder(RuntimeError("a secret")), review())
    answer = response.json()["response"]
    assert (response.status_code, answer["allowed"], answer["status"]["code"]) == (200, False, 500)
    assert "a secret" not in response.text
    assert "a secret" in caplog.text


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    webhook = Recorder()
    async with client(webhook, body_timeout_s=0.01) as http:
        response = await http.post("/inject", content=slow(), headers={"content-type": "application/json"})
    assert (response.status_code, webhook.errors) == (408, [408])


async def test_the_memory_of_all_bodies_is_bounded() -> None:
    proceed, received = asyncio.Event(), asyncio.Semaphore(0)

    async def held() -> AsyncIterator[bytes]:
        yield b" " * LARGEST_BODY_BYTES
        received.release()
        await proceed.wait()

    webhook = Recorder()
    async with client(webhook) as http:

        async def send(content: object) -> int:
            headers = {"content-type": "application/json"}
            return (await http.post("/inject", content=content, headers=headers)).status_code  # type: ignore[arg-type]

        holding = [asyncio.create_task(send(held())) for _ in range(8)]
        for _ in holding:
            await received.acquire()
        assert await send(json.dumps(review()).encode()) == 200, "slow callers keep out others"
        proceed.set()
        assert await asyncio.gather(*holding) == [408] * 6 + [200] * 2
        assert await send(json.dumps(review()).encode()) == 200


async def test_a_body_gets_a_503_while_others_that_are_complete_need_the_memory() -> None:
    proceed, asked = asyncio.Event(), asyncio.Semaphore(0)

    class Slow(Recorder):
        async def admit(self, request: AdmissionRequest) -> Answer:
            asked.release()
            await proceed.wait()
            return await super().admit(request)

    body = json.dumps(review()).encode().ljust(LARGEST_BODY_BYTES)
    async with client(Slow()) as http:
        sent = [
            asyncio.create_task(
                http.post("/inject", content=body, headers={"content-type": "application/json"})
            )
            for _ in range(3)
        ]
        assert (await sent[2]).status_code == 503
        proceed.set()
        assert [(await each).status_code for each in sent] == [200, 200, 503]


async def test_other_methods_and_paths_are_refused() -> None:
    webhook = Recorder()
    assert (await post(webhook, review(), path="/other")).status_code == 404
    async with client(webhook) as http:
        assert (await http.get("/inject")).status_code == 405
        assert (await http.get("/ready")).text == "ready\n"
