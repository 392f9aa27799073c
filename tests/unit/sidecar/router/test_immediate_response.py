from __future__ import annotations

import pytest

from sidecar.config.route import DirectResponseAction, RedirectAction, RegexRewrite, RouteMatch
from sidecar.router.immediate_response import DirectResponse, Redirect
from tests.support.requests import make_request
from tests.support.routes import exact, prefix

# Each as Envoy 1.40 answers it.
LOCATIONS = [
    (RedirectAction(https_redirect=True), prefix(), "any.org", "/r?x=y", "https://any.org/r?x=y"),
    (RedirectAction(https_redirect=True), prefix(), "any.org:80", "/r", "https://any.org/r"),
    (RedirectAction(https_redirect=True), prefix(), "any.org:8080", "/r", "https://any.org:8080/r"),
    (RedirectAction(https_redirect=True), prefix(), "[::1]:80", "/r", "https://[::1]/r"),
    (RedirectAction(https_redirect=True), prefix(), "[::1]", "/r", "https://[::1]/r"),
    (RedirectAction(host="new.com"), prefix(), "any.org:81", "/r?x=y", "http://new.com/r?x=y"),
    (RedirectAction(port=8443), prefix(), "any.org:81", "/r", "http://any.org:8443/r"),
    (RedirectAction(port=8443), prefix(), "[::1]:81", "/r", "http://[::1]:8443/r"),
    (RedirectAction(path="/np"), prefix(), "any.org", "/r?x=y", "http://any.org/np?x=y"),
    (RedirectAction(path="/np", strip_query=True), prefix(), "any.org", "/r?x=y", "http://any.org/np"),
    (RedirectAction(path="/np?x=1", strip_query=True), prefix(), "any.org", "/r?z", "http://any.org/np?x=1"),
    (RedirectAction(prefix_rewrite="/o"), prefix("/r"), "any.org", "/r/a?z=1", "http://any.org/o/a?z=1"),
    (RedirectAction(prefix_rewrite="/o", strip_query=True), prefix("/r"), "a", "/r/a?z=1", "http://a/o/a"),
    (RedirectAction(prefix_rewrite="/o"), exact("/r"), "any.org", "/r?z=1", "http://any.org/o?z=1"),
    (
        RedirectAction(regex_rewrite=RegexRewrite(pattern="^/r/(.*)$", substitution=r"/x/\1/y")),
        prefix(),
        "any.org",
        "/r/abc?z=1",
        "http://any.org/x/abc/y?z=1",
    ),
    (RedirectAction(scheme="https", host="h", port=444), prefix(), "any.org", "/r", "https://h:444/r"),
]


@pytest.mark.parametrize(("action", "match", "authority", "path", "location"), LOCATIONS)
def test_locations(
    action: RedirectAction, match: RouteMatch, authority: str, path: str, location: str
) -> None:
    request = make_request(path.encode(), authority=authority.encode())
    response = Redirect(action, match).respond(request)
    assert response.headers == [(b"location", location.encode())]
    assert response.status == 301


def test_the_default_port_is_that_of_the_scheme_the_client_used() -> None:
    request = make_request(authority=b"a:443", headers=[(b"x-forwarded-proto", b"https")])
    assert Redirect(RedirectAction(scheme="http"), prefix()).location(request) == b"http://a/"


def test_a_direct_response_has_a_content_type() -> None:
    response = DirectResponse(DirectResponseAction(status=503, body=b"no")).respond(make_request())
    assert (response.status, response.body.whole) == (503, b"no")
    assert response.headers == [(b"content-length", b"2"), (b"content-type", b"text/plain")]


def test_a_direct_response_without_a_body_says_nothing_of_it() -> None:
    assert DirectResponse(DirectResponseAction(status=204)).respond(make_request()).headers == []
