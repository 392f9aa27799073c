"""The characters of request targets.

RFC 3986 section 2: a URI consists of visible ASCII characters; all others are percent-encoded bytes of UTF-8.
Clients encode; proxies compare and forward the encoded form.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_NEVER_SENT = re.compile(r"[^\x21-\x7e]+")


def as_sent(text: str) -> str:
    """A path, a query or a part of them in encoded form: ``/d%C3%A9`` for ``/dé``. Characters that are valid
    in a URI stay, including the percent sign."""
    return _NEVER_SENT.sub(lambda found: quote(found[0], safe=""), text)


def never_sent(text: str) -> str:
    """The characters that no request target has, each once."""
    return "".join(dict.fromkeys("".join(_NEVER_SENT.findall(text))))
