from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from sidecar.config.endpoint import WorkloadMetadata
from sidecar.filters.workload_headers import (
    decode_baggage,
    decode_metadata,
    encode_baggage,
    encode_metadata,
)

REVIEWS = WorkloadMetadata(
    name="reviews-v1",
    namespace="bookinfo",
    canonical_name="reviews",
    canonical_revision="v1",
    cluster="Kubernetes",
)


def encoded(document: dict[str, Any]) -> bytes:
    return base64.b64encode(ParseDict(document, Struct()).SerializeToString())


def test_the_header_is_a_struct_in_istios_form() -> None:
    struct = Struct()
    struct.ParseFromString(base64.b64decode(encode_metadata(REVIEWS)))
    assert MessageToDict(struct) == {
        "WORKLOAD_NAME": "reviews-v1",
        "NAMESPACE": "bookinfo",
        "CLUSTER_ID": "Kubernetes",
        "LABELS": {
            "service.istio.io/canonical-name": "reviews",
            "service.istio.io/canonical-revision": "v1",
        },
    }


@pytest.mark.parametrize("workload", [REVIEWS, WorkloadMetadata(), WorkloadMetadata(name="n" * 253)])
def test_what_was_written_is_read(workload: WorkloadMetadata) -> None:
    assert decode_metadata(encode_metadata(workload)) == workload
    assert decode_metadata(encode_metadata(workload).rstrip(b"=")) == workload


def test_the_metadata_of_an_envoy_is_read() -> None:
    document = {
        "NAME": "reviews-v1-abc",
        "NAMESPACE": "bookinfo",
        "OWNER": "kubernetes://apis/apps/v1/namespaces/bookinfo/deployments/reviews-v1",
        "WORKLOAD_NAME": "reviews-v1",
        "CLUSTER_ID": "Kubernetes",
        "APP_CONTAINERS": ["reviews", {"a": 1}],
        "PLATFORM_METADATA": {"a": {"b": {"c": "d"}}},
        "PORT": 9080,
        "IN_USE": True,
        "NOTHING": None,
        "LABELS": {
            "app": "reviews",
            "service.istio.io/canonical-name": "reviews",
            "service.istio.io/canonical-revision": "v1",
        },
    }
    assert decode_metadata(encoded(document)) == REVIEWS


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"!!!",
        b"////",
        base64.b64encode(b"\x0a\x05\x0a"),  # cut off
        base64.b64encode(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x01"),  # a length of 64 bits
        base64.b64encode(b"\x0b"),  # a group
        encoded({"WORKLOAD_NAME": "a\nb"}),
        encoded({"WORKLOAD_NAME": "a" * 254}),
        encoded({"NAMESPACE": "a;b"}),
        b"A" * 8193,
    ],
)
def test_what_is_no_metadata_is_not_believed(value: bytes) -> None:
    assert decode_metadata(value) in (None, WorkloadMetadata())


def test_any_bytes_are_read_without_an_error() -> None:
    rng = random.Random(7)
    whole = base64.b64decode(encode_metadata(REVIEWS))
    for _ in range(3000):
        broken = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        decode_metadata(base64.b64encode(bytes(broken[: rng.randrange(len(broken) + 1)])))


def test_baggage_names_the_workload_too() -> None:
    assert encode_baggage(REVIEWS) == (
        b"k8s.deployment.name=reviews-v1,k8s.cluster.name=Kubernetes,k8s.namespace.name=bookinfo,"
        b"service.name=reviews,service.version=v1"
    )
    assert decode_baggage(encode_baggage(REVIEWS)) == REVIEWS


@pytest.mark.parametrize("value", [b"user=jason", b"", b"\xff", b"k8s.namespace.name=a\x01", b"x" * 8193])
def test_the_applications_own_baggage_names_none(value: bytes) -> None:
    assert decode_baggage(value) is None


def test_baggage_may_have_properties_and_spaces() -> None:
    found = decode_baggage(b"user=jason , k8s.pod.name = a ;p=1, k8s.namespace.name=b")
    assert found == WorkloadMetadata(name="a", namespace="b")
