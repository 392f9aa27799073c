from __future__ import annotations

import pytest

from sidecar.config.route import AppendAction, HeaderOperations, HeaderValue
from sidecar.http.headers import Headers
from sidecar.router.header_operations import compile_header_operations
from sidecar.router.match import RouteTable
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, virtual_host


def put(name: str, value: str, action: AppendAction = AppendAction.APPEND_IF_EXISTS_OR_ADD) -> HeaderValue:
    return HeaderValue(name=name.encode(), value=value.encode(), action=action)


def applied(operations: HeaderOperations, headers: Headers) -> Headers:
    result = list(headers)
    for mutation in compile_header_operations([operations]).request:
        mutation.apply(result)
    return result


@pytest.mark.parametrize(
    ("action", "existing", "expected"),
    [
        (AppendAction.APPEND_IF_EXISTS_OR_ADD, True, [b"old", b"new"]),
        (AppendAction.APPEND_IF_EXISTS_OR_ADD, False, [b"new"]),
        (AppendAction.ADD_IF_ABSENT, True, [b"old"]),
        (AppendAction.ADD_IF_ABSENT, False, [b"new"]),
        (AppendAction.OVERWRITE_IF_EXISTS_OR_ADD, True, [b"new"]),
        (AppendAction.OVERWRITE_IF_EXISTS_OR_ADD, False, [b"new"]),
        (AppendAction.OVERWRITE_IF_EXISTS, True, [b"new"]),
        (AppendAction.OVERWRITE_IF_EXISTS, False, []),
    ],
)
def test_append_actions(action: AppendAction, existing: bool, expected: list[bytes]) -> None:
    headers: Headers = [(b"x", b"old")] if existing else []
    result = applied(HeaderOperations(request_set=(put("x", "new", action),)), headers)
    assert [value for _, value in result] == expected


def test_a_level_removes_before_it_adds() -> None:
    operations = HeaderOperations(request_set=(put("x", "new"),), request_remove=(b"x",))
    assert applied(operations, [(b"x", b"old"), (b"y", b"1")]) == [(b"y", b"1"), (b"x", b"new")]


def test_levels_that_do_nothing_leave_nothing_to_apply() -> None:
    compiled = compile_header_operations([HeaderOperations(), HeaderOperations()])
    assert compiled.request == ()
    assert compiled.response == ()


@pytest.mark.parametrize(("most_specific_wins", "winner"), [(False, b"global"), (True, b"route")])
def test_which_level_has_the_last_word(most_specific_wins: bool, winner: bytes) -> None:
    def level(value: str) -> HeaderOperations:
        return HeaderOperations(response_set=(put("x", value, AppendAction.OVERWRITE_IF_EXISTS_OR_ADD),))

    host = virtual_host(route(prefix(), headers=level("route")), headers=level("host"))
    table = RouteTable(
        configuration(host, headers=level("global"), most_specific_header_mutations_wins=most_specific_wins)
    )
    found = table.match(make_request())
    assert found is not None
    headers: Headers = []
    for mutation in found.headers.response:
        mutation.apply(headers)
    assert headers == [(b"x", winner)]


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ],
)
@pytest.mark.parametrize("action", list(AppendAction))
def test_what_is_a_codecs_to_say_is_left_alone(name: str, action: AppendAction) -> None:
    there: Headers = [(name.encode(), b"5")]
    assert applied(HeaderOperations(request_set=(put(name, "7", action),)), there) == there
    assert applied(HeaderOperations(request_set=(put(name, "7", action),)), []) == []
    assert applied(HeaderOperations(request_remove=(name.encode(),)), there) == there


def test_operations_without_effect_are_logged_and_the_others_are_applied(
    caplog: pytest.LogCaptureFixture,
) -> None:
    operations = HeaderOperations(
        request_set=(put("te", "gzip"), put("x", "new")), request_remove=(b"upgrade", b"y")
    )
    assert applied(operations, [(b"y", b"1")]) == [(b"x", b"new")]
    assert "header operations on te, upgrade have no effect" in caplog.text
