"""Which series stay, which expire, and how many there may be."""

from __future__ import annotations

from sidecar.observability.request_metrics import ConnectionSeries
from sidecar.observability.series import GONE_SWEEPS, IDLE_SWEEPS, Place, SeriesTable

HERE: Place = ("outbound|80||web", "web;default;web;v1;")
GONE: Place = ("outbound|80||web", "web-old;default;web;v1;")
NOWHERE: Place = ("", "")


def series(place: Place, connections: int = 0) -> ConnectionSeries:
    """Of connections that are closed."""
    return ConnectionSeries({}, place, opened=connections, closed=connections)


def count_connection(counted: ConnectionSeries) -> None:
    counted.opened += 1
    counted.closed += 1


def table(*places: Place, most: int = 100) -> SeriesTable[int, ConnectionSeries]:
    found: SeriesTable[int, ConnectionSeries] = SeriesTable(most)
    for key, place in enumerate(places):
        found.add(key, series(place, connections=1))
    found.sweep([HERE])
    return found


def sweep(found: SeriesTable[int, ConnectionSeries], times: int) -> None:
    for _ in range(times):
        found.sweep([HERE])


def test_a_series_of_a_removed_host_expires_soon_and_others_after_a_long_idle_time() -> None:
    found = table(HERE, GONE, NOWHERE)
    sweep(found, GONE_SWEEPS - 1)
    assert list(found) == [0, 1, 2]
    sweep(found, 1)
    assert list(found) == [0, 2]
    sweep(found, IDLE_SWEEPS - GONE_SWEEPS - 1)
    assert list(found) == [0, 2]
    sweep(found, 1)
    assert not found


def test_an_active_series_stays_after_its_host_was_removed() -> None:
    found = table(GONE)
    for _ in range(3 * GONE_SWEEPS):
        count_connection(found[0])
        sweep(found, 1)
    assert found
    sweep(found, GONE_SWEEPS)
    assert not found


def test_a_series_of_an_open_connection_does_not_expire() -> None:
    found = table(GONE)
    found[0].opened += 1
    sweep(found, 2 * IDLE_SWEEPS)
    assert found
    found[0].closed += 1
    sweep(found, 1 + GONE_SWEEPS)  # its end is the last activity
    assert not found


def test_their_number_is_bounded_and_the_idlest_go_first() -> None:
    found = table(*[HERE] * 10, most=10)
    for key in range(5, 10):
        count_connection(found[key])
    sweep(found, 1)
    found[0].opened += 1
    found.add(10, series(HERE))
    assert len(found) == 10
    assert sorted({*range(10)} - found.keys()) == [1]
    for key in range(11, 1000):
        found.add(key, series(HERE))
        assert len(found) <= 10


def test_a_tenth_goes_at_a_time_so_that_not_each_new_series_sorts_them_all() -> None:
    found = table(*[HERE] * 100)
    found.add(100, series(HERE))
    assert len(found) == 91
