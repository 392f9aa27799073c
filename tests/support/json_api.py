"""JSON over HTTP from programs on this machine: cheap enough to be asked again and again while waiting."""

from __future__ import annotations

import json
import urllib.request
from typing import Any, Final

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT_S: Final = 10.0


def get_json(address: str, path: str) -> Any:
    """``address`` is HOST:PORT. Raises ``OSError``, of which any status but 2xx is one."""
    with _DIRECT.open(f"http://{address}{path}", timeout=_TIMEOUT_S) as answer:
        return json.load(answer)
