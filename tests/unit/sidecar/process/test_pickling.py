"""Configurations cross from one process to another unchanged, in both builds."""

from __future__ import annotations

import pickle

import pytest

from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError
from sidecar.process.pickling import dumps
from tests.support.clusters import at_port, snapshot, static_cluster


def test_a_snapshot_is_the_same_on_the_other_side() -> None:
    sent = snapshot(static_cluster(at_port(80), at_port(81), outlier_detection=None))
    received = pickle.loads(dumps(sent))
    assert isinstance(received, Snapshot)
    assert received == sent


def test_received_values_are_frozen_and_hashable() -> None:
    sent = Endpoint(address=SocketAddress("::1", 80))
    received = pickle.loads(dumps(sent))
    assert hash(received.address) == hash(sent.address)
    with pytest.raises(AttributeError):
        received.address.port = 81


def test_a_value_that_occurs_twice_is_sent_once() -> None:
    address = SocketAddress("192.0.2.1", 80)
    first, second = pickle.loads(dumps((address, address)))
    assert first is second


def test_other_classes_are_pickled_as_they_say() -> None:
    received = pickle.loads(dumps(ConfigError("listener a", "has no address")))
    assert (type(received), str(received)) == (ConfigError, str(ConfigError("listener a", "has no address")))
