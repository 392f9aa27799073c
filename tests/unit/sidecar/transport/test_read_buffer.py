"""`ReadBuffer`, in each of its implementations."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import pytest

_MODULES = ("sidecar.transport.read_buffer_python", "sidecar.transport._read_buffer")
IMPLEMENTATIONS = [importlib.import_module(name) for name in _MODULES if importlib.util.find_spec(name)]


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda module: module.__name__.rpartition(".")[2])
def module(request: pytest.FixtureRequest) -> ModuleType:
    implementation: ModuleType = request.param
    return implementation


@pytest.mark.parametrize("size", [0, 1, 24, 25, 26, 99, 100])
def test_what_was_taken_does_not_change_with_the_next_read(module: ModuleType, size: int) -> None:
    buffer = module.ReadBuffer(100)
    for byte in (b"a", b"b"):
        with memoryview(buffer.space()) as space:
            space[:size] = byte * size
            taken = buffer.take(size)  # as a transport does: it releases the space later
        if byte == b"a":
            first = taken
    assert (first, taken) == (b"a" * size, b"b" * size)
    assert type(first) is bytes


def test_the_space_has_the_size_of_the_buffer_in_each_read(module: ModuleType) -> None:
    buffer = module.ReadBuffer(100)
    for size in (100, 3, 60):
        with memoryview(buffer.space()) as space:
            assert (len(space), space.readonly) == (100, False)
        buffer.take(size)


@pytest.mark.parametrize("size", [-1, 101])
def test_no_more_is_taken_than_there_is(module: ModuleType, size: int) -> None:
    buffer = module.ReadBuffer(100)
    memoryview(buffer.space()).release()
    with pytest.raises(ValueError, match="not"):
        buffer.take(size)
