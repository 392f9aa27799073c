"""The difference between two pods as an RFC 6902 patch."""

from __future__ import annotations

import jsonpatch

from controlplane.injection.pod import JsonObject


def json_patch(before: JsonObject, after: JsonObject) -> list[JsonObject]:
    """Returns the operations that turn ``before`` into ``after``."""
    return jsonpatch.make_patch(before, after).patch
