"""What a request's target can carry.

RFC 3986 2: a URI is visible ASCII characters, and whatever else it stands for is the percent-encoded bytes of
its UTF-8 form. Clients encode; proxies compare, and send on, what was sent.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_NEVER_SENT = re.compile(r"[^\x21-\x7e]+")


def as_sent(text: str) -> str:
    """A path, a query or a part of them as requests carry it: ``/d%C3%A9`` for ``/dé``. What may be sent as
    it is stays, a percent sign included."""
    return _NEVER_SENT.sub(lambda found: quote(found[0], safe=""), text)


def never_sent(text: str) -> str:
    """The characters that no target carries, each once."""
    return "".join(dict.fromkeys("".join(_NEVER_SENT.findall(text))))
