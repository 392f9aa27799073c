from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.errors import ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.last_good.entry import decode, encode, entry_of
from controlplane.model.last_good import LastGood, Unusable
from controlplane.model.snapshot import ResourceKey
from tests.support.documents import destination, key_of, virtual_service
from tests.support.random_resources import ResourceMaker

ROUTE = virtual_service(
    "reviews", ["reviews"], destination("reviews", "v1"), creationTimestamp="2026-01-01T00:00:00Z"
)
LAST_GOOD = LastGood(
    resource=KINDS.parse(ROUTE),
    since="2026-01-02T00:00:00Z",
    uid="7",
    generation=3,
    faulty_generation=4,
    file="a.yaml",
)
KEY = key_of(ROUTE)


def with_(**changes: object) -> str:
    return json.dumps(json.loads(encode(LAST_GOOD)) | changes)


def resource(**changes: object) -> dict[str, Any]:
    return {**json.loads(encode(LAST_GOOD))["resource"], **changes}


def test_an_encoded_entry_can_be_decoded() -> None:
    assert decode(encode(LAST_GOOD), KEY) == LAST_GOOD


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Namespace"])
def test_a_resource_of_any_kind_is_the_same_when_it_is_read_again(kind: str) -> None:
    pools = {"hosts": ["./*", "other/a.example.com"]} if kind == "Sidecar" else {}
    for seed in range(30):
        spec = ResourceMaker(seed, **pools).spec(KINDS[kind].spec)
        document = {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "spec": spec}
        try:
            good = KINDS.parse({**document, "metadata": {"name": "a", "labels": {"app": "ü"}}})
        except ResourceError:
            continue
        last_good = LastGood(resource=good, since="")
        assert decode(encode(last_good), ResourceKey(kind=kind, namespace="default", name="a")) == last_good


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON: Expecting value"),
        ("{", "not JSON: Expecting property name"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "is not a resource: expected a mapping"),
        (with_(generation="3"), "generation: must be a number"),
        (with_(generation=True), "generation: must be a number"),
        (with_(since=None), "since: must be a string"),
        (with_(resource=[]), "is not a resource: expected a mapping"),
        (with_(resource=resource(metadata={"name": "b"})), "belongs to VirtualService default/b"),
        (with_(resource=resource(kind="Gateway")), "belongs to Gateway default/reviews"),
        (
            with_(resource=resource(apiVersion="networking.istio.io/v9")),
            "apiVersion: 'networking.istio.io/v9'",
        ),
        (with_(resource=resource(spec={"hosts": ["a"], "http": [{}]})), "spec.http[0]"),
        (with_(resource=resource(spec={"hosts": ["a"], "colour": 1})), "spec.colour: unknown field"),
        (with_(resource=resource(spec=None)), "spec"),
    ],
)
def test_a_damaged_entry_has_a_reason(text: str, words: str) -> None:
    found = decode(text, KEY)
    assert isinstance(found, Unusable)
    assert words in found.reason


def test_an_entry_without_its_particulars_is_still_one() -> None:
    found = decode(json.dumps({"resource": entry_of(LAST_GOOD)["resource"]}), KEY)
    assert found == LastGood(resource=LAST_GOOD.resource, since="")
