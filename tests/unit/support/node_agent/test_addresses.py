"""The addresses of a node's pods."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from tests.support.node_agent.addresses import AddressPool


def test_the_first_two_addresses_are_not_for_pods() -> None:
    pool = AddressPool(IPv4Network("10.244.7.0/24"))
    assert (pool.host, pool.router, pool.take()) == ("10.244.7.1", "10.244.7.2", "10.244.7.3")


def test_an_address_that_was_given_back_comes_last() -> None:
    pool = AddressPool(IPv4Network("10.244.7.0/29"))  # four for pods
    first, second = pool.take(), pool.take()
    pool.give_back(first)
    assert [pool.take() for _ in range(3)] == ["10.244.7.5", "10.244.7.6", first]
    pool.give_back(second)
    assert pool.take() == second


def test_a_subnet_can_be_used_up() -> None:
    pool = AddressPool(IPv4Network("10.244.7.0/24"))
    taken = {pool.take() for _ in range(252)}
    assert len(taken) == 252
    with pytest.raises(IndexError):
        pool.take()
