"""A client of the admin interface of a local proxy, ours or Envoy's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    content_type: str
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int, path: str, method: str = "GET", headers: Mapping[str, str] = {}, *, host: str = "127.0.0.1"
) -> Page:
    """Sends one request on a new connection. Does not follow redirects."""
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        return Page(answer.status, answer.headers.get("content-type", ""), answer.read().decode())
    finally:
        connection.close()
