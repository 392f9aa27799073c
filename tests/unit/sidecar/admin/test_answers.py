from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import chain

import pytest

from sidecar.admin.answers import AdminError, json_page, page, wanted_format, wanted_names
from sidecar.http.message import Response


async def body_of(response: Response) -> str:
    assert not isinstance(response.body, bytes)
    pieces = []
    while data := await response.body.read():
        pieces.append(data)
    return b"".join(pieces).decode()


async def test_a_page_ends_where_its_pieces_do_and_not_at_an_empty_one() -> None:
    assert await body_of(page(["", "a", "", "", "b", ""])) == "ab"
    assert await body_of(page([])) == ""
    assert await body_of(page(["", ""])) == ""


@pytest.mark.parametrize("batches", [[], [[]], [[{"a": 1}], [], [{"b": "ü"}, {"c": None}]]])
async def test_batches_become_one_json_array(batches: list[list[dict[str, object]]]) -> None:
    assert json.loads(await body_of(json_page("items", batches))) == {"items": list(chain(*batches))}


async def test_pieces_may_arrive_over_time() -> None:
    async def batches() -> AsyncIterator[list[dict[str, object]]]:
        for number in range(3):
            await asyncio.sleep(0)
            yield [{"n": number}]

    assert json.loads(await body_of(json_page("items", batches()))) == {
        "items": [{"n": 0}, {"n": 1}, {"n": 2}]
    }
    assert await body_of(page(str(batch) async for batch in batches())) == "[{'n': 0}][{'n': 1}][{'n': 2}]"


async def test_others_have_their_turn_while_a_long_page_is_made() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def slow_pieces() -> Iterator[str]:
        clock = asyncio.get_running_loop().time
        for _ in range(10):  # that long nothing is found
            end_s = clock() + 0.006
            while clock() < end_s:
                pass
            yield ""
        yield "found"

    task = asyncio.create_task(other())
    assert await body_of(page(slow_pieces())) == "found"
    task.cancel()
    assert turns >= 10


async def test_a_page_without_a_reader_is_not_generated_further() -> None:
    made = []

    def pieces() -> Iterator[str]:
        for number in range(3):
            made.append(number)
            yield "x"

    response = page(pieces())
    assert not isinstance(response.body, bytes)
    response.body.close()
    assert await response.body.read() == b""
    assert made == []


def test_invalid_parameters_are_refused_with_a_reason() -> None:
    assert wanted_format({}, "text", "json") == "text"
    with pytest.raises(AdminError, match=r"usage: \?format=\(text\|json\), not 'xml'"):
        wanted_format({"format": "xml"}, "text", "json")
    assert wanted_names({}) is None
    pattern = wanted_names({"filter": "b+"})
    assert pattern is not None
    assert pattern.search("abbc")
    with pytest.raises(AdminError, match="Invalid re2 regex: missing"):
        wanted_names({"filter": "("})
